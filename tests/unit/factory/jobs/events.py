"""Events of worker jobs and tables that have read them, as the tests of this folder need."""

from __future__ import annotations

from typing import Any

from vine_sharedport.condor.event_log import Event
from vine_sharedport.factory.jobs.job import Job
from vine_sharedport.factory.jobs.table import JobTable


def event(type: str, time: float = 100.0, proc: int = 0, **more: Any) -> Event:
    """Return an event of cluster 7."""
    return Event(type, 7, proc, time, **more)


def execute(time: float, proc: int = 0, host: str | None = "node1.a.edu", **more: Any) -> Event:
    """Return the event of a job's start."""
    return event("EXECUTE", time, proc, host=host, **more)


def only(table: JobTable) -> Job:
    """Return the only job of a table."""
    (job,) = table
    return job


def running(*events: Event) -> JobTable:
    """Return a table of jobs that were submitted and met these events."""
    table = JobTable()
    table.apply([event("SUBMIT", 1.0, each.proc) for each in events])
    table.apply(events)
    return table
