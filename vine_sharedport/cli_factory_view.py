"""The live view of a factory in a terminal, by ``rich``."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from vine_sharedport.factory.report import Snapshot, format_age, headline, rows

__all__ = ["make_view"]

_COLOURS = {
    "idle": "yellow",
    "running": "blue",
    "connected": "green",
    "held": "red",
    "ended": "dim",
    "removed": "dim",
}
_JOBS = 20


def make_view(snapshot: Snapshot) -> Any:
    """Return what ``rich`` prints."""
    now = time.time()
    summary = Table.grid(padding=(0, 2))
    for name, text in rows(snapshot):
        summary.add_row(Text(name, style="bold"), Text(text))
    parts: list[Any] = [summary]
    for problem in snapshot.problems:
        parts.append(Text(f"{problem.cause}: {problem.explanation}", style="red"))
        parts.append(
            Text(f"  {'repaired' if problem.repaired else 'remedy'}: {problem.remedy}")
        )
    if snapshot.jobs:
        table = Table(box=None, padding=(0, 2))
        for name in ("job", "state", "for", "host", ""):
            table.add_column(name, no_wrap=name != "")
        order = {state: number for number, state in enumerate(("held", "running", "idle"))}
        chosen = sorted(snapshot.jobs, key=lambda j: (order.get(j.state, 3), -j.since))
        for job in chosen[:_JOBS]:
            table.add_row(
                job.id,
                Text(job.state, style=_COLOURS.get(job.state, "")),
                format_age(now - job.since),
                job.host or "",
                Text(" - ".join(filter(None, (job.reason, job.last_line)))),
            )
        if len(chosen) > _JOBS:
            table.add_row(Text(f"and {len(chosen) - _JOBS} more", style="dim"))
        parts.append(table)
    return Panel(Group(*parts), title=Text(headline(snapshot)), title_align="left")
