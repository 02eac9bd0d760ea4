#!/usr/bin/env python3
"""Fuzz the decoders and the endpoint: ``python tests/fuzz/run.py [--seconds 60] [NAME ...]``.

Needs Atheris (``pip install atheris``). An input that crashes a target is written to the
target's corpus, where ``test_corpus.py`` runs it from then on; keep it with the fix.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.fuzz.harness import CORPUS, names  # noqa: E402  # after the path is set

MOST_BYTES = {"endpoint": 128, "gate_client": 128, "gate_server": 128}


def main() -> int:
    """Return 0 if nothing was found."""
    parser = argparse.ArgumentParser(description="Fuzz the decoders and the endpoint.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names()))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--parallel", type=int, default=2, help="targets at once (2)")
    parser.add_argument(
        "--keep", action="store_true", help="add the inputs that reach new code to the corpus"
    )
    arguments = parser.parse_args()
    for name in set(arguments.names) - set(names()):
        parser.error(f"no target {name!r}; choose from {', '.join(names())}")
    with ThreadPoolExecutor(arguments.parallel) as pool:
        verdicts = list(
            pool.map(
                lambda name: fuzz(name, arguments.seconds, keep=arguments.keep),
                arguments.names or names(),
            )
        )
    return 0 if all(verdicts) else 1


def fuzz(name: str, seconds: int, *, keep: bool) -> bool:
    """Fuzz one target; whether nothing was found."""
    corpus = CORPUS / name
    with tempfile.TemporaryDirectory(prefix="vine-fuzz-") as new:
        result = harness(
            name,
            new,  # the first takes what is found, the others are only read
            str(corpus),
            f"-max_total_time={seconds}",
            f"-max_len={MOST_BYTES.get(name, 1024)}",
            "-timeout=20",
            "-rss_limit_mb=2048",
            f"-artifact_prefix={corpus}/",
        )
        lines = result.stdout.splitlines()
        last = next((line for line in reversed(lines) if line.startswith("Done ")), "")
        print(f"{name}: {last or f'FOUND SOMETHING (status {result.returncode})'}", flush=True)
        if result.returncode:
            print(result.stdout[-6000:], flush=True)
            return False
        if keep:
            harness(name, "-merge=1", str(corpus), new)
    return True


def harness(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Atheris with a target in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz.harness", name, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        cwd=ROOT, env=dict(os.environ, PYTHONPATH=str(ROOT)), check=False,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
