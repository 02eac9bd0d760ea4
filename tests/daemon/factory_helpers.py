"""What the tests of the factory look at."""

from __future__ import annotations

import glob
import os
import signal
import time
from pathlib import Path
from typing import Any

from vine_sharedport.condor.event_log import EventLog
from vine_sharedport.condor.schedd import Schedd
from vine_sharedport.errors import NoStatusError, ScheddError
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.snapshot import Snapshot

from .helpers import wait_until

# A worker's way is short in the tests' pool: everything swift.
SWIFT: dict[str, Any] = {
    "min_workers": 0, "max_workers": 4, "workers_per_cycle": 0, "cycle": 0.5, "timeout": 30,
    "cores": 1, "memory": 100, "disk": 100,
}  # fmt: skip


def drive(manager: Any, until: Any, *, timeout: float = 30.0) -> list[Any]:
    """Let the manager work until ``until()`` is true; return the tasks that ended."""
    done = []
    deadline = time.monotonic() + timeout
    while not until():
        # Shorter than a second it would answer nobody.
        task = manager.wait(1)
        if task is not None:
            assert task.successful(), task.result
            done.append(task)
        assert time.monotonic() < deadline, f"not within {timeout} s: {until}"
    return done


def finish(manager: Any, *, timeout: float = 60.0) -> list[Any]:
    """Return all tasks that are left, when they have ended well."""
    return drive(manager, manager.empty, timeout=timeout)


def queued(mark: str) -> list[Any]:
    """Return the jobs in the queue of a factory or a manager, by the mark's value."""
    return Schedd().query(
        f'VineSharedPortFactory =?= "{mark}" || VineSharedPort =?= "{mark}"',
        ["ClusterId", "ProcId", "JobStatus", "VineSharedPortFactory"],
    )


def peak(directory: str) -> int:
    """Return the largest number of jobs that a factory ever had in the queue or running."""
    now = most = 0
    with EventLog(os.path.join(directory, "workers.log")) as log:
        for event in log.read():
            now += event.type == "SUBMIT"
            now -= event.type in ("JOB_TERMINATED", "JOB_ABORTED")
            most = max(most, now)
    return most


def processes_of(directory: str) -> list[int]:
    """Return the processes that work for a factory's directory, supervisor first."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            words = Path(path).read_bytes().split(b"\0")
        except OSError:
            continue
        if directory.encode() in words and b"factory" in words:
            found.append(int(path.split("/")[2]))
    status = read(directory)
    first = status.pid if status is not None else 0
    return sorted(found, key=lambda pid: (pid != first, pid))


def read(directory: str) -> Snapshot | None:
    """Return a factory's status, None while there is none."""
    try:
        return paths.read_status(directory)
    except NoStatusError:
        return None


def kill(pid: int) -> None:
    """Send SIGKILL."""
    os.kill(pid, signal.SIGKILL)


def wait_until_gone(mark: str, *, timeout: float = 60.0) -> None:
    """Wait until no job of the factory or manager is in the queue."""

    def gone() -> bool:
        try:
            return not queued(mark)
        except ScheddError:  # the schedd is just starting
            return False

    wait_until(gone, timeout=timeout)
