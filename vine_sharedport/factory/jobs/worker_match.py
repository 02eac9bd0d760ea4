"""Which job is which of the workers in the manager's list."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Callable

from vine_sharedport.factory.jobs.job import Job

__all__ = ["ListedWorker", "match_workers", "worker_address"]

# How much earlier than its job's start a worker may seem to have connected: the access
# point's clock and the manager's need not agree.
_CLOCK_SLACK = 60.0

_IP_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f:.]*:[0-9a-f:.]*")


def worker_address(entry: Mapping[str, Any]) -> str:
    """Return a worker's address, as its manager's list has it.

    TaskVine says ``addrport``, Work Queue ``address_port``.
    """
    return str(entry.get("addrport") or entry.get("address_port") or "")


@dataclass(frozen=True)
class ListedWorker:
    """A worker in the manager's list."""

    entry: Mapping[str, Any]
    host: str
    address: str
    started: float

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> ListedWorker:
        """Read an entry."""
        address = worker_address(entry)
        # Microseconds, when the connection was accepted.
        started = float(entry.get("start_time") or 0) / 1e6 or float("inf")
        return cls(entry, str(entry.get("hostname") or "").lower(), address, started)

    @property
    def ip(self) -> str | None:
        """IP address without port; IPv6 comes with and without brackets."""
        return self.address.rpartition(":")[0].strip("[]").lower() or None


def _full_name(host: str | None) -> str | None:
    """Return a name that has a domain."""
    name = (host or "").lower().rstrip(".")
    return name if "." in name and not _IP_ADDRESS.fullmatch(name) else None


def _short_name(host: str | None) -> str | None:
    name = (host or "").lower().rstrip(".")
    return None if not name or _IP_ADDRESS.fullmatch(name) else name.partition(".")[0]


def _bare_name(host: str | None) -> str | None:
    """Return a name that has no domain."""
    return None if _full_name(host) else _short_name(host)


def _ip_of(job: Job) -> str | None:
    if job.address is not None:
        return job.address.lower()
    host = (job.host or "").lower()
    return host if host and _IP_ADDRESS.fullmatch(host) else None


def _unknown(job: Job) -> str | None:
    """Return the same for all jobs that run nobody knows where: on a grid."""
    return "somewhere" if job.host is None and job.address is None else None


# How a job and a worker are recognized as one, the surest first. Short names count only
# if one of the two has no domain: node1.a.edu is not node1.b.edu.
_TIERS: tuple[tuple[Callable[[Job], Any], Callable[[ListedWorker], Any]], ...] = (
    (lambda job: job.worker, lambda worker: worker.address or None),
    (lambda job: _full_name(job.host), lambda worker: _full_name(worker.host)),
    (lambda job: _bare_name(job.host), lambda worker: _short_name(worker.host)),
    (lambda job: _short_name(job.host), lambda worker: _bare_name(worker.host)),
    (_ip_of, lambda worker: worker.ip),
    (_unknown, lambda worker: "somewhere"),
)


def match_workers(
    jobs: Iterable[Job],
    workers: Iterable[Mapping[str, Any]],
    *,
    since: Callable[[Job], float],
) -> tuple[dict[int, ListedWorker], list[Mapping[str, Any]]]:
    """Find the worker of each job.

    A job keeps the connection that it had. Else a worker belongs to a job on the host of its
    name, full or short, or of its IP address; with several on a host, the oldest worker to
    the oldest job. No worker has been connected for longer than its job runs. Jobs that run
    nobody knows where (on a grid) take what is left.

    Args:
        jobs: The oldest first.
        workers: What the manager answers to ``worker_status``.
        since: Returns the time before which a job's worker cannot have connected.

    Returns:
        The workers by ``id(job)``, and those that belong to no job.
    """
    free = sorted(map(ListedWorker.read, workers), key=lambda worker: worker.started)
    found: dict[int, ListedWorker] = {}
    for job_key, worker_key in _TIERS:
        by_key: dict[Any, deque[ListedWorker]] = defaultdict(deque)
        for worker in free:
            key = worker_key(worker)
            if key is not None:
                by_key[key].append(worker)
        taken = set()
        for job in jobs:
            if id(job) in found:
                continue
            candidates = by_key.get(job_key(job), deque())
            for worker in candidates:
                if worker.started + _CLOCK_SLACK >= since(job):
                    found[id(job)] = worker
                    taken.add(id(worker))
                    candidates.remove(worker)
                    break
        free = [worker for worker in free if id(worker) not in taken]
    return found, [worker.entry for worker in free]
