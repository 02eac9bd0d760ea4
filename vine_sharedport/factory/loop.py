"""The factory at work: looks at manager and jobs, submits, and tells what it knows."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from vine_sharedport.bundle.package import PACKAGE, write_package
from vine_sharedport.condor.tail import Tails
from vine_sharedport.errors import NoStatusError, ScheddError, SettingError, SharedPortError
from vine_sharedport.events import Ended, Ending, LeftBehind, Submitted
from vine_sharedport.factory.demand import (
    Counts,
    limit_reached,
    plan,
    within_limits,
    workers_needed,
)
from vine_sharedport.factory.jobs.description import Description, describe
from vine_sharedport.factory.jobs.hold_repair import Mender
from vine_sharedport.factory.jobs.ledger import Account
from vine_sharedport.factory.jobs.machine_fit import Fit
from vine_sharedport.factory.jobs.outdated import Renewal
from vine_sharedport.factory.jobs.queue import Queue
from vine_sharedport.factory.jobs.removal import Removal
from vine_sharedport.factory.jobs.worker_match import worker_address
from vine_sharedport.factory.manager_view.monitor import ManagerView, Watch
from vine_sharedport.factory.manager_view.routes import SHARED_PORT, TCP, routes
from vine_sharedport.factory.options.live import LiveOptions
from vine_sharedport.factory.options.schema import Options, contradiction, remarks
from vine_sharedport.factory.other_manager import place_elsewhere, remove_elsewhere
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.phase import Phase, Told, journal
from vine_sharedport.factory.report.prometheus import format_prometheus
from vine_sharedport.factory.report.record import (
    ManagerReport,
    Problem,
    WorkerCounts,
    WorkerSize,
)
from vine_sharedport.factory.report.runs import is_typed, typed
from vine_sharedport.factory.report.snapshot import Snapshot
from vine_sharedport.factory.submission.location import Place
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

# How old the manager's last answer may be for new workers to be submitted by it.
_STALE_AFTER = 60.0

# Seconds after which a pool with a free machine would have found it (NEGOTIATOR_INTERVAL).
_LONG_IDLE = 60.0


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
        self._pid = pid
        self._owner = owner
        self._prometheus_file = prometheus_file
        self._stop: Told | None = None
        self._submit_error: str | None = None
        kept = Place.read(directory)
        self._live = LiveOptions(directory, must_begin=kept is not None)
        self._package_written = False
        self._described: tuple[Any, Description] | None = None
        place = self._place_of_jobs(kept)
        where = place.where
        self._manager = place.manager
        self._queue = Queue(directory, factory=self.id, place=place)
        self._started = _begin(directory)
        self._tails = None if where.grid is not None else Tails(where.schedd, where.pool)
        self._account = Account(
            self._queue.table,
            directory,
            lambda: self.options.timeout,
            self._tails,
            since=self._started,
        )
        self._mender = Mender(self._queue)
        self._renewal = Renewal()
        self._fit = Fit()
        self._view = ManagerView()
        asked = self.options.reference if self.options.address else None
        self._watch = Watch(asked, lambda: self.options.cycle)
        self._routes: dict[str, str] = {}
        self._strangers = 0  # workers by the shared port that are no job's
        self._began = time.monotonic()
        self._settled = self._began + self.options.settle  # before that nothing is submitted
        self._left_behind = True  # there may be jobs of a factory that was killed
        self._place = place
        self._elsewhere = place_elsewhere(kept, where)
        self._elsewhere_problem: Problem | None = None
        self._needed = 0
        self._now = Told(Phase.STARTING)
        self._told: Any = None
        self._write_error = ""
        self._where_looked = ""  # for the manager's name
        with contextlib.suppress(OSError):  # it was removed
            self._where_looked = f" in or below {os.getcwd()}"
        if not self.options.address:
            text = Phase.CONFIGURATION.text
            self.stop(Told(Phase.CONFIGURATION, f"{text}: {self._live.error}"))

    def _place_of_jobs(self, kept: Place | None) -> Place:
        """Return where the jobs are: as they would be submitted, or else as they were.

        Raises:
            SettingError: None was submitted yet, and none can be.
        """
        try:
            description = self._describe()
        except SettingError as error:
            if kept is None:
                raise
            self._submit_error = str(error)
            return kept
        return Place(
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
        return self._watch.view.answered is None

    def leave(self) -> None:
        """Ask the manager and the jobs no more; they stay."""
        self._watch.close()
        if self._tails is not None:
            self._tails.close()

    def stop(self, reason: Told) -> None:
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
        self._tell("running")
        if self._elsewhere is not None:
            self._elsewhere_problem = remove_elsewhere(
                self.directory, self.id, self._elsewhere, self._place
            )
        if ending:
            self._now = self._stop or Told(Phase.LEFT_JOBS)
        elif self._stop is not None:
            self._now = self._stop
        else:
            self._work(check)
        self._end()

    def _work(self, check: Callable[[], None]) -> None:
        """Do one cycle after the other until there is a reason to end."""
        self._left_behind = not self._queue.remove_left_behind()
        self._watch.start()
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
        self._watch.news.clear()
        # One for the whole cycle: the thread may hear of workers that the log, read by now,
        # does not show running, and they would count as others'.
        view = self._view = self._watch.view
        # After the manager's answer, and before anything is done about it: the manager answers
        # inside its program's wait() alone, so what that has set before wait() is there now.
        self._follow_options()
        now = time.monotonic()
        doubt = self._strangers > 0 and self._queue.others.counts()["idle"] > 0
        self._queue.follow(doubt=doubt)
        self._account.note(self._queue.take_changed())
        if self._left_behind and self._queue.is_known:
            self._left_behind = not self._queue.remove_left_behind()
        self._join(view, now)
        self._mender.look(repair=self.options.repair)
        if view.status is not None:
            self._needed = within_limits(
                workers_needed([view.status], self.options), self.options
            )
        if self._described is not None:
            self._fit.look(self._queue.table, self._described[1])
        self._now = self._submit(now)
        self._account.note(self._queue.take_changed())
        self._queue.renew_lease()
        self._tell("running")
        self._account.forget()

    def _join(self, view: ManagerView, now: float) -> None:
        """Find out which job is which of the manager's workers."""
        addresses = [worker_address(worker) for worker in view.workers]
        port = (view.status or {}).get("port")
        self._routes = routes(addresses, port) if isinstance(port, int) else {}
        # Ours come by the shared port: their launcher knows no other way.
        candidates = [
            worker
            for worker, address in zip(view.workers, addresses)
            if self._routes.get(address) != TCP
        ]
        moment = time.time()
        age = now if view.answered is None else now - view.answered
        strangers = self._queue.join(candidates, now=moment, told=moment - age)
        # Of those that it had told, some were of jobs that have ended since.
        gone = view.gone_since is not None
        self._strangers = min(strangers, self._strangers) if gone else strangers
        self._account.look(view, now)

    def _submit(self, now: float) -> Told:
        """Submit what is wanted; return what there is to say about it."""
        view = self._view
        if not self._live.are_known:
            return Told(Phase.NO_OPTIONS)
        if view.answered is None:
            name = self.options.manager_name
            if name is not None and view.gone_since is not None:
                return Told(
                    Phase.WAITING_FOR_MANAGER,
                    f"waiting for a manager called {name!r} to be started{self._where_looked}",
                )
            why = f": {view.error}" if view.error is not None else ""
            return Told(Phase.WAITING_FOR_ANSWER, Phase.WAITING_FOR_ANSWER.text + why)
        if view.gone_since is not None:
            return Told(Phase.MANAGER_GONE)
        if now - view.answered > _STALE_AFTER:
            return Told(Phase.BUSY_MANAGER)
        assert view.status is not None
        if now < self._settled:
            return Told(Phase.SETTLING)
        needed = workers_needed([view.status], self.options)
        self._remove_surplus()
        replacing = self._replace_outdated()
        if plan(needed, self.options, self._counts()) == 0:
            return replacing or self._why_none(needed)
        brake = self._account.brake
        pause = brake.pause(now)
        if pause > 0:
            return Told(
                Phase.WORKERS_FAIL,
                f"workers fail one after the other: the next one in {pause:.0f} s",
            )
        with paths.manager_lock(self._manager, self.options.secret_file) as mine:
            if not mine:
                self._watch.news.set()  # soon again
                return Told(Phase.OTHER_FACTORY)
            # Now nobody else's submission can come between.
            if not self._queue.ask():
                return Told(Phase.NO_SCHEDD)
            count = brake.at_most(plan(needed, self.options, self._counts()))
            if count == 0:
                return self._why_none(needed)
            return self._submit_jobs(count)

    def _submit_jobs(self, count: int) -> Told:
        try:
            description = self._describe()
            for name, text in description.files.items():
                paths.write_file(os.path.join(self.directory, name), text)
            if not self._package_written:
                write_package(os.path.join(self.directory, PACKAGE))
                self._package_written = True
        except (SharedPortError, OSError) as error:
            self._submit_error = str(error)
            return Told(Phase.NO_DESCRIPTION)
        try:
            cluster = self._queue.submit(description, count)
        except (ScheddError, SettingError) as error:
            log.warning("%s", error)
            self._submit_error = str(error)
            return Told(Phase.NOT_TAKEN)
        self._submit_error = None
        self._renewal.note(cluster, self.options, description, self._queue.table)
        submitted = Submitted(count, cluster)
        journal.tell(submitted)
        return Told(Phase.SUBMITTED, str(submitted))

    def _describe(self) -> Description:
        """Return what to submit; made anew when options change, and for the lease's sake."""
        old = self._described
        if (
            old is None
            or old[0][0] is not self.options
            or time.monotonic() - old[0][1] > old[1].lease / 3
        ):
            made = describe(self.options, self.directory, factory=self.id, now=time.time())
            old = self._described = ((self.options, time.monotonic()), made)
        return old[1]

    def _why_none(self, needed: int) -> Told:
        why = limit_reached(needed, self.options, self._counts())
        if self._view.error is not None:
            return Told(
                Phase.BUSY_MANAGER,
                f"the manager does not answer; by what it said last, {why.message}",
            )
        if self._fit.problem is not None:
            return Told(
                Phase.NO_MACHINE,
                f"{len(self._fit.problem.jobs)} jobs wait, and no machine is large enough",
            )
        since = time.time() - _LONG_IDLE
        waiting = [j for j in self._queue.table if j.state == "idle" and j.since < since]
        if not waiting or not self._queue.tells_host:
            return why
        first, options = waiting[0].id, self._queue.tool_options
        return Told(
            Phase.WAITING_FOR_MACHINES,
            f"{why.message}; {len(waiting)} jobs have waited for a machine for more than a "
            f"minute: condor_q{options} -better-analyze {first} tells why",
        )

    def _counts(self, *, doubt: bool = False) -> Counts:
        """Return what there is, as ``plan`` wants it.

        Args:
            doubt: Workers that seem to be others' may belong to jobs that seem to wait.
        """
        found, others = self._queue.table.counts(), self._queue.others.counts()
        strangers = self._strangers
        if doubt or not self._queue.tells_host:
            # The schedd hears late that a job runs elsewhere: its worker may be connected
            # while the job seems to wait, and must not count as another's.
            strangers -= min(strangers, found["idle"])
        return Counts(
            idle=found["idle"],
            running=found["running"],
            connected=found["connected"],
            held=found["held"],
            other_idle=others["idle"] + others["held"],
            other_running=others["running"],
            strangers=strangers + self._by_tcp,
        )

    @property
    def _by_tcp(self) -> int:
        """Workers that came by the manager's own port."""
        return sum(way == TCP for way in self._routes.values())

    def _remove_surplus(self) -> None:
        """Take back jobs that wait for a machine and are above ``max_workers``."""
        if not self._queue.tells_host:
            return  # they may be at work already
        counts = self._counts(doubt=True)
        surplus = min(counts.idle, counts.own + counts.others - self.options.max_workers)
        if surplus > 0:
            idle = [job for job in self._queue.table if job.state == "idle"]
            self._queue.remove_waiting(idle[-surplus:], "above the factory's max_workers")

    def _replace_outdated(self) -> Told | None:
        """Take back what waits with earlier options; return what there is to say about it.

        New ones come in the next cycle, when there is room for them.
        """
        if not self._queue.tells_host:
            return None  # they may be at work already
        try:
            jobs = self._renewal.outdated(self._queue.table, self.options, self._describe)
        except SharedPortError as error:
            return Told(
                Phase.NO_DESCRIPTION,
                f"jobs wait with earlier options, and new ones cannot be described: {error}",
            )
        if not jobs:
            return None
        if self._renewal.is_due(self.options.cycle) and self._queue.remove_waiting(
            jobs, "the factory's options have changed"
        ):
            self._renewal.note_replaced()
            self._watch.news.set()  # soon again
        return Told(
            Phase.REPLACING,
            f"{len(jobs)} jobs wait with earlier options: they are replaced within a minute",
        )

    # --- waiting and ending

    def _pause(self, check: Callable[[], None]) -> None:
        """Wait for news, at most a cycle."""
        now = time.monotonic()
        until = now + self.options.cycle
        if now < self._settled:
            until = min(until, self._settled)
        while time.monotonic() < until:
            if self._watch.news.wait(_TICK):
                time.sleep(0.05)  # two factories that take turns
                return
            check()
            if self._reason_to_end() is not None or self._follow_options():
                return

    def _follow_options(self) -> bool:
        """Read the options again if they have changed; return whether they have."""
        changed = self._live.follow()
        now = time.monotonic()
        if changed and now < self._settled:
            self._settled = now + self.options.settle
        return changed

    def _reason_to_end(self) -> Told | None:
        if self._stop is not None:
            return self._stop
        if self._owner is not None and not is_alive(self._owner):
            return Told(Phase.PROGRAM_ENDED)
        now = time.monotonic()
        view = self._watch.view
        patience = _GONE_AFTER if self._owner is None else _GONE_AFTER_WITH_OWNER
        # The log has told the table of earlier jobs, too.
        known = view.answered is not None or any(job.left for job in self._queue.table)
        if known and view.gone_since is not None and now - view.gone_since > patience:
            log.info("%s", view.error)
            return Told(
                Phase.MANAGER_ENDED,
                f"the manager has ended: nobody has answered for it for {patience:g} s",
            )
        limit = self.options.factory_timeout
        last = view.answered if view.answered is not None else self._began
        if limit and view.error is not None and now - last > limit:
            return Told(
                Phase.NO_MANAGER, f"no manager for {limit} s (factory_timeout): {view.error}"
            )
        return None

    def _end(self) -> None:
        """Remove the jobs, and wait until they are gone."""
        phase, reason, self._needed = self._now.phase, self._now.message, 0
        journal.tell(Ending(reason))
        removal = Removal(self._queue, reason)
        while not removal.is_over:
            self._account.note(self._queue.take_changed())
            self._now = Told(phase, f"{reason}; removing the jobs")
            self._tell("ending")
            removal.go_on()
        self._queue.follow()
        self._account.note(self._queue.take_changed())
        self._now = Told(phase, f"{reason}; {removal.remark}" if removal.remark else reason)
        if removal.is_done and not removal.remark:
            Place.forget(self.directory)
        self._tell("ended")
        journal.tell((Ended if removal.is_done else LeftBehind)(phase, self._now.message))
        if phase is Phase.MANAGER_ENDED and is_typed():
            # Without a name of its own, the manager has another address then.
            step = typed() if self.options.manager_name else "--address as it tells then"
            log.info("when its program runs again, start a factory again: %s", step)

    # --- telling

    def _tell(self, state: str) -> None:
        """Write the status."""
        snapshot = self._snapshot(state)
        try:
            paths.write_status(self.directory, snapshot)
            if self._prometheus_file is not None:
                # The exporter that reads it is another user.
                text = format_prometheus(snapshot)
                paths.write_file(self._prometheus_file, text, mode=0o644)
        except SettingError as error:
            if str(error) != self._write_error:
                log.warning("%s", error)
            self._write_error = str(error)
        told = (snapshot.workers, snapshot.needed, snapshot.message)
        if told != self._told:
            self._told = told
            workers = snapshot.workers
            log.info(
                "needed %d, idle %d, running %d (connected %d), held %d, ended %d, others %d: "
                "%s",
                snapshot.needed, workers.idle, workers.running, workers.connected,
                workers.held, workers.ended, workers.others, snapshot.message,
            )  # fmt: skip

    def _snapshot(self, state: str) -> Snapshot:
        now = time.time()
        options = self.options
        counts = self._queue.table.counts()
        totals = self._account.totals()
        return Snapshot(
            time=now,
            factory=self.id,
            pid=self._pid,
            state=state,
            message=self._now.message,
            phase=self._now.phase.value,
            directory=self.directory,
            manager=self._manager_report(state),
            min_workers=self.options.least_workers,
            max_workers=self.options.max_workers,
            needed=self._needed,
            submitted=totals["submitted"],
            workers=WorkerCounts(
                idle=counts["idle"],
                running=counts["running"],
                connected=counts["connected"],
                not_connected=counts["running"] - counts["connected"],
                held=counts["held"],
                ended=totals["ended"],
                failed=totals["failed"],
                evicted=totals["evicted"],
                others=self._counts().others,
            ),
            jobs=tuple(self._account.reports(now)),
            problems=tuple(self._problems()),
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
        view = self._watch.view
        if state != "running":
            # The last numbers are older than the end of its work, which it tells nobody.
            name = self._manager_name(view.status or {})
            return ManagerReport(address=self.options.address, name=name)
        status = view.status or {}
        ways = Counter(self._routes.values())
        is_known = bool(ways) or not view.workers
        return ManagerReport(
            address=self.options.address,
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
        )

    def _manager_name(self, status: Mapping[str, Any]) -> str | None:
        """Return what the manager calls itself, or else the name that it is known by here."""
        said = status.get("project")
        return said if said and isinstance(said, str) else self.options.manager_name

    def _problems(self) -> list[Problem]:
        found = []
        if self._elsewhere_problem is not None:
            found.append(self._elsewhere_problem)
        if self._live.error is not None:
            found.append(Problem("configuration", self._live.error, "correct the file"))
        wrong = contradiction(self.options)
        if wrong is not None:
            explanation, remedy = wrong
            explanation += f": {self.options.max_workers} holds for both"
            found.append(Problem("configuration", explanation, remedy))
        if self._submit_error is not None:
            found.append(Problem("submission", self._submit_error, "see the message"))
        if self._queue.error is not None:
            found.append(
                Problem("schedd", self._queue.error, "the factory tries again by itself")
            )
        if self._fit.problem is not None and self._queue.table.counts()["idle"]:
            found.append(self._fit.problem)
        account = self._account
        return [*found, *self._mender.problems(), *account.containers(), *account.failures()]


def _begin(directory: str) -> float:
    """Return when the factory was started: now, or before its process was started again."""
    with contextlib.suppress(NoStatusError):
        before = paths.read_status(directory)
        if before.state != "ended" and before.started:
            return before.started
    return time.time()


def _number(status: Mapping[str, Any], name: str) -> int:
    value = status.get(name)
    return int(value) if isinstance(value, (int, float)) else 0
