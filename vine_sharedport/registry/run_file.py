"""Which managers of this user run on this host.

Each leaves a file in the directory of its run, by which its user's commands find it, and its
porter's log beside that. The file tells where the secret is, not the secret.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator

from vine_sharedport import records
from vine_sharedport.atomic_file import write_atomically
from vine_sharedport.errors import SharedPortError
from vine_sharedport.registry.reference import Reference

__all__ = [
    "LOG_FILE",
    "RUN_FILE",
    "called",
    "read_run_file",
    "running_managers",
    "secret_file_of",
    "write_run_file",
]

log = logging.getLogger(__name__)

RUN_FILE = "shared_port.json"
"""Its name."""

LOG_FILE = "shared_port.log"
"""The porter's log beside it, which the porter holds open for as long as it lives."""


def write_run_file(manager: Reference) -> None:
    """Write the file of a manager's run; an ``OSError`` is the caller's."""
    assert manager.directory is not None
    write_atomically(os.path.join(manager.directory, RUN_FILE), records.encode(manager))


def read_run_file(path: str) -> Reference | None:
    """Return what a file tells; None if it is another user's, or something else.

    Whoever may write to the directory could send a factory's workers elsewhere by it.
    """
    try:
        return Reference.of(records.read(Reference, path, private=True))
    except OSError:
        return None
    except SharedPortError as error:
        log.warning("cannot use %s, the run file of a manager: %s", path, error)
        return None


def running_managers(system: str | None = None, below: str | None = None) -> list[Reference]:
    """Return this user's managers that run on this host, the last one started first.

    They are found by the log that each one's porter has open.

    Args:
        system: ``taskvine`` or ``work_queue``, and what may be either; None for all.
        below: Only those whose run has its files in or below this directory.
    """
    start = f"{below or ''}/".replace("//", "/")
    logs = {
        path
        for pid in _own_processes()
        for path in _open_files(pid)
        if os.path.basename(path) == LOG_FILE and path.startswith(start)
    }
    files = [os.path.join(os.path.dirname(path), RUN_FILE) for path in logs]
    found = map(read_run_file, sorted(files, key=_time_of, reverse=True))
    return [
        x for x in found if x is not None and (system is None or x.system in (None, system))
    ]


def called(name: str | None, managers: Iterable[Reference]) -> list[Reference]:
    """Return those that have this name, or sock id."""
    return [manager for manager in managers if name in (manager.name, manager.sock_id)]


def secret_file_of(sock_id: str) -> str | None:
    """Return the secret file of this user's manager on this host, or of its 'expose'."""
    return next((x.secret_file for x in running_managers() if x.sock_id == sock_id), None)


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
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                yield os.readlink(f"/proc/{pid}/fd/{fd}")


def _time_of(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
