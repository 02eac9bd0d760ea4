"""Held jobs: explained, and mended where that is allowed."""

from __future__ import annotations

import logging

from vine_sharedport.factory.holds import Cause, explain_hold
from vine_sharedport.factory.jobs import Job
from vine_sharedport.factory.queue import Queue
from vine_sharedport.factory.report import Problem

__all__ = ["Mender"]

log = logging.getLogger(__name__)


class Mender:
    """Looks at each held job once, and tells of it as long as it is there.

    Args:
        queue: The factory's jobs.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        # By the job's id; why, whether it was mended, and since when it was held.
        self._found: dict[str, tuple[Job, Cause, bool, float]] = {}

    def look(self, *, repair: bool) -> None:
        """Explain the jobs that are newly held.

        Args:
            repair: Mend and release those of which it is known how.
        """
        # What was mended is told as long as the job is there.
        self._found = {
            id: found
            for id, found in self._found.items()
            if found[0] is self._queue.table.get(id)
            and found[0].left
            and (found[2] or found[0].state == "held")
        }
        held = [job for job in self._queue.table if job.state == "held"]
        # One that was mended and is held again is a new case.
        new = [j for j in held if j.id not in self._found or self._found[j.id][3] < j.since]
        if not new:
            return
        ads = self._queue.ads_of(new)
        for job in new:
            ad = ads.get(job.id, {})
            cause = explain_hold(job.hold_code, job.hold_subcode, job.hold_reason, ad)
            repaired = False
            if repair and cause.repair is not None and ad:
                repaired = self._queue.repair(job, ad, cause.repair, f"repaired: {cause.name}")
            self._found[job.id] = (job, cause, repaired, job.since)
            (log.info if repaired else log.warning)(
                "job %s is held (%s): %s; %s",
                job.id, cause.name, cause.explanation,
                "repaired and released" if repaired else cause.remedy,
            )  # fmt: skip

    def problems(self) -> list[Problem]:
        """Return what there is to tell, the same things together."""
        alike: dict[tuple[str, str, str, bool], list[str]] = {}
        for id, (_, cause, repaired, _) in self._found.items():
            key = (cause.name, cause.explanation, cause.remedy, repaired)
            alike.setdefault(key, []).append(id)
        return [
            Problem(name, explanation, remedy, tuple(ids), repaired)
            for (name, explanation, remedy, repaired), ids in alike.items()
        ]
