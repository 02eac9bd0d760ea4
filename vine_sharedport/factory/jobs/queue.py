"""The factory's jobs at the schedd: submitted, followed, repaired, removed."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vine_sharedport.condor.event_log import Event, EventLog
from vine_sharedport.condor.schedd import Schedd, class_ad_string
from vine_sharedport.errors import ScheddError, SettingError, SharedPortError
from vine_sharedport.events import Removed
from vine_sharedport.factory.jobs.description import (
    FACTORY_ATTRIBUTE,
    LEASE_ATTRIBUTE,
    MANAGER_ATTRIBUTE,
    UNATTENDED,
    Description,
)
from vine_sharedport.factory.jobs.job import QUEUE_ATTRIBUTES, Job
from vine_sharedport.factory.jobs.table import JobTable
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.phase import journal
from vine_sharedport.factory.submission.location import JobLocation
from vine_sharedport.factory.submission.schedd_clock import ScheddClock

__all__ = ["Queue"]

log = logging.getLogger(__name__)

# The queue is asked as often where there is a log, to find what that did not tell.
_QUEUE_INTERVAL = 60.0
# And on a grid, where the log says little of what jobs wait for.
_GRID_INTERVAL = 10.0

# And when the queue may have changed.
_DOUBT_INTERVAL = 5.0

_AGAIN = "the factory tries again by itself"

# How often a job is repaired and released.
_REPAIRS = 2
_REPAIRS_ATTRIBUTE = "VineSharedPortRepairs"

# Ranges of jobs in one constraint.
_MOST_RANGES = 200

_HOLD_ATTRIBUTES = ["ClusterId", "ProcId", "Cmd", "RequestMemory", "RequestDisk"]


class Queue:
    """The jobs of one factory.

    What the schedd does not do is kept in ``error``, and tried again by the next call.

    Args:
        directory: The factory's, absolute.
        factory: Its id.
        place: Where its jobs are.

    Attributes:
        table: The jobs.
        others: Jobs of this user for the same manager that are not this factory's.
        is_known: Whether the table has all jobs: at the beginning there may be those of an
            earlier process, and after a failed submission nobody knows.
        error: What the schedd or the log refuses now; None when they work.
        remedy: What to do about it.
    """

    def __init__(self, directory: str, *, factory: str, place: JobLocation) -> None:
        self.table = JobTable(on_grid=not place.where.knows_host)
        self.others = JobTable()
        self.is_known = False
        self.error: str | None = None
        self.remedy = _AGAIN
        self._directory = directory
        self._factory = factory
        self._place = place
        self._where = place.where
        self._owner = place.known_owner(directory)
        self._cluster: int | None = None  # of ours, which tells what the schedd calls us
        self._schedd = Schedd(self._where.schedd, self._where.pool)
        self._log: EventLog | None = None
        if self._where.has_log and place.log is not None:
            self._log = EventLog(os.path.join(directory, place.log))
        self._asked = 0.0
        self._submitted: float | None = None  # when, of jobs that the queue has not shown yet
        self._renewed = time.monotonic()
        self._changed: list[Job] = []
        self._clock = ScheddClock()

    @property
    def mine(self) -> str:
        """Constraint of the factory's jobs: their mark is public, and anybody can copy it."""
        return self._our(self._mark)

    @property
    def _mark(self) -> str:
        return f'{FACTORY_ATTRIBUTE} =?= "{self._factory}"'

    def _our(self, which: str) -> str:
        """Return the constraint with our name, as far as it is known."""
        if self._owner is None:  # at another schedd, before our first job there
            return which
        ours = f"Owner =?= {class_ad_string(self._owner)}"
        if self._cluster is not None:  # which may show another name
            ours = f"({ours} || ClusterId == {self._cluster})"
        return f"{which} && {ours}"

    @property
    def has_submitted(self) -> bool:
        """Whether there may ever have been a job, also of an earlier process."""
        return JobLocation.read(self._directory) is not None or len(self.table) > 0

    @property
    def knows_host(self) -> bool:
        """Whether it is known at once that a job runs, and where."""
        return self._where.knows_host

    @property
    def tool_options(self) -> str:
        """What ``condor_q`` and the like want to be told of the schedd, after a blank each."""
        where = self._where
        named = (("name", where.schedd), ("pool", where.pool))
        return "".join(f" -{option} {value}" for option, value in named if value)

    # --- to know them

    def follow(self, *, doubt: bool = False) -> None:
        """Bring the table up to date.

        Args:
            doubt: There is something that the log does not tell.
        """
        if self._log is not None:
            try:
                self._changed += self.table.apply(self._clock.events(self._log.read()))
            except SettingError as error:
                self.error, self.remedy = str(error), _AGAIN
                self.is_known = False
        pause = _QUEUE_INTERVAL if self.knows_host else _GRID_INTERVAL
        if self._log is None:
            pause = 0.0
        elif doubt:
            pause = _DOUBT_INTERVAL
        # A hold that is there from the submission has no event. Times are whole seconds.
        new = self._submitted is not None and int(time.time()) > self._submitted
        if new or not self.is_known or time.monotonic() - self._asked >= pause:
            self.query()

    def query(self) -> bool:
        """Ask the schedd for our jobs and for others of the manager; whether it answered."""
        asked = time.time()
        projection = [*QUEUE_ATTRIBUTES, *self._where.attributes, FACTORY_ATTRIBUTE, "Owner"]
        self.is_known = False
        with self._errors():
            either = f'({MANAGER_ATTRIBUTE} =?= "{self._place.manager}" || {self._mark})'
            ads = self._schedd.query(self._our(either), projection)
            if self._log is not None:
                self._changed += self.table.apply(self._clock.events(self._log.read()))
            ads = [dict(self._clock.ad(ad)) for ad in ads]
            self._learn_owner(ads)
            if self._owner is not None:
                ads = [ad for ad in ads if ad.get("Owner") == self._owner]
            ours = [ad for ad in ads if ad.get(FACTORY_ATTRIBUTE) == self._factory]
            self._fetch_spooled(ours)  # first, for what the jobs have said last
            self._changed += self.table.update(ours, asked=asked)
            self._note_troubles(ours)
            if self._owner is not None:
                theirs = (ad for ad in ads if ad.get(FACTORY_ATTRIBUTE) != self._factory)
                self.others.update(theirs, asked=asked)
            self.others.forget(asked)
            self.is_known, self._asked = True, time.monotonic()
            if self._submitted is not None and int(asked) > self._submitted:
                self._submitted = None
            self.error = None
        return self.is_known

    def _learn_owner(self, ads: Iterable[Mapping[str, Any]]) -> None:
        """Learn what the schedd calls us, from jobs that it has taken from us, and keep it."""
        names = [str(ad["Owner"]) for ad in ads if ad.get("ClusterId") == self._cluster]
        if names:
            self._owner, self._cluster = names[0], None
        if names and self._place.owner != self._owner:
            self._place = replace(self._place, owner=self._owner)
            self._place.write(self._directory)

    def _note_troubles(self, ads: Iterable[Mapping[str, Any]]) -> None:
        """Let idle jobs on a grid tell what they wait for."""
        for ad in ads:
            job = self.table.get(f"{ad['ClusterId']}.{ad['ProcId']}")
            if job is not None and job.state == "idle" and not self.knows_host:
                job.reason = self._where.trouble(ad)

    def take_changed(self) -> list[Job]:
        """Return the jobs whose state changed since the last call."""
        found, self._changed = self._changed, []
        return found

    def _fetch_spooled(self, ads: Sequence[Mapping[str, Any]]) -> None:
        """Fetch what ended jobs have left at a schedd that spools, and let them go."""
        if not self._where.spool or not any(ad.get("JobStatus") == 4 for ad in ads):
            return
        constraint = f"JobStatus == 4 && {self.mine}"
        try:
            self._schedd.retrieve(constraint)
        except ScheddError as error:
            log.warning("%s", error)
        with self._errors():
            self._schedd.act("remove", constraint, "its output has been fetched")

    def join(self, workers: Iterable[Mapping[str, Any]], *, now: float, told: float) -> int:
        """Find out which jobs the manager's workers are; see ``JobTable.join``.

        Returns:
            How many workers are no job's, neither ours nor another factory's.
        """
        left = self.table.join(workers, now=now, told=told)
        return len(self.others.join(left, now=now, told=told))

    # --- to make them

    def submit(self, description: Description, count: int) -> int:
        """Submit so many; return the cluster.

        Raises:
            ScheddError: The schedd does not take them.
        """
        replace(self._place, owner=self._owner).write(self._directory)
        # Until the schedd has said yes or no, it may have them.
        self.is_known = False
        cluster = self._schedd.submit(description.job, count, spool=description.where.spool)
        self.is_known = True
        if self._owner is None or self._place.owner != self._owner:
            self._cluster = cluster
        now = self._submitted = time.time()
        self._clock.note(cluster, now)
        # The log may tell later, and they must not be submitted once more meanwhile.
        self.table.apply(Event("SUBMIT", cluster, proc, now) for proc in range(count))
        return cluster

    def renew_lease(self) -> None:
        """Tell the schedd from time to time that somebody sees to the jobs."""
        now = time.monotonic()
        if now - self._renewed < self._place.lease / 3:
            return
        waiting = any(job.state in ("idle", "held") for job in self.table)
        until = int(time.time()) + self._place.lease
        with self._errors():
            if waiting and self.knows_host:
                self._schedd.edit(f"{UNATTENDED} && {self.mine}", LEASE_ATTRIBUTE, until)
            self._renewed = now

    # --- to repair them

    def ads_of(self, jobs: list[Job]) -> dict[str, Mapping[str, Any]]:
        """Return what there is to know of held jobs, by their ids."""
        found: dict[str, Mapping[str, Any]] = {}
        with self._errors():
            for which in map(self._our, _constraints(jobs)):
                ads = self._schedd.query(which, [*_HOLD_ATTRIBUTES, _REPAIRS_ATTRIBUTE])
                found.update({f"{ad['ClusterId']}.{ad['ProcId']}": ad for ad in ads})
        return found

    def repair(
        self, job: Job, ad: Mapping[str, Any], changes: Mapping[str, Any], reason: str
    ) -> bool | None:
        """Change a held job and release it, for a limited number of times.

        Args:
            job: The job.
            ad: What ``ads_of`` has of it.
            changes: Attributes to set.
            reason: Why it is released.

        Returns:
            Whether it was released: not once more above the limit. None: the schedd does
            not do it now.
        """
        repairs = int(ad.get(_REPAIRS_ATTRIBUTE) or 0)
        if repairs >= _REPAIRS:
            return False
        (only,) = _constraints([job])
        which = self._our(f"{only} && JobStatus == 5")
        with self._errors():
            # First the number: what fails half way must not be tried for ever.
            self._schedd.edit(which, _REPAIRS_ATTRIBUTE, repairs + 1)
            for name, value in changes.items():
                self._schedd.edit(which, name, value)
            return self._schedd.act("release", which, reason) > 0
        return None

    # --- to remove them

    def remove_waiting(self, jobs: list[Job], reason: str) -> bool:
        """Remove those of the jobs that still wait or are held; whether the schedd did so."""
        return self.remove(jobs, reason, only=f"{UNATTENDED} && ")

    def remove(self, jobs: list[Job], reason: str, *, only: str = "") -> bool:
        """Remove the jobs, whatever they do; whether the schedd did so."""
        with self._errors():
            removed = 0
            for which in map(self._our, _constraints(jobs)):
                removed += self._schedd.act("remove", f"{only}{which}", reason)
            journal.record(Removed(removed, reason))
            return True
        return False

    def remove_all(self, reason: str) -> None:
        """Remove the factory's jobs.

        Raises:
            SharedPortError: The schedd does not do that now.
        """
        self._schedd.act("remove", self.mine, reason)

    def count_left(self) -> tuple[int, int]:
        """Return how many jobs have not ended, and how many are just being removed.

        Raises:
            SharedPortError: The schedd does not answer.
        """
        ads = self._schedd.query(self.mine, ["JobStatus"])
        leaving = sum(ad.get("JobStatus") in (3, 4) for ad in ads)
        return len(ads) - leaving, leaving

    def names(self) -> set[str]:
        """Return the names of the factory's jobs in the queue, each the only one on earth.

        Raises:
            SharedPortError: The schedd does not answer.
        """
        ads = self._schedd.query(self.mine, ["GlobalJobId"])
        return {str(ad.get("GlobalJobId")) for ad in ads}

    def remove_left_behind(self) -> bool:
        """Remove jobs of this manager whose factory has ended without doing so.

        Returns:
            Whether the schedd has done what it was asked.
        """
        with self._errors():
            left = self._our(
                f'{MANAGER_ATTRIBUTE} =?= "{self._place.manager}" && {FACTORY_ATTRIBUTE} '
                f'isnt undefined && {FACTORY_ATTRIBUTE} isnt "{self._factory}"'
            )
            ads = self._schedd.query(left, [FACTORY_ATTRIBUTE, "UserLog"])
            logs = {str(ad[FACTORY_ATTRIBUTE]): str(ad.get("UserLog")) for ad in ads}
            for factory, path in logs.items():
                directory = os.path.dirname(path)
                # Anybody's job may name any factory and any directory.
                if not paths.has_ended(directory, factory):
                    continue
                mark = f'{FACTORY_ATTRIBUTE} =?= "{factory}"'
                removed = self._schedd.act("remove", self._our(mark), "their factory has ended")
                log.warning(
                    "removed %d jobs of the factory %s in %s, which has ended",
                    removed, factory, directory,
                )  # fmt: skip
            return True
        return False

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Keep what the schedd does not do; the factory tries again later."""
        try:
            yield
        except SharedPortError as error:
            self.note(error)

    def note(self, error: SharedPortError) -> None:
        """Keep what the schedd does not do now; the log says it once."""
        if error.cause != self.error:
            log.warning("%s", error)
        self.error, self.remedy = error.cause, error.step or _AGAIN


def _constraints(jobs: Iterable[Job]) -> list[str]:
    """Return constraints that together are for these jobs.

    Neighbours are one range, and a constraint has a limited number of them: the schedd
    reads them recursively, and dies of tens of thousands (seen with 23.9).
    """
    ranges: list[list[int]] = []
    for cluster, proc in sorted((job.cluster, job.proc) for job in jobs):
        if ranges and ranges[-1][0] == cluster and ranges[-1][2] == proc - 1:
            ranges[-1][2] = proc
        else:
            ranges.append([cluster, proc, proc])
    each = [f"(ClusterId == {c} && ProcId >= {a} && ProcId <= {b})" for c, a, b in ranges]
    parts = [each[start : start + _MOST_RANGES] for start in range(0, len(each), _MOST_RANGES)]
    return [f"({' || '.join(part)})" for part in parts]
