"""Tell which tests a change of the test files has lost.

    ./sandbox/run pytest --collect-only -q -n 0 >BEFORE    # and after the change, >AFTER
    python3 tests/compare_ids.py BEFORE AFTER

A test is known by its name and its parameters: it may have moved to any other file.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path


def names(path: str) -> dict[str, list[str]]:
    """Return the files in which each test stands, by the test's name."""
    found = defaultdict(list)
    for line in Path(path).read_text().splitlines():
        file, separator, name = line.partition("::")
        if separator and " " not in file:
            found[name].append(file)
    return found


def main(before: str, after: str) -> int:
    """Print what is lost, and how many are new; return 1 if one is lost."""
    old, new = names(before), names(after)
    lost = Counter({name: len(files) - len(new.get(name, ())) for name, files in old.items()})
    for name in sorted(+lost):
        print(f"lost: {name} (of {', '.join(old[name])})")
    added = sum(max(0, len(files) - len(old.get(name, ()))) for name, files in new.items())
    print(f"{sum(map(len, old.values()))} before, {sum((+lost).values())} lost, {added} new")
    return 1 if +lost else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
