"""Inflict faults on a manager at work, and measure what they cost its users.

Everything is real: a personal HTCondor pool with its condor_shared_port, a manager in a
process of its own, honest workers with a stream of short tasks. Run it as

    ./sandbox/run python benchmarks/faults.py [--only NAME] [--times N] [--quick] [--write]

``--write`` puts the table into docs/reliability.md, which explains the columns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from _faults import bad_clients, bad_luck, table  # noqa: E402, F401
from _faults.registry import FAULTS, Fault, Scale  # noqa: E402
from _faults.stage import Row, Stage, say  # noqa: E402

import vine_sharedport as vine  # noqa: E402


def main() -> int:
    names = [fault.name for fault in FAULTS]
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", metavar="NAME", action="append", choices=names,
                        help=f"this fault; may be given again: {', '.join(names)}")  # fmt: skip
    parser.add_argument("--times", metavar="N", type=int, help="inflict each N times")
    parser.add_argument("--quick", action="store_true", help="smaller numbers, in a minute")
    parser.add_argument("--workers", metavar="N", type=int, help="honest ones (default: 20)")
    parser.add_argument("--system", choices=("taskvine", "work_queue"), default="taskvine")
    parser.add_argument("--json", metavar="FILE", help="write all that was measured")
    parser.add_argument("--write", action="store_true", help="update docs/reliability.md")
    options = parser.parse_args()
    chosen = [fault for fault in FAULTS if not options.only or fault.name in options.only]
    begun = time.monotonic()
    with vine.PersonalPool() as pool:
        rows = [row for tls in (False, True) for row in _run(pool, chosen, tls, options)]
        setting = table.describe(options.system, options.quick)
    print(table.format_table(rows))
    say(f"{time.monotonic() - begun:.0f} s")
    if options.json:
        content = {"setting": setting, "rows": [asdict(row) for row in rows]}
        Path(options.json).write_text(json.dumps(content, indent=1) + "\n")
    if options.write:
        table.write(ROOT / "docs" / "reliability.md", rows, setting)
    return 1 if any(row.failures for row in rows) else 0


def _run(
    pool: object, chosen: list[Fault], tls: bool, options: argparse.Namespace
) -> list[Row]:
    faults = [fault for fault in chosen if fault.tls is tls]
    if not faults:
        return []
    workers = options.workers or (4 if tls or options.quick else 20)
    rows = []
    say(f"starting a manager{' with TLS' if tls else ''} and {workers} workers")
    with Stage(
        pool,
        workers=workers,
        system=options.system,
        tls=tls,
        task_seconds=0.25 if options.quick else 0.5,
    ) as stage:
        for fault in faults:
            times = options.times or (fault.quick_times if options.quick else fault.times)
            if not times:
                continue
            row = Row(fault.name, fault.title)
            say(f"{fault.name} x {times}")
            with contextlib.ExitStack() as stack:
                stack.enter_context(stage.observe(row))
                try:
                    fault.inflict(stage, row, Scale(times, options.quick))
                except (OSError, RuntimeError, vine.SharedPortError) as error:
                    row.failures.append(str(error))
            rows.append(row)
            if row.failures:
                stage.tell_logs()
    return rows


if __name__ == "__main__":
    sys.exit(main())
