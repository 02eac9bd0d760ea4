"""The managers that run here, and the commands that lead a factory to one of them."""

from __future__ import annotations

import contextlib
import glob
import os
import shlex
import sys
from collections.abc import Iterable

from vine_sharedport.errors import SharedPortError
from vine_sharedport.link.endpoint import is_served
from vine_sharedport.link.porter_handle import find_porters
from vine_sharedport.link.run_file import RUN_FILE, Run, read_run_file
from vine_sharedport.pool.discovery import discover

__all__ = [
    "by_address",
    "by_name",
    "called",
    "is_typed",
    "names_here",
    "runs_elsewhere",
    "runs_here",
    "typed",
]

# Where any manager that was started in a directory has the files of its run.
_RUNS = {"taskvine": os.path.join("*", "*", "vine-logs"),
         "work_queue": os.path.join("work-queue-run-info", "*")}  # fmt: skip

# The options that say which manager is meant; each has a value.
_NAMES = ("-M", "-N", "--manager-name", "--master-name")
_PLACES = ("--address", "--secret-file")


def runs_here(system: str, base: str = "", *, ended: bool = False) -> list[Run]:
    """Return the managers that run in or below a directory, the last one first.

    Args:
        system: taskvine or work_queue.
        base: The directory; the present one by default.
        ended: Also those that run no more; nobody is asked.
    """
    pattern = os.path.join(glob.escape(base), _RUNS[system], RUN_FILE)
    # TaskVine's link most-recent leads to one of the others.
    paths = {os.path.realpath(path) for path in glob.glob(pattern)}
    alive: dict[str, Run] = {}
    for path in sorted(paths, key=_age):
        run = read_run_file(path)
        # A manager with a name of its own has the socket of those that ran before it.
        if run is None or run.socket in alive:
            continue
        with contextlib.suppress(SharedPortError):  # another user's
            if ended or is_served(run.socket):
                alive[run.socket] = run
    return list(alive.values())


def _age(path: str) -> tuple[float, str]:
    """Return a key that sorts the newest file first."""
    with contextlib.suppress(OSError):
        return -os.stat(path).st_mtime, path
    return 0.0, path


def runs_elsewhere(system: str) -> list[tuple[Run, str]]:
    """Return this user's managers on this host, and where each was started.

    By their porters, whose parents they are. For a message: nothing depends on it.
    """
    found = {}
    for sock_id, manager in find_porters():
        with contextlib.suppress(OSError):
            directory = os.readlink(f"/proc/{manager}/cwd")
            for run in called(sock_id, runs_here(system, directory)):
                found[run.socket] = (run, directory)
    return list(found.values())


def called(name: str, runs: Iterable[Run]) -> list[Run]:
    """Return those that have this name, or sock id."""
    return [run for run in runs if name in (run.name, run.sock_id)]


def names_here(system: str) -> list[str]:
    """Return the names of the managers that run in or below the present directory."""
    return list(dict.fromkeys(run.name or run.sock_id for run in runs_here(system)))


def typed(*more: str, without: Iterable[str] = ()) -> str:
    """Return the command that has started this factory, with some more words.

    In a program it is a command with these words alone.

    Args:
        more: Words to add.
        without: Options to leave out; each has a value.
    """
    kept: list[str] = []
    left_out = tuple(without)
    words = iter(_words())
    for word in words:
        if word in left_out:
            next(words, None)
        elif not word.startswith(tuple(f"{option}=" for option in left_out)):
            kept.append(word)
    return shlex.join(["vine_sharedport", "factory", *kept, *more])


def is_typed() -> bool:
    """Whether somebody has typed the command that this process is."""
    return bool(_words())


def _words() -> list[str]:
    """Return the words after ``vine_sharedport factory`` that this process was started with."""
    program, *words = sys.argv or [""]
    ours = os.path.basename(program) in ("vine_sharedport", "__main__.py")
    if not ours or "factory" not in words:
        return []
    words = words[words.index("factory") + 1 :]
    return [] if words[:1] == ["run"] else words


def by_name(name: str) -> str:
    """Return the command for the manager of this name."""
    return typed("-M", name, without=(*_NAMES, *_PLACES))


def by_address(run: Run) -> str:
    """Return the command for a manager, for any directory of this host."""
    words = ["--address", str(discover().address.with_sock(run.sock_id))]
    if run.secret_file is not None:
        words += ["--secret-file", run.secret_file]
    return typed(*words, without=(*_NAMES, *_PLACES))
