"""Held jobs: explained, and repaired where that is allowed."""

from __future__ import annotations

from dataclasses import dataclass

from vine_sharedport.events import Held, Repaired
from vine_sharedport.factory.jobs.hold_causes import Cause, explain_hold
from vine_sharedport.factory.jobs.job import Job
from vine_sharedport.factory.jobs.queue import Queue
from vine_sharedport.factory.report.phase import journal
from vine_sharedport.factory.report.record import Problem

__all__ = ["HoldRepair"]


@dataclass
class _Case:
    """What is known of one hold of a job."""

    job: Job
    cause: Cause
    since: float  # when it was held
    repaired: bool
    settled: bool  # repair was tried, or cannot be


class HoldRepair:
    """Explains each held job, and reports it as long as it is there.

    Args:
        queue: The factory's jobs.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._found: dict[str, _Case] = {}  # by the job's id

    def update(self, *, repair: bool) -> None:
        """Explain the jobs that are newly held.

        Args:
            repair: Repair and release those of which it is known how, also such as were held
                before that was allowed, or while the schedd did not do it.
        """
        # What was repaired is reported as long as the job is there.
        self._found = {
            id: case
            for id, case in self._found.items()
            if case.job is self._queue.table.get(id)
            and case.job.left
            and (case.repaired or case.job.state == "held")
        }
        held = [job for job in self._queue.table if job.state == "held"]
        wanted = [job for job in held if self._is_to_be_seen(job, repair)]
        if not wanted:
            return
        ads = self._queue.ads_of(wanted)
        for job in wanted:
            ad = ads.get(job.id, {})
            hold = (job.hold_code, job.hold_subcode, job.hold_reason)
            cause = explain_hold(*hold, ad, self._queue.tool_options)
            done: bool | None = False
            if repair and cause.repair is not None and ad:
                done = self._queue.repair(job, ad, cause.repair, f"repaired: {cause.name}")
            settled = bool(ad) and (cause.repair is None or (repair and done is not None))
            case = _Case(job, cause, job.since, bool(done), settled)
            before = self._found.get(job.id)
            self._found[job.id] = case
            if before is None or before.since < job.since or case.repaired:
                told = (job.id, cause.name, cause.explanation)
                journal.record(Repaired(*told) if case.repaired else Held(*told, cause.remedy))

    def _is_to_be_seen(self, job: Job, repair: bool) -> bool:
        """Whether a held job is a new case, or one that may be repaired only now."""
        case = self._found.get(job.id)
        # One that was repaired and is held again is a new case.
        return case is None or case.since < job.since or (repair and not case.settled)

    def problems(self) -> list[Problem]:
        """Return what there is to tell, the same things together."""
        alike: dict[tuple[str, str, str, bool], list[str]] = {}
        for id, case in self._found.items():
            if not case.job.left:  # since the last look, as when the factory ends
                continue
            cause = case.cause
            key = (cause.name, cause.explanation, cause.remedy, case.repaired)
            alike.setdefault(key, []).append(id)
        return [
            Problem(name, explanation, remedy, tuple(ids), repaired)
            for (name, explanation, remedy, repaired), ids in alike.items()
        ]
