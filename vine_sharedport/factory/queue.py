"""The factory's jobs at the schedd: submitted, followed, mended, removed."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vine_sharedport.errors import LaunchError, SharedPortError
from vine_sharedport.factory import files
from vine_sharedport.factory.demand import Counts
from vine_sharedport.factory.description import (
    FACTORY_ATTRIBUTE,
    LEASE_ATTRIBUTE,
    MANAGER_ATTRIBUTE,
    Description,
)
from vine_sharedport.factory.jobs import QUEUE_ATTRIBUTES, Job, JobTable
from vine_sharedport.pool.event_log import Event, EventLog
from vine_sharedport.pool.schedd import Schedd

__all__ = ["Queue"]

log = logging.getLogger(__name__)

# The queue is asked as often where there is a log, to find what that did not tell.
_QUEUE_INTERVAL = 60.0
# And on a grid, where the log says little of what jobs wait for.
_GRID_INTERVAL = 10.0

# How often a job is mended and released.
_REPAIRS = 2
_REPAIRS_ATTRIBUTE = "VineSharedPortRepairs"

_HOLD_ATTRIBUTES = ["ClusterId", "ProcId", "Cmd", "RequestMemory", "RequestDisk"]


class Queue:
    """The jobs of one factory.

    What the schedd does not do is kept in ``error``, and tried again by the next call.

    Args:
        directory: The factory's, absolute.
        factory: Its id.
        manager: The manager's sock id.
        description: What the first jobs would be.

    Attributes:
        table: The jobs.
        others: Jobs of the same manager that are not this factory's.
        is_known: Whether the table has all jobs: at the beginning there may be those of an
            earlier process, and after a failed submission nobody knows.
        error: What the schedd or the log refuses now; None when they work.
    """

    def __init__(
        self, directory: str, *, factory: str, manager: str, description: Description
    ) -> None:
        self.table = JobTable(on_grid=not description.where.tells_host)
        self.others = Counts()
        self.is_known = False
        self.error: str | None = None
        self._directory = directory
        self._factory = factory
        self._manager = manager
        self._where = description.where
        self._lease = description.lease
        self._schedd = Schedd(self._where.schedd, self._where.pool)
        self._log: EventLog | None = None
        if self._where.has_log and description.log is not None:
            self._log = EventLog(os.path.join(directory, description.log))
        self._asked = 0.0
        self._renewed = time.monotonic()
        self._changed: list[Job] = []

    @property
    def mine(self) -> str:
        """Constraint of the factory's jobs."""
        return f'{FACTORY_ATTRIBUTE} =?= "{self._factory}"'

    @property
    def tells_host(self) -> bool:
        """Whether it is known at once that a job runs, and where."""
        return self._where.tells_host

    # --- to know them

    def follow(self) -> None:
        """Bring the table up to date."""
        if self._log is not None:
            try:
                self._changed += self.table.apply(self._log.read())
            except LaunchError as error:
                self.error = str(error)
                self.is_known = False
        pause = _QUEUE_INTERVAL if self.tells_host else _GRID_INTERVAL
        if self._log is None:
            pause = 0.0
        if not self.is_known or time.monotonic() - self._asked >= pause:
            self.ask()

    def ask(self) -> bool:
        """Ask the schedd for our jobs and for others of the manager; whether it answered."""
        asked = time.time()
        projection = [*QUEUE_ATTRIBUTES, *self._where.attributes, FACTORY_ATTRIBUTE]
        self.is_known = False
        with self._errors():
            ads = self._schedd.query(
                f'{MANAGER_ATTRIBUTE} =?= "{self._manager}" || {self.mine}', projection
            )
            if self._log is not None:
                self._changed += self.table.apply(self._log.read())
            ours = [ad for ad in ads if ad.get(FACTORY_ATTRIBUTE) == self._factory]
            self._fetch_spooled(ours)  # first, for what the jobs have said last
            self._changed += self.table.update(ours, asked=asked)
            self._note_troubles(ours)
            self.others = _count(ad for ad in ads if ad.get(FACTORY_ATTRIBUTE) != self._factory)
            self.is_known, self._asked = True, time.monotonic()
            self.error = None
        return self.is_known

    def _note_troubles(self, ads: Iterable[Mapping[str, Any]]) -> None:
        """Let idle jobs on a grid tell what they wait for."""
        for ad in ads:
            job = self.table.get(f"{ad['ClusterId']}.{ad['ProcId']}")
            if job is not None and job.state == "idle" and not self.tells_host:
                job.reason = self._where.trouble(ad)

    def take_changed(self) -> list[Job]:
        """Return the jobs whose state changed since the last call."""
        found, self._changed = self._changed, []
        return found

    def _fetch_spooled(self, ads: Sequence[Mapping[str, Any]]) -> None:
        """Fetch what ended jobs have left at a schedd that spools, and let them go."""
        if not self._where.spool or not any(ad.get("JobStatus") == 4 for ad in ads):
            return
        constraint = f"{self.mine} && JobStatus == 4"
        try:
            self._schedd.retrieve(constraint)
        except LaunchError as error:
            log.warning("%s", error)
        with self._errors():
            self._schedd.act("remove", constraint, "its output has been fetched")

    # --- to make them

    def submit(self, description: Description, count: int) -> int:
        """Submit so many; return the cluster.

        Raises:
            LaunchError: The schedd does not take them.
        """
        # Until the schedd has said yes or no, it may have them.
        self.is_known = False
        cluster = self._schedd.submit(description.text, count, spool=description.where.spool)
        self.is_known = True
        now = time.time()
        # The log may tell later, and they must not be submitted once more meanwhile.
        self.table.apply(Event("SUBMIT", cluster, proc, now) for proc in range(count))
        return cluster

    def renew_lease(self) -> None:
        """Tell the schedd from time to time that somebody sees to the jobs."""
        now = time.monotonic()
        if now - self._renewed < self._lease / 3:
            return
        waiting = [job for job in self.table if job.left and job.state != "running"]
        with self._errors():
            if waiting and self.tells_host:
                constraint = f"JobStatus =!= 2 && {self.mine}"
                self._schedd.edit(constraint, LEASE_ATTRIBUTE, int(time.time()) + self._lease)
            self._renewed = now

    # --- to mend them

    def ads_of(self, jobs: list[Job]) -> dict[str, Mapping[str, Any]]:
        """Return what there is to know of held jobs, by their ids."""
        with self._errors():
            ads = self._schedd.query(_which(jobs), [*_HOLD_ATTRIBUTES, _REPAIRS_ATTRIBUTE])
            return {f"{ad['ClusterId']}.{ad['ProcId']}": ad for ad in ads}
        return {}

    def repair(
        self, job: Job, ad: Mapping[str, Any], changes: Mapping[str, Any], reason: str
    ) -> bool:
        """Change a held job and release it, for a limited number of times; whether it was.

        Args:
            job: The job.
            ad: What ``ads_of`` has of it.
            changes: Attributes to set.
            reason: Why it is released.
        """
        repairs = int(ad.get(_REPAIRS_ATTRIBUTE) or 0)
        if repairs >= _REPAIRS:
            return False
        which = f"{_which([job])} && JobStatus == 5"
        with self._errors():
            # First the number: what fails half way must not be tried for ever.
            self._schedd.edit(which, _REPAIRS_ATTRIBUTE, repairs + 1)
            for name, value in changes.items():
                self._schedd.edit(which, name, value)
            return self._schedd.act("release", which, reason) > 0
        return False

    # --- to remove them

    def remove_idle(self, jobs: list[Job], reason: str) -> None:
        """Remove those of the jobs that still wait for a machine."""
        with self._errors():
            removed = self._schedd.act("remove", f"JobStatus == 1 && {_which(jobs)}", reason)
            log.info("removed %d idle jobs: %s", removed, reason)

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

    def remove_left_behind(self) -> bool:
        """Remove jobs of this manager whose factory has ended without doing so.

        Returns:
            Whether the schedd has done what it was asked.
        """
        with self._errors():
            ads = self._schedd.query(
                f'{MANAGER_ATTRIBUTE} =?= "{self._manager}" && {FACTORY_ATTRIBUTE} '
                f'isnt undefined && {FACTORY_ATTRIBUTE} isnt "{self._factory}"',
                [FACTORY_ATTRIBUTE, "UserLog"],
            )
            logs = {str(ad[FACTORY_ATTRIBUTE]): str(ad.get("UserLog")) for ad in ads}
            for factory, path in logs.items():
                directory = os.path.dirname(path)
                ended = False
                with contextlib.suppress(LaunchError):  # a directory that is not ours to see
                    ended = files.is_running(directory) is False
                if ended:
                    removed = self._schedd.act(
                        "remove",
                        f'{FACTORY_ATTRIBUTE} =?= "{factory}"',
                        "their factory has ended",
                    )
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
            if str(error) != self.error:
                log.warning("%s", error)
            self.error = str(error)


def _which(jobs: Iterable[Job]) -> str:
    """Return the constraint of some jobs."""
    each = (f"(ClusterId == {job.cluster} && ProcId == {job.proc})" for job in jobs)
    return f"({' || '.join(each)})"


def _count(ads: Iterable[Mapping[str, Any]]) -> Counts:
    """Count jobs of other factories, and of ``submit_workers``."""
    states = [ad.get("JobStatus") for ad in ads]
    return Counts(
        other_idle=sum(state in (1, 5) for state in states),
        other_running=sum(state in (2, 6, 7) for state in states),
    )
