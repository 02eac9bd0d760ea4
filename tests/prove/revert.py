#!/usr/bin/env python3
"""Take back each mend of the tables in turn, and see its tests fail.

    ./sandbox/run python tests/prove/revert.py [--list] [WORD...]

With words only those mends whose names have one of them. The files are put back at once;
they must be as they are committed. Exit status 1 if a test passes without its mend.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.prove import directories, jobs
from tests.prove.mend import ROOT, Mend

TABLES = (directories, jobs)
MENDS = [mend for table in TABLES for mend in table.MENDS]

# pytest's exit status when tests were run and some failed.
_FAILED = 1


def is_red(mend: Mend, *, timeout: float = 600.0) -> tuple[bool, str]:
    """Run a mend's tests without it; return whether each of them failed, and the output."""
    path = ROOT / mend.file
    content = path.read_bytes()
    path.write_text(mend.without())
    said = []
    try:
        for test in mend.tests:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-n", "0", "-x", *test.split()],
                cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False,
            )  # fmt: skip
            said.append(done.stdout[-2000:] + done.stderr[-500:])
            if done.returncode != _FAILED:
                return False, "\n".join(said)
    finally:
        path.write_bytes(content)
    return True, "\n".join(said)


def main() -> int:
    """Go through the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--list", action="store_true", help="print the mends and end")
    options = parser.parse_args()
    chosen = [
        mend for mend in MENDS
        if not options.words or any(word in mend.name for word in options.words)
    ]  # fmt: skip
    green = 0
    for mend in chosen:
        if options.list:
            print(f"{mend.name}: {mend.file}: {' '.join(mend.tests)}")
            continue
        red, said = is_red(mend)
        print(f"{'red  ' if red else 'GREEN'} {mend.name}", flush=True)
        if not red:
            green += 1
            print(said)
    return 1 if green else 0


if __name__ == "__main__":
    sys.exit(main())
