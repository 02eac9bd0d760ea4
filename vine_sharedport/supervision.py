"""What all have in common who watch over processes: who is who, who has ended, when to restart.

The isolated processes have this module too, so it imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "PR_SET_CHILD_SUBREAPER",
    "PR_SET_PDEATHSIG",
    "Process",
    "Restarts",
    "all_parents",
    "descendants",
    "find_process",
    "is_alive",
    "isolated_command",
    "open_pidfd",
    "package_command",
    "prctl",
    "send_signal",
    "with_descendants",
    "without_working_directory",
]

# <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class Process(NamedTuple):
    """One process; the start time tells it from a later one with its pid.

    Attributes:
        pid: Its number.
        start: Clock ticks since boot, field 22 of ``/proc/PID/stat``.
    """

    pid: int
    start: int

    def __str__(self) -> str:
        """Return it as an argument, for ``parse``."""
        return f"{self.pid}:{self.start}"

    @classmethod
    def parse(cls, text: str) -> Process:
        """Return the process of a text.

        Raises:
            ValueError: It is none.
        """
        pid, start = text.split(":")
        return cls(int(pid), int(start))


def find_process(pid: int) -> Process | None:
    """Return the process that has this pid now, None without one (or a zombie)."""
    fields = _stat_fields(pid)
    return None if fields is None else Process(pid, int(fields[19]))


def is_alive(process: Process) -> bool:
    """Whether this very process still runs."""
    return find_process(process.pid) == process


def all_parents() -> dict[int, int]:
    """Return the parent of each visible process that has not ended."""
    found = {}
    for name in os.listdir("/proc"):
        fields = _stat_fields(int(name)) if name.isdigit() else None
        if fields is not None:
            found[int(name)] = int(fields[1])
    return found


def descendants(ancestor: int) -> list[Process]:
    """Return the processes below this one."""
    return [p for p in with_descendants({ancestor}, all_parents()) if p.pid != ancestor]


def with_descendants(members: Collection[int], parents: dict[int, int]) -> list[Process]:
    """Return these processes and all below them, the calling one left out."""
    found, grown = set(members), True
    while grown:
        below = {pid for pid, parent in parents.items() if parent in found}
        grown = not below <= found
        found |= below
    processes = (find_process(pid) for pid in sorted(found - {os.getpid()}))
    return [process for process in processes if process is not None]


def open_pidfd(pid: int) -> int | None:
    """Return a descriptor that is readable when the process has ended.

    None where Python or the kernel has none (Linux 5.3). Close-on-exec, the caller's.

    Raises:
        ProcessLookupError: It has ended.
    """
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):
        return None


def send_signal(process: Process, number: int) -> bool:
    """Send a signal to this very process; False if it has ended.

    With a pidfd its number cannot go to another process between check and signal.
    """
    with contextlib.ExitStack() as stack:
        try:
            fd = open_pidfd(process.pid)
            if fd is not None:
                stack.callback(os.close, fd)
            if not is_alive(process):
                return False
            if fd is not None:
                signal.pidfd_send_signal(fd, number)
            else:
                os.kill(process.pid, number)
        except ProcessLookupError:
            return False
    return True


class Restarts:
    """The pauses before a process is started again that ends too early.

    Args:
        first: Seconds of the first pause; each further one is twice as long.
        last: Seconds of the longest.
        settled: Seconds after which an end is none that came too early.
    """

    def __init__(self, first: float, last: float, *, settled: float) -> None:
        self._first, self._last, self._settled = first, last, settled
        self.pause = 0.0

    def ended(self, age: float) -> None:
        """Set the pause after an end, so many seconds after the start and with its pause."""
        longer = min(max(2 * self.pause, self._first), self._last)
        self.pause = 0.0 if age - self.pause > self._settled else longer


def isolated_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module's ``main()`` with nothing of the user's Python.

    It has the standard library and this package, none of the environment's settings and no
    site packages.
    """
    program = (
        "import sys; sys.path.append(sys.argv.pop(1)); "
        f"from {module} import main; sys.exit(main())"
    )
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return [sys.executable, "-I", "-S", "-c", program, root, *arguments]


def package_command() -> list[str]:
    """Return the command that runs ``vine_sharedport``, its words to be added.

    It has the user's site packages and variables, and the working directory not on its path,
    as it would by ``python -m``. ``python -P`` came with Python 3.11, and ``-I`` leaves out
    what is installed for the user alone.
    """
    root = os.path.dirname(os.path.abspath(__file__))
    return [sys.executable, os.path.join(root, "__main__.py")]


def without_working_directory(environment: Mapping[str, str]) -> dict[str, str]:
    """Return it without a ``PYTHONPATH`` that has the working directory, also by an empty item.

    What is relative becomes absolute.
    """
    found = dict(environment)
    path = found.pop("PYTHONPATH", "")
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # it was removed
        here = ""
    places = [
        os.path.join(here, place) if here else place
        for place in path.split(os.pathsep)
        if place and (os.path.isabs(place) or here)
    ]
    places = [place for place in places if os.path.realpath(place) != here]
    if places:
        found["PYTHONPATH"] = os.pathsep.join(places)
    return found


def prctl(option: int, value: int) -> None:
    """Call prctl(2)."""
    # int prctl(int option, unsigned long arg2, ...);
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    libc.prctl.restype = ctypes.c_int
    if libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def _stat_fields(pid: int) -> list[str] | None:
    """Return the fields of ``/proc/PID/stat`` from the third (state) on; None for a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The second is the name in parentheses, which may contain anything.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields
