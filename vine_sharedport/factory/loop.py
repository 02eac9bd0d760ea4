"""The factory at work: one cycle after the other, until something ends it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

from vine_sharedport.condor.tail import Tails
from vine_sharedport.errors import NoStatusError, SettingError
from vine_sharedport.events import Ended, Ending, LeftBehind
from vine_sharedport.factory.demand import within_limits, workers_needed
from vine_sharedport.factory.jobs.counts import WorkerCounter
from vine_sharedport.factory.jobs.description import DescriptionCache
from vine_sharedport.factory.jobs.hold_repair import HoldRepair
from vine_sharedport.factory.jobs.ledger import Ledger
from vine_sharedport.factory.jobs.queue import Queue
from vine_sharedport.factory.jobs.removal import Removal
from vine_sharedport.factory.leftovers import leftovers_location, remove_at_other_schedd
from vine_sharedport.factory.manager_view.monitor import ManagerMonitor
from vine_sharedport.factory.options.live import LiveOptions
from vine_sharedport.factory.options.schema import Options, remarks
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.phase import Activity, Phase, journal
from vine_sharedport.factory.report.runs import is_typed, typed
from vine_sharedport.factory.status import StatusWriter
from vine_sharedport.factory.submission.location import JobLocation
from vine_sharedport.factory.submitter import Parts, Submitter
from vine_sharedport.supervision import Process, is_alive

__all__ = ["Loop"]

log = logging.getLogger(__name__)

# Seconds between two looks at what must be noticed at once.
_TICK = 0.2

# How long the manager must not be there until it has ended. One that was started again
# under its old name is back by then. With its program alive it may be HTCondor that
# restarts, and the socket that is made anew.
_GONE_AFTER = 20.0
_GONE_AFTER_WITH_OWNER = 120.0


class Loop:
    """One factory.

    Args:
        directory: Its directory, absolute; has its configuration.
        pid: The process to name in the status.
        owner: The process with which it ends; None: it ends with the manager alone.
        prometheus_file: File for Prometheus's textfile collector, written at each cycle.
    """

    def __init__(
        self,
        directory: str,
        *,
        pid: int,
        owner: Process | None = None,
        prometheus_file: str | None = None,
    ) -> None:
        self.directory = directory
        self.id = paths.factory_id(directory)
        self._owner = owner
        self._stop: Activity | None = None
        kept = JobLocation.read(directory)
        self._live = LiveOptions(directory, must_begin=kept is not None)
        self._descriptions = DescriptionCache(directory, self.id)
        submit_error: SettingError | None = None
        try:
            self._place = self._place_of_jobs()
        except SettingError as error:
            if kept is None:
                raise
            self._place, submit_error = kept, error
        where = self._place.where
        self._queue = Queue(directory, factory=self.id, place=self._place)
        started = _begin(directory)
        self._ledger = Ledger(
            self._queue.table,
            directory,
            lambda: self.options.timeout,
            None if where.grid is not None else Tails(where.schedd, where.pool),
            since=started,
        )
        self._repairs = HoldRepair(self._queue)
        asked = self.options.reference if self.options.address else None
        self._monitor = ManagerMonitor(asked, lambda: self.options.cycle)
        self._counter = WorkerCounter(self._queue, lambda: self.options.timeout)
        parts = Parts(
            directory,
            self._live,
            self._descriptions,
            self._monitor,
            self._queue,
            self._counter,
            self._ledger,
            self._repairs,
        )
        self._submitter = Submitter(parts, self._place.manager)
        self._submitter.error = submit_error
        self._status = StatusWriter(
            parts, self._submitter, pid=pid, started=started, prometheus_file=prometheus_file
        )
        self._began = time.monotonic()
        self._left_behind = True  # there may be jobs of a factory that was killed
        self._elsewhere = leftovers_location(kept, where)
        self._needed = 0
        self._now = Activity(Phase.STARTING)
        if not self.options.address:
            text = Phase.CONFIGURATION.text
            self.stop(Activity(Phase.CONFIGURATION, f"{text}: {self._live.error}"))

    def _place_of_jobs(self) -> JobLocation:
        """Return where jobs would be submitted.

        Raises:
            SettingError: They cannot be described.
        """
        description = self._descriptions.get(self.options)
        return JobLocation(
            self.options.reference.sock_id,
            description.where,
            description.log,
            description.lease,
        )

    @property
    def options(self) -> Options:
        """The options that hold now."""
        return self._live.now

    @property
    def is_waiting(self) -> bool:
        """Whether no manager has answered yet."""
        return self._monitor.view.answered is None

    def leave(self) -> None:
        """Ask the manager and the jobs no more; they stay."""
        self._monitor.close()
        self._ledger.close()

    def stop(self, reason: Activity) -> None:
        """End soon; for signal handlers."""
        self._stop = self._stop or reason

    def run(self, *, check: Callable[[], None] = lambda: None, ending: bool = False) -> None:
        """Work until something ends it, then remove the jobs.

        Args:
            check: Called some times a second; what it raises goes through, and leaves
                the jobs as they are.
            ending: Only remove the jobs.
        """
        for remark in remarks(self.options):
            log.warning("%s", remark)
        log.info("factory %s for %s in %s", self.id, self.options.address, self.directory)
        self._write_status("running")
        if self._elsewhere is not None:
            self._status.leftovers = remove_at_other_schedd(
                self.directory, self.id, self._elsewhere, self._place
            )
        if ending:
            self._now = self._stop or Activity(Phase.LEFT_JOBS)
        elif self._stop is not None:
            self._now = self._stop
        else:
            self._work(check)
        self._end()

    def _work(self, check: Callable[[], None]) -> None:
        """Do one cycle after the other until there is a reason to end."""
        self._left_behind = not self._queue.remove_left_behind()
        self._monitor.start()
        while True:
            reason = self._reason_to_end()
            if reason is not None:
                self._now = reason
                return
            self._cycle()
            self._pause(check)

    # --- one cycle

    def _cycle(self) -> None:
        """Look, decide, submit, tell."""
        self._monitor.news.clear()
        # One for the whole cycle: the thread may hear of workers that the log, read by now,
        # does not show running, and they would count as others'.
        view = self._monitor.view
        # After the manager's answer, and before anything is done about it: the manager answers
        # inside its program's wait() alone, so what that has set before wait() is there now.
        self._follow_options()
        now = time.monotonic()
        self._queue.follow(doubt=self._counter.is_in_doubt)
        self._ledger.note(self._queue.take_changed())
        if self._left_behind and self._queue.is_known:
            self._left_behind = not self._queue.remove_left_behind()
        self._counter.join(view, now)
        self._ledger.update(view, now, self._counter.silences, self._counter.lost)
        self._repairs.update(repair=self.options.repair)
        if view.status is not None:
            self._needed = within_limits(
                workers_needed([view.status], self.options), self.options
            )
        if self._descriptions.last is not None:
            self._submitter.fit.update(self._queue.table, self._descriptions.last)
        self._now = self._submitter.submit(view, now)
        self._ledger.note(self._queue.take_changed())
        self._queue.renew_lease()
        self._write_status("running")
        self._ledger.forget()

    # --- waiting and ending

    def _pause(self, check: Callable[[], None]) -> None:
        """Wait for news, at most a cycle."""
        now = time.monotonic()
        until = now + self.options.cycle
        if now < self._submitter.settled:
            until = min(until, self._submitter.settled)
        while time.monotonic() < until:
            if self._monitor.news.wait(_TICK):
                time.sleep(0.05)  # two factories that take turns
                return
            check()
            if self._reason_to_end() is not None or self._follow_options():
                return

    def _follow_options(self) -> bool:
        """Read the options again if they have changed; return whether they have."""
        changed = self._live.follow()
        now = time.monotonic()
        if changed and now < self._submitter.settled:
            self._submitter.settled = now + self.options.settle
        return changed

    def _reason_to_end(self) -> Activity | None:
        if self._stop is not None:
            return self._stop
        if self._owner is not None and not is_alive(self._owner):
            return Activity(Phase.PROGRAM_ENDED)
        now = time.monotonic()
        view = self._monitor.view
        patience = _GONE_AFTER if self._owner is None else _GONE_AFTER_WITH_OWNER
        # The log has told the table of earlier jobs, too.
        known = view.answered is not None or any(job.left for job in self._queue.table)
        if known and view.gone_since is not None and now - view.gone_since > patience:
            log.info("%s", view.error)
            return Activity(
                Phase.MANAGER_ENDED,
                f"the manager has ended: nobody has answered for it for {patience:g} s",
            )
        limit = self.options.factory_timeout
        last = view.answered if view.answered is not None else self._began
        if limit and view.error is not None and now - last > limit:
            return Activity(
                Phase.NO_MANAGER, f"no manager for {limit} s (factory_timeout): {view.error}"
            )
        return None

    def _end(self) -> None:
        """Remove the jobs, and wait until they are gone."""
        phase, reason, self._needed = self._now.phase, self._now.message, 0
        journal.record(Ending(reason))
        removal = Removal(self._queue, reason)
        while not removal.is_over:
            self._ledger.note(self._queue.take_changed())
            self._now = Activity(phase, f"{reason}; removing the jobs")
            self._write_status("ending")
            removal.go_on()
        self._queue.follow()
        self._ledger.note(self._queue.take_changed())
        self._now = Activity(phase, f"{reason}; {removal.remark}" if removal.remark else reason)
        if removal.is_done and not removal.remark:
            JobLocation.forget(self.directory)
        self._write_status("ended")
        journal.record((Ended if removal.is_done else LeftBehind)(phase, self._now.message))
        if phase is Phase.MANAGER_ENDED and is_typed():
            # Without a name of its own, the manager has another address then.
            step = typed() if self.options.manager_name else "--address with its new address"
            log.info("when its program runs again, start a factory again: %s", step)

    def _write_status(self, state: str) -> None:
        self._status.write(state, self._now, self._needed)


def _begin(directory: str) -> float:
    """Return when the factory was started: now, or before its process was started again."""
    with contextlib.suppress(NoStatusError):
        before = paths.read_status(directory)
        if before.state != "ended" and before.started:
            return before.started
    return time.time()
