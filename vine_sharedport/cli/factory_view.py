"""The live view of a factory: in a terminal in place, by ``rich`` if it is there."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import time
from typing import Any, Callable

from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.snapshot import Snapshot
from vine_sharedport.factory.report.staleness import marked_if_stale
from vine_sharedport.factory.report.text import format_age, headline, rows

__all__ = ["make_view", "watch"]

_Show = Callable[[Snapshot], None]

_COLOURS = {
    "idle": "yellow",
    "running": "blue",
    "connected": "green",
    "silent": "magenta",
    "suspended": "magenta",
    "held": "red",
    "ended": "dim",
    "removed": "dim",
}
_FIRST = ("held", "suspended", "silent", "running", "idle")
_JOBS = 20


def watch(directory: str, interval: float) -> bool:
    """Show a factory's status again and again, until it has ended or Ctrl-C comes.

    Returns:
        False if its process is gone without having said that it ends.
    """
    with contextlib.ExitStack() as stack:
        # Whoever ends us gets the terminal back as it was.
        before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        stack.callback(signal.signal, signal.SIGTERM, before)
        show = _choose_view(stack)
        try:
            while True:
                # In this order: what is read after the end is the last that it has written.
                running = paths.is_running(directory)
                snapshot = paths.read_status(directory)
                show(marked_if_stale(snapshot, directory) if running else snapshot)
                if snapshot.state == "ended" or running is False:
                    return snapshot.state == "ended"
                time.sleep(interval)
        except KeyboardInterrupt:
            if sys.stdout.isatty():
                print()  # after ^C
            return True


def _choose_view(stack: contextlib.ExitStack) -> _Show:
    """Return what shows a status; what it needs ends with the stack."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return _Lines().show
    try:
        from rich.live import Live
    except ImportError:
        return _Frame().show
    live = stack.enter_context(Live(auto_refresh=False, screen=False))
    return lambda snapshot: live.update(make_view(snapshot), refresh=True)


class _Lines:
    """For a file or a pipe: the status whenever there is something new in it."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None

    def show(self, snapshot: Snapshot) -> None:
        if self._last is None or snapshot != dataclasses.replace(
            self._last, time=snapshot.time
        ):
            print(f"{snapshot}\n", flush=True)
        self._last = snapshot


class _Frame:
    """For a terminal: each status in the place of the one before.

    Written at once and over what is there, so nothing flickers; the cursor is never hidden,
    so nothing has to bring it back.
    """

    def __init__(self) -> None:
        self._last: list[str] = []

    def show(self, snapshot: Snapshot) -> None:
        columns, height = os.get_terminal_size(sys.stdout.fileno())
        columns, height = columns or 80, height or 24
        # Longer or more lines would make the terminal scroll, and the place unknown. In the
        # last column the cursor stands on the letter that it has written, and erases it.
        lines = [_printable(line)[: columns - 1] for line in str(snapshot).splitlines()]
        lines = lines[: height - 1]
        # In a terminal that is narrower by now the last ones take more lines.
        up = sum(max(1, -(-len(line) // columns)) for line in self._last)
        move = f"\x1b[{up}A" if up else ""
        sys.stdout.write(move + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
        sys.stdout.flush()
        self._last = lines


def _printable(line: str) -> str:
    """Return a line without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def make_view(snapshot: Snapshot) -> Any:
    """Return what ``rich`` prints."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    now = time.time()
    summary = Table.grid(padding=(0, 2))
    for name, text in rows(snapshot, now):
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
        order = {state: number for number, state in enumerate(_FIRST)}
        chosen = sorted(
            snapshot.jobs, key=lambda j: (order.get(j.state, len(_FIRST)), -j.since)
        )
        for job in chosen[:_JOBS]:
            table.add_row(
                job.id,
                Text(job.state, style=_COLOURS.get(job.state, "")),
                format_age(now - job.since),
                job.host or "",
                Text(" - ".join(filter(None, (job.reason, job.last_line)))),
            )
        if len(chosen) + snapshot.jobs_left_out > _JOBS:
            more = len(chosen) + snapshot.jobs_left_out - min(_JOBS, len(chosen))
            table.add_row(Text(f"and {more} more", style="dim"))
        parts.append(table)
    return Panel(Group(*parts), title=Text(headline(snapshot)), title_align="left")
