"""The factory's status: put together each cycle, written for users, and logged."""

from __future__ import annotations

import dataclasses
import logging
import re
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from vine_sharedport.errors import SettingError
from vine_sharedport.factory.manager_view.routes import SHARED_PORT, TCP
from vine_sharedport.factory.options.schema import contradiction
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.phase import Activity, journal
from vine_sharedport.factory.report.prometheus import format_prometheus
from vine_sharedport.factory.report.record import (
    ManagerReport,
    Problem,
    WorkerCounts,
    WorkerSize,
)
from vine_sharedport.factory.report.snapshot import Snapshot
from vine_sharedport.factory.report.staleness import SLACK
from vine_sharedport.factory.submitter import Parts, Submitter

__all__ = ["StatusWriter"]

log = logging.getLogger(__name__)

# Jobs that a problem names.
_NAMED = 100

_ENDED = ("ended", "removed")


class StatusWriter:
    """Writes what all parts of a factory know.

    Args:
        parts: What the factory is made of.
        submitter: Submits its jobs.
        pid: The process to name.
        started: When the factory was started, in seconds since 1970.
        prometheus_file: File for Prometheus's textfile collector.

    Attributes:
        leftovers: What is wrong with jobs of an earlier factory.
    """

    def __init__(
        self,
        parts: Parts,
        submitter: Submitter,
        *,
        pid: int,
        started: float,
        prometheus_file: str | None,
    ) -> None:
        self.leftovers: Problem | None = None
        self._id = paths.factory_id(parts.directory)
        self._parts = parts
        self._queue = parts.queue
        self._submitter = submitter
        self._pid = pid
        self._started = started
        self._prometheus_file = prometheus_file
        self._said: Any = None
        self._write_error = ""

    def write(self, state: str, activity: Activity, needed: int) -> None:
        """Write the status, and log it if it has changed.

        Args:
            state: ``running``, ``ending`` or ``ended``.
            activity: What the factory does.
            needed: Workers that the tasks could use at once.
        """
        snapshot = self._snapshot(state, activity, needed)
        try:
            paths.write_status(self._parts.directory, snapshot)
            if self._prometheus_file is not None:
                # The exporter that reads it is another user.
                text = format_prometheus(snapshot)
                paths.write_file(self._prometheus_file, text, mode=0o644)
        except SettingError as error:
            if str(error) != self._write_error:
                log.warning("%s", error)
            self._write_error = str(error)
        # Without the numbers of a message: seconds that are left change in each cycle.
        said = (snapshot.workers, snapshot.needed, re.sub(r"\d+", "", snapshot.message))
        if said != self._said:
            self._said = said
            workers = snapshot.workers
            log.info(
                "needed %d, idle %d, running %d (connected %d, lost %d), suspended %d, "
                "held %d, ended %d, others %d: %s",
                snapshot.needed, workers.idle, workers.running, workers.connected, workers.lost,
                workers.suspended, workers.held, workers.ended, workers.others,
                snapshot.message,
            )  # fmt: skip

    def _snapshot(self, state: str, activity: Activity, needed: int) -> Snapshot:
        now = time.time()
        options = self._parts.live.now
        counts = self._queue.table.counts()
        totals = self._parts.ledger.totals()
        jobs = tuple(self._parts.ledger.reports(now))
        left = counts["idle"] + counts["running"] + counts["held"]
        return Snapshot(
            time=now,
            factory=self._id,
            pid=self._pid,
            state=state,
            message=activity.message,
            phase=activity.phase.value,
            directory=self._parts.directory,
            manager=self._manager_report(state),
            min_workers=options.least_workers,
            max_workers=options.max_workers,
            needed=needed,
            submitted=totals["submitted"],
            workers=WorkerCounts(
                idle=counts["idle"],
                running=counts["running"],
                connected=counts["connected"],
                not_connected=counts["running"] - counts["connected"],
                silent=self._parts.ledger.silent_workers,
                held=counts["held"],
                suspended=counts["suspended"],
                lost=len(self._parts.counter.lost),
                ended=totals["ended"],
                failed=totals["failed"],
                evicted=totals["evicted"],
                others=self._parts.counter.counts().others,
            ),
            jobs=jobs,
            jobs_left_out=max(0, left - sum(job.state not in _ENDED for job in jobs)),
            problems=tuple(map(_short, self._problems())),
            due=now + options.cycle + SLACK if state == "running" else 0.0,
            started=self._started,
            events=dict(journal.counts),
            each=WorkerSize(
                cores=options.cores,
                memory=options.memory,
                disk=options.disk,
                gpus=options.gpus,
                autosize=options.autosize,
            ),
        )

    def _manager_report(self, state: str) -> ManagerReport:
        view, options = self._parts.monitor.view, self._parts.live.now
        if state != "running":
            # The last numbers are older than the end of its work, which it tells nobody.
            name = self._manager_name(view.status or {})
            return ManagerReport(address=options.address, name=name)
        status = view.status or {}
        ways = Counter(self._parts.counter.routes.values())
        is_known = bool(ways) or not view.workers
        return ManagerReport(
            address=options.address,
            reachable=view.answered is not None and view.error is None,
            error=view.error,
            attempts=view.attempts,
            tasks_waiting=_number(status, "tasks_waiting"),
            tasks_running=_number(status, "tasks_running"),
            workers=len(view.workers),
            by_shared_port=ways[SHARED_PORT] if is_known else None,
            by_tcp=ways[TCP] if is_known else None,
            name=self._manager_name(status),
            tasks_done=_number(status, "tasks_done"),
            silent=len(self._parts.counter.silences),
        )

    def _manager_name(self, status: Mapping[str, Any]) -> str | None:
        """Return what the manager calls itself, or else the name that it is known by here."""
        said = status.get("project")
        return said if said and isinstance(said, str) else self._parts.live.now.manager_name

    def _problems(self) -> list[Problem]:
        found = []
        if self.leftovers is not None:
            found.append(self.leftovers)
        if self._parts.live.error is not None:
            found.append(Problem("configuration", self._parts.live.error, "correct the file"))
        wrong = contradiction(self._parts.live.now)
        if wrong is not None:
            explanation, remedy = wrong
            explanation += f": {self._parts.live.now.max_workers} holds for both"
            found.append(Problem("configuration", explanation, remedy))
        if self._submitter.error is not None:
            error = self._submitter.error
            step = error.step or "see the message; the factory tries again by itself"
            found.append(Problem("submission", error.cause, step))
        if self._queue.error is not None:
            found.append(Problem("schedd", self._queue.error, self._queue.remedy))
        if self._submitter.fit.problem is not None and self._queue.table.counts()["idle"]:
            found.append(self._submitter.fit.problem)
        ledger = self._parts.ledger
        return [
            *found,
            *self._parts.repairs.problems(),
            *ledger.silent(),
            *self._parts.counter.problems(),
            *ledger.containers(),
            *ledger.failures(),
        ]


def _short(problem: Problem) -> Problem:
    """Return it with so many of its jobs that a status stays small."""
    named = problem.jobs[:_NAMED]
    left_out = len(problem.jobs) - len(named)
    return dataclasses.replace(problem, jobs=named, jobs_left_out=left_out)


def _number(status: Mapping[str, Any], name: str) -> int:
    value = status.get(name)
    return int(value) if isinstance(value, (int, float)) else 0
