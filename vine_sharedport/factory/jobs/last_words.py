"""What jobs have written: the last words of each, and which files stay.

They are of its launcher, and of the worker itself or a wrapper around it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from dataclasses import dataclass

__all__ = ["KEPT", "LastWords", "OutputFiles", "launcher_line", "parse", "read"]

# Lines that follow one that says why an attempt has failed (backoff.c, dial.c).
_TELLS_NOTHING = re.compile("vine_sharedport: (still so; )?trying again|.*: the same$")
# Of shim and relay, when they have reached the manager.
_CONNECTED = re.compile(r"vine_sharedport: .*\bconnected to manager ")
_OURS = "vine_sharedport:"
# How a worker says why it ends by itself, with status 0: too little disk, a wrong password.
_COMPLAINT = re.compile(r"(vine|work_queue)_worker: ")

# Characters of a line that are told, and bytes of a file that are looked at.
_LONGEST = 300
_LOOKED_AT = 8192

KEPT = 100
"""Jobs whose files stay: so many that failed, and so many others."""

_SUFFIXES = (".out", ".err")


@dataclass(frozen=True)
class LastWords:
    """The end of a job's ``.err`` file, or of its ``.out`` where that tells nothing.

    Attributes:
        is_known: Whether there is an ``.err`` file.
        launcher: The last line of the launcher, shim or relay that tells something.
        own: The last line of the worker, or of a wrapper around it.
        was_connected: It has reached the manager, and the worker complained of nothing since.
    """

    is_known: bool = False
    launcher: str | None = None
    own: str | None = None
    was_connected: bool = False


def launcher_line(text: str) -> str | None:
    """Return the last line of the launcher that tells something."""
    lines = [line for line in text.splitlines() if line.startswith(_OURS)]
    telling = [line for line in lines if not _TELLS_NOTHING.match(line)]
    return telling[-1][:_LONGEST] if telling else None


def parse(err: str, out: str = "") -> LastWords:
    """Return what the ends of the two files tell."""
    lines = [line.rstrip() for line in err.splitlines() if line.strip()]
    own = [number for number, line in enumerate(lines) if not line.startswith(_OURS)]
    reached = [number for number, line in enumerate(lines) if _CONNECTED.match(line)]
    complaints = [number for number, line in enumerate(lines) if _COMPLAINT.match(line)]
    printed = [line.rstrip() for line in out.splitlines() if line.strip()]
    said = lines[own[-1]] if own else (printed[-1] if printed else None)
    return LastWords(
        True,
        launcher_line(err),
        said and said[:_LONGEST],
        bool(reached) and not (complaints and complaints[-1] > reached[-1]),
    )


def read(directory: str, id: str) -> LastWords:
    """Return what a job's files in this directory tell."""
    path = os.path.join(directory, id)
    try:
        return parse(_end_of(f"{path}.err"), _end_of(f"{path}.out", missing_ok=True))
    except OSError:
        return LastWords()


def _end_of(path: str, *, missing_ok: bool = False) -> str:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _LOOKED_AT))
            return file.read(_LOOKED_AT).decode(errors="replace")
    except OSError:
        if missing_ok:
            return ""
        raise


class OutputFiles:
    """The files of jobs that have ended: kept of those that failed and of the last others.

    Each worker leaves two, and a factory with short tasks has thousands of workers a day.

    Args:
        directory: Where they are.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._kept: dict[bool, deque[str]] = {True: deque(), False: deque()}

    def ended(self, id: str, *, failed: bool) -> None:
        """Keep a job's files, and remove those of the oldest of its kind above the limit."""
        kept = self._kept[failed]
        if id not in kept:
            kept.append(id)
        while len(kept) > KEPT:
            oldest = kept.popleft()
            for suffix in _SUFFIXES:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self._directory, oldest + suffix))
