"""What a factory submits in a cycle, or why it submits nothing."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

from vine_sharedport.bundle.package import PACKAGE, write_package
from vine_sharedport.errors import ScheddError, SettingError, SharedPortError
from vine_sharedport.events import Submitted
from vine_sharedport.factory.demand import limit_reached, plan, workers_needed
from vine_sharedport.factory.jobs.counts import WorkerCounter
from vine_sharedport.factory.jobs.description import Description, DescriptionCache
from vine_sharedport.factory.jobs.hold_repair import HoldRepair
from vine_sharedport.factory.jobs.ledger import Ledger
from vine_sharedport.factory.jobs.machine_fit import MachineFit
from vine_sharedport.factory.jobs.outdated import OutdatedJobs
from vine_sharedport.factory.jobs.queue import Queue
from vine_sharedport.factory.manager_view.monitor import ManagerMonitor, ManagerView
from vine_sharedport.factory.options.live import LiveOptions
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.phase import Activity, Phase, journal
from vine_sharedport.factory.submission.refusal_backoff import RefusalBackoff
from vine_sharedport.factory.surplus import Surplus
from vine_sharedport.trusted_files import working_directory

__all__ = ["Parts", "Submitter"]

log = logging.getLogger(__name__)

# How old the manager's last answer may be for new workers to be submitted by it.
_STALE_AFTER = 60.0

# Seconds after which a pool with a free machine would have found it (NEGOTIATOR_INTERVAL).
_LONG_IDLE = 60.0


@dataclass(frozen=True)
class Parts:
    """What a factory is made of, for those that use all of it.

    Attributes:
        directory: Its directory.
        live: Its options.
        descriptions: What would be submitted by them.
        monitor: Sees the manager.
        queue: The jobs.
        counter: Counts them and the manager's workers.
        ledger: What has become of them.
        repairs: Their holds.
    """

    directory: str
    live: LiveOptions
    descriptions: DescriptionCache
    monitor: ManagerMonitor
    queue: Queue
    counter: WorkerCounter
    ledger: Ledger
    repairs: HoldRepair


class Submitter:
    """Submits jobs, and takes back those that wait and are not wanted any more.

    Args:
        parts: What the factory is made of.
        manager: The sock id of its manager.

    Attributes:
        error: Why nothing could be submitted the last time.
        fit: Whether the pool has machines that are large enough.
        settled: Before that nothing is submitted; ``time.monotonic()``.
    """

    def __init__(self, parts: Parts, manager: str) -> None:
        self.error: SharedPortError | None = None
        self.fit = MachineFit()
        self.settled = time.monotonic() + parts.live.now.settle
        self._manager = manager
        self._parts = parts
        self._queue = parts.queue
        self._outdated = OutdatedJobs()
        self._surplus = Surplus(parts.queue, parts.counter)
        self._refusals = RefusalBackoff()
        self._view = ManagerView()
        self._package_written = False
        # Where the manager's name is looked up.
        self._searched = f" in or below {working_directory()}"

    @property
    def options(self) -> Options:
        """The options that hold now."""
        return self._parts.live.now

    def submit(self, view: ManagerView, now: float) -> Activity:
        """Submit what is wanted; return what there is to say about it."""
        self._view = view
        if not self._parts.live.are_known:
            return Activity(Phase.NO_OPTIONS)
        if view.answered is None:
            name = self.options.manager_name
            if name is not None and view.gone_since is not None:
                return Activity(
                    Phase.WAITING_FOR_MANAGER,
                    f"waiting for a manager called {name!r} to be started{self._searched}",
                )
            why = f": {view.error}" if view.error is not None else ""
            return Activity(Phase.WAITING_FOR_ANSWER, Phase.WAITING_FOR_ANSWER.text + why)
        if view.gone_since is not None:
            return Activity(Phase.MANAGER_GONE)
        if now - view.answered > _STALE_AFTER:
            return Activity(Phase.BUSY_MANAGER)
        assert view.status is not None
        if now < self.settled:
            return Activity(Phase.SETTLING)
        needed = workers_needed([view.status], self.options)
        self._surplus.remove(view, needed, self.options)
        replacing = self._replace_outdated()
        if plan(needed, self.options, self._parts.counter.counts()) == 0:
            return replacing or self._why_none(needed)
        backoff = self._parts.ledger.backoff
        pause = backoff.pause(now)
        if pause > 0:
            return Activity(
                Phase.WORKERS_FAIL,
                f"workers fail one after the other: the next one in {pause:.0f} s",
            )
        pause = self._refusals.pause(self._attempt(), now)
        if pause > 0:
            return self._not_taken(pause)
        with paths.manager_lock(self._manager, self.options.secret_file) as mine:
            if not mine:
                self._parts.monitor.news.set()  # soon again
                return Activity(Phase.OTHER_FACTORY)
            # Now nobody else's submission can come between.
            if not self._queue.query():
                return Activity(Phase.NO_SCHEDD)
            count = backoff.at_most(plan(needed, self.options, self._parts.counter.counts()))
            if count == 0:
                return self._why_none(needed)
            return self._submit_jobs(count, now)

    def _submit_jobs(self, count: int, now: float) -> Activity:
        try:
            description = self._parts.descriptions.get(self.options)
            for name, text in description.files.items():
                paths.write_file(os.path.join(self._parts.directory, name), text)
            if not self._package_written:
                write_package(os.path.join(self._parts.directory, PACKAGE))
                self._package_written = True
        except SharedPortError as error:
            self.error = error
            return Activity(Phase.NO_DESCRIPTION)
        except OSError as error:
            self.error = SettingError(
                f"cannot write into {self._parts.directory}: {error.strerror}",
                step="make room there, or start the factory with another directory=",
            )
            return Activity(Phase.NO_DESCRIPTION)
        try:
            cluster, count = self._submit_as_many_as_fit(description, count)
        except (ScheddError, SettingError) as error:
            self.error = error
            if self._refusals.refused(str(error), self._attempt(), now):
                log.warning("%s", error)
            return self._not_taken(self._refusals.pause(self._attempt(), now))
        self._refusals.accepted(count)
        self.error = None
        self._outdated.note(cluster, self.options, description, self._queue.table)
        submitted = Submitted(count, cluster)
        journal.record(submitted)
        return Activity(Phase.SUBMITTED, str(submitted))

    def _submit_as_many_as_fit(self, description: Description, count: int) -> tuple[int, int]:
        """Submit at most so many; return the cluster, and how many there are in it.

        Raises:
            ScheddError: The schedd takes none.
        """
        count = min(count, self._refusals.most or count)
        try:
            return self._queue.submit(description, count), count
        except ScheddError as error:
            if not error.room or error.room >= count:
                raise
            log.info("%s", error)
            self._refusals.most = error.room
            return self._queue.submit(description, error.room), error.room

    def _attempt(self) -> object:
        """Return what is refused: with other options, or a job less, it is tried at once."""
        try:
            recipe = self._parts.descriptions.get(self.options).recipe
        except SharedPortError:
            return None
        return recipe, self._parts.counter.counts().own

    def _not_taken(self, pause: float) -> Activity:
        cause = self.error.cause if self.error is not None else Phase.NOT_TAKEN.text
        return Activity(Phase.NOT_TAKEN, f"{cause}; tried again in {pause:.0f} s")

    def _why_none(self, needed: int) -> Activity:
        why = limit_reached(needed, self.options, self._parts.counter.counts())
        if self._view.error is not None:
            return Activity(
                Phase.BUSY_MANAGER,
                f"the manager does not answer; by what it said last, {why.message}",
            )
        if self.fit.problem is not None:
            return Activity(
                Phase.NO_MACHINE,
                f"{len(self.fit.problem.jobs)} jobs wait, and no machine is large enough",
            )
        since = time.time() - _LONG_IDLE
        waiting = [j for j in self._queue.table if j.state == "idle" and j.since < since]
        if not waiting or not self._queue.knows_host:
            return why
        first, options = waiting[0].id, self._queue.tool_options
        return Activity(
            Phase.WAITING_FOR_MACHINES,
            f"{why.message}; {len(waiting)} jobs have waited for a machine for more than a "
            f"minute: condor_q{options} -better-analyze {first} shows why",
        )

    def _replace_outdated(self) -> Activity | None:
        """Take back what waits with earlier options; return what there is to say about it.

        New ones come in the next cycle, when there is room for them.
        """
        if not self._queue.knows_host:
            return None  # they may be at work already
        options = self.options
        try:
            jobs = self._outdated.find(
                self._queue.table, options, lambda: self._parts.descriptions.get(options)
            )
        except SharedPortError as error:
            return Activity(
                Phase.NO_DESCRIPTION,
                f"jobs wait with earlier options, and new ones cannot be described: {error}",
            )
        if not jobs:
            return None
        if self._outdated.is_due(self.options.cycle) and self._queue.remove_waiting(
            jobs, "the factory's options have changed"
        ):
            self._outdated.note_replaced()
            self._parts.monitor.news.set()  # soon again
        return Activity(
            Phase.REPLACING,
            f"{len(jobs)} jobs wait with earlier options: they are replaced within a minute",
        )
