"""A file in the directory of a manager's run, by which its user's commands on its host find it.

It tells where the secret is, not the secret.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from vine_sharedport.atomic_file import write_atomically

__all__ = [
    "LOG_FILE",
    "RUN_FILE",
    "Run",
    "read_run_file",
    "runs_here",
    "secret_file_of",
    "write_run_file",
]

RUN_FILE = "shared_port.json"
"""Its name."""

LOG_FILE = "shared_port.log"
"""The porter's log beside it, which the porter holds open for as long as it lives."""

_MAX_SIZE = 64 << 10


@dataclass(frozen=True)
class Run:
    """One manager's run.

    Attributes:
        name: What the manager is called; None without a name.
        sock_id: Its name at the shared port.
        socket: Path of its endpoint's socket.
        secret_file: File with its secret, absolute; None without a gate.
        ssl: Whether it speaks TLS.
        address: Its address when it began; None in a file of an earlier version.
        worker: The worker's program that is its own.
    """

    name: str | None
    sock_id: str
    socket: str
    secret_file: str | None = None
    ssl: bool = False
    address: str | None = None
    worker: str = "vine_worker"

    def options(self, others: Sequence[str] = ()) -> list[str]:
        """Return the options that a worker of it needs, with these others."""
        return [*(["--ssl"] if self.ssl and "--ssl" not in others else []), *others]


def write_run_file(directory: str, run: Run) -> None:
    """Write the file; an ``OSError`` is the caller's."""
    write_atomically(os.path.join(directory, RUN_FILE), json.dumps(asdict(run)))


def read_run_file(path: str) -> Run | None:
    """Return what a file tells; None if it is another user's, or something else.

    Whoever may write to the directory could send a factory's workers elsewhere by it.
    """
    text_or_none = (str, type(None))
    kinds: dict[str, Any] = {
        "name": text_or_none,
        "secret_file": text_or_none,
        "ssl": bool,
        "address": text_or_none,
    }
    try:
        with open(path, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            values = json.loads(file.read(_MAX_SIZE))
        found = {
            item.name: values[item.name]
            for item in fields(Run)
            if item.default is MISSING or item.name in values
        }
        "".join(x for x in found.values() if isinstance(x, str)).encode()  # no lone surrogate
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(isinstance(value, kinds.get(name, str)) for name, value in found.items()):
        return None
    return Run(**found)


def runs_here() -> list[Run]:
    """Return this user's managers that run on this host, the last one started first.

    Wherever they were started: they are found by the log that each one's porter has open.
    """
    found = {}
    for pid in _own_processes():
        for path in _open_files(pid):
            if os.path.basename(path) == LOG_FILE:
                run_file = os.path.join(os.path.dirname(path), RUN_FILE)
                run = read_run_file(run_file)
                if run is not None:
                    found[run_file] = run
    return [found[path] for path in sorted(found, key=_time_of, reverse=True)]


def secret_file_of(sock_id: str) -> str | None:
    """Return the secret file of this user's manager on this host, or of its 'expose'."""
    for run in runs_here():
        if run.sock_id == sock_id:
            return run.secret_file
    for pid in _own_processes():
        # 'expose' has no run file; its porter is its child, with the sock id among its words.
        if sock_id in _words_of(pid):
            parent = _parent_of(pid)
            words = _words_of(parent)
            name = f"{sock_id}.secret"
            for before, word in zip(words, words[1:]):
                if before == "--secret-file":
                    name = word
            try:
                path = os.path.join(os.readlink(f"/proc/{parent}/cwd"), name)
            except OSError:
                continue
            if "expose" in words and os.access(path, os.R_OK):
                return path
    return None


def _own_processes() -> Iterator[int]:
    """Return the process ids of this user; none where there is no /proc."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    for name in names:
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.geteuid():
                yield int(name)
        except OSError:
            continue


def _open_files(pid: int) -> Iterator[str]:
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            yield os.readlink(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return


def _words_of(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read().split("\0")
    except OSError:
        return []


def _parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _time_of(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
