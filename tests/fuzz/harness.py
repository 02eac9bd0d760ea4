"""Run one target under Atheris: ``python -m tests.fuzz.harness NAME [libFuzzer's arguments]``.

A file instead of a directory is run once: that is how to look at a crash.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def names() -> list[str]:
    """Return the targets: what stands in ``fuzz_NAME.py``."""
    return sorted(path.stem[5:] for path in Path(__file__).parent.glob("fuzz_*.py"))


def target(name: str) -> Callable[[bytes], None]:
    """Return what runs one input of a target, and raises when it finds something."""
    one_input: Callable[[bytes], None]
    one_input = importlib.import_module(f".fuzz_{name}", __package__).one_input
    return one_input


def main() -> None:
    """Hand over to libFuzzer, which ends the process."""
    import atheris

    with atheris.instrument_imports(include=["vine_sharedport"]):
        one_input = target(sys.argv.pop(1))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
