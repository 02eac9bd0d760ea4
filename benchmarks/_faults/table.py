"""The table, as Markdown, and its place in the documentation."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path

from _faults.stage import Row

_BEGIN = "<!-- begin: written by benchmarks/faults.py --write -->"
_END = "<!-- end -->"


def describe(system: str, quick: bool) -> str:
    """Return a sentence about what ran where."""
    condor = _first_line("condor_version").replace("$CondorVersion: ", "").split()[0]
    program = "vine_worker" if system == "taskvine" else "work_queue_worker"
    cctools = _first_line(program, "--version").split("version ")[-1].split()[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    what = "TaskVine" if system == "taskvine" else "Work Queue"
    size = " Shortened (`--quick`)." if quick else ""
    return (
        f"{datetime.now(timezone.utc):%Y-%m-%d}: HTCondor {condor}, {what} of cctools {cctools}, "
        f"Python {platform.python_version()}, Linux {platform.release().split('-')[0]} "
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores shared by everything here, "
        f"{memory:.0f} GiB.{size}"
    )


def format_table(rows: list[Row]) -> str:
    """Return the table."""
    lines = [
        "| fault | tried | loop held, s | of it no processor, s | longest without a task's end, s "
        "| tasks done | workers lost | tasks lost | leaked | new worker's first task after, s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        if row.skipped:
            lines.append(f"| {row.title} | {row.skipped} |" + " |" * 8)
            continue
        leaked = ", ".join(f"{count} {name}" for name, count in row.leaked.items()) or "0"
        way_in = f"{max(row.ways_in):.1f}" if row.ways_in else ""
        lines.append(
            f"| {row.title} | {row.tried} | {row.held:.2f} | {row.no_processor:.2f} "
            f"| {row.pause:.2f} | {row.tasks} | {row.workers_lost} | {row.tasks_lost} "
            f"| {leaked} | {way_in} |"
        )
    return "\n".join(lines)


def write(page: Path, rows: list[Row], setting: str) -> None:
    """Put the table between the marks in the page."""
    text = page.read_text()
    content = f"{_BEGIN}\n\n{setting}\n\n{format_table(rows)}\n\n{_END}"
    new, count = re.subn(
        f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", lambda _: content, text, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"{page} has {count} places between {_BEGIN} and {_END}, not one")
    page.write_text(new)


def _first_line(*command: str) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=30
    ).stdout.splitlines()[0]
