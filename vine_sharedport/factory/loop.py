"""The factory at work: looks at manager and jobs, submits, and tells what it knows."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from vine_sharedport.errors import LaunchError, SharedPortError
from vine_sharedport.factory import files
from vine_sharedport.factory.ask import ManagerPlace
from vine_sharedport.factory.brake import EXIT_REASONS, Brake, has_failed
from vine_sharedport.factory.demand import Counts, plan, within_limits, workers_needed
from vine_sharedport.factory.description import (
    FACTORY_ATTRIBUTE,
    LEASE,
    LEASE_ATTRIBUTE,
    MANAGER_ATTRIBUTE,
    Description,
    describe,
)
from vine_sharedport.factory.holds import Cause, explain_hold
from vine_sharedport.factory.jobs import QUEUE_ATTRIBUTES, Job, JobTable
from vine_sharedport.factory.options import CHANGEABLE, Options, read_config, remarks
from vine_sharedport.factory.report import (
    JobReport,
    ManagerReport,
    Problem,
    Snapshot,
    WorkerCounts,
    format_prometheus,
)
from vine_sharedport.factory.watch import ManagerView, Watch
from vine_sharedport.pool._guardian import Process, is_alive
from vine_sharedport.pool.jobs import Event, EventLog, Schedd
from vine_sharedport.pool.worker_job import address_of
from vine_sharedport.worker.bundle import PACKAGE, write_package

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

# How long an end waits for a schedd that does not answer; the jobs' lease is shorter.
_END_TIMEOUT = 1800.0
# And for one whose configuration has gone too, as that of a personal pool does.
_POOL_GONE_AFTER = 5.0
# And for running workers to be gone after their removal.
_REMOVAL_TIMEOUT = 20.0

# The queue is asked as often where there is a log, to find what that did not tell.
_QUEUE_INTERVAL = 60.0

# How often a job is mended and released.
_REPAIRS = 2
_REPAIRS_ATTRIBUTE = "VineSharedPortRepairs"

_KEPT_ENDED = 100
_FORGET_AFTER = 3600.0
_LAST_LINE = 300

_HOLD_ATTRIBUTES = ["ClusterId", "ProcId", "Cmd", "RequestMemory", "RequestDisk"]


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
        self.id = files.factory_id(directory)
        self._pid = pid
        self._owner = owner
        self._prometheus_file = prometheus_file
        self._stop: str | None = None
        self._config_marks: tuple[Any, ...] = ()
        self._base = read_config(os.path.join(directory, files.CONFIG))
        self.options = self._base
        self._config_error: str | None = None
        self._config_changed()
        self._read_user_config()
        self._package_written = False
        self._described: tuple[Any, Description] | None = None
        description = self._describe()
        self._schedd = Schedd(description.where.schedd, description.where.pool)
        self._where = description.where
        self._log: EventLog | None = None
        if description.where.has_log and description.log is not None:
            self._log = EventLog(os.path.join(directory, description.log))
        address = self.options.address
        assert address is not None  # describe() has refused anything else
        self._manager = str(address_of(address).sock)
        self._view = ManagerView()
        self._watch = Watch(ManagerPlace.of(self.options), lambda: self.options.cycle)
        self._table = JobTable()
        self._brake = Brake()
        self._worked: set[str] = set()
        self._seen_manager: float | None = None
        self._began = time.monotonic()
        # Whether the queue has to be asked before anything is submitted: at the beginning
        # there may be jobs of an earlier process, after a failure nobody knows.
        self._queue_known = False
        self._queue_asked = 0.0
        self._left_behind = True  # there may be jobs of a factory that was killed
        self._others = Counts()
        self._unmatched = 0  # the manager's workers that are no job of ours
        self._lease_renewed = time.monotonic()
        self._needed = 0
        self._message = "starting"
        self._schedd_error: str | None = None
        self._submit_error: str | None = None
        self._causes: dict[str, tuple[Cause, bool, float]] = {}
        self._lines: dict[str, str | None] = {}
        self._forgotten = {"submitted": 0, "ended": 0, "failed": 0, "evicted": 0}
        self._told: Any = None

    def stop(self, reason: str) -> None:
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
        if self.options.manager_name is not None and self.options.secret_file is None:
            log.warning(
                "no secret file is given, and there is no *-run-info/shared_port-%s.secret "
                "where the factory was started: a manager with a gate will not answer; give "
                "--secret-file, or start the factory where the manager was started",
                self._manager,
            )  # fmt: skip
        if not ending:
            self._tell("running")
            self._left_behind = not self._remove_left_behind()
            self._watch.start()
        else:
            self._message = "told to remove the jobs that are left"
        while not ending:
            reason = self._reason_to_end()
            if reason is not None:
                self._message = reason
                break
            self._cycle()
            self._pause(check)
        self._end(check)

    # --- one cycle

    def _cycle(self) -> None:
        """Look, decide, submit, tell."""
        self._watch.news.clear()
        # One for the whole cycle: the thread may hear of workers that the log, read by now,
        # does not show running, and they would count as others'.
        view = self._view = self._watch.view
        now = time.monotonic()
        if view.answered is not None:
            self._seen_manager = view.answered
        self._follow_jobs()
        if self._left_behind and self._queue_known:
            self._left_behind = not self._remove_left_behind()
        age = now if view.answered is None else now - view.answered
        moment = time.time()
        self._unmatched = len(self._table.join(view.workers, now=moment, told=moment - age))
        self._worked |= {job.id for job in self._table if job.connected}
        self._brake.look(self._table, self._worked, now)
        self._look_at_holds()
        if view.status is not None:
            self._needed = within_limits(
                workers_needed([view.status], self.options), self.options
            )
        self._message = self._submit(now)
        self._renew_lease(now)
        self._tell("running")
        self._forget()

    def _submit(self, now: float) -> str:
        """Submit what is wanted; return what there is to say about it."""
        view = self._view
        if view.answered is None:
            return "waiting for the manager's first answer"
        if now - view.answered > _STALE_AFTER:
            return "the manager does not answer: nothing is submitted"
        assert view.status is not None
        needed = workers_needed([view.status], self.options)
        self._remove_surplus()
        if plan(needed, self.options, self._counts()) == 0:
            return self._why_none(needed)
        pause = self._brake.pause(now)
        if pause > 0:
            return f"workers fail one after the other: the next one in {pause:.0f} s"
        with files.manager_lock(self._manager) as mine:
            if not mine:
                self._watch.news.set()  # soon again
                return "another factory of this manager is submitting"
            # Now nobody else's submission can come between.
            if not self._ask_queue(time.monotonic()):
                return "the schedd does not answer: nothing is submitted"
            count = self._brake.at_most(plan(needed, self.options, self._counts()))
            if count == 0:
                return self._why_none(needed)
            return self._submit_jobs(count)

    def _submit_jobs(self, count: int) -> str:
        try:
            description = self._describe()
            for name, text in description.files.items():
                files.write_atomically(os.path.join(self.directory, name), text)
            if not self._package_written:
                write_package(os.path.join(self.directory, PACKAGE))
                self._package_written = True
        except (SharedPortError, OSError) as error:
            self._submit_error = str(error)
            return "the workers cannot be described: nothing is submitted"
        # Until the schedd has said yes or no, it may have them.
        self._queue_known = False
        try:
            cluster = self._schedd.submit(
                description.text, count, spool=description.where.spool
            )
        except LaunchError as error:
            log.warning("%s", error)
            self._submit_error = str(error)
            return "the schedd does not take the jobs"
        self._queue_known = True
        self._submit_error = None
        moment = time.time()
        # The log may tell later, and they must not be submitted once more meanwhile.
        self._table.apply(Event("SUBMIT", cluster, proc, moment) for proc in range(count))
        self._forget_replaced()
        return f"submitted {count} workers as cluster {cluster}"

    def _why_none(self, needed: int) -> str:
        counts = self._counts()
        wanted = within_limits(needed, self.options)
        have = counts.own + counts.others
        if have >= wanted:
            if counts.held and have - counts.held < wanted:
                return f"{counts.held} held jobs stand for workers that are needed"
            if needed > self.options.max_workers:
                return "max_workers is reached"
            return "there are as many workers as are needed"
        if self.options.max_idle is not None and counts.idle >= self.options.max_idle:
            return f"max_idle={self.options.max_idle} jobs wait for a machine already"
        return f"workers_per_cycle={self.options.workers_per_cycle} are on their way already"

    def _counts(self, *, doubt: bool = False) -> Counts:
        """Return what there is, as ``plan`` wants it.

        Args:
            doubt: Workers that seem to be others' may belong to jobs that seem to wait.
        """
        found = self._table.counts()
        known = len(self._view.workers)
        if doubt or not self._where.tells_host:
            # The schedd hears late that a job runs elsewhere: its worker may be connected
            # while the job seems to wait, and must not count as another's.
            known -= min(self._unmatched, found["idle"])
        return Counts(
            idle=found["idle"],
            running=found["running"],
            connected=found["connected"],
            held=found["held"],
            other_idle=self._others.other_idle,
            other_running=self._others.other_running,
            manager_workers=known,
        )

    def _remove_surplus(self) -> None:
        """Take back jobs that wait for a machine and are above ``max_workers``."""
        if not self._where.tells_host:
            return  # they may be at work already
        counts = self._counts(doubt=True)
        surplus = min(counts.idle, counts.own + counts.others - self.options.max_workers)
        if surplus <= 0:
            return
        idle = [job for job in self._table if job.state == "idle"][-surplus:]
        which = " || ".join(f"(ClusterId == {j.cluster} && ProcId == {j.proc})" for j in idle)
        with self._schedd_errors():
            removed = self._schedd.act(
                "remove", f"JobStatus == 1 && ({which})", "above the factory's max_workers"
            )
            log.info("removed %d idle jobs above max_workers", removed)

    # --- the jobs

    @property
    def _mine(self) -> str:
        return f'{FACTORY_ATTRIBUTE} =?= "{self.id}"'

    def _follow_jobs(self) -> None:
        """Bring the table up to date."""
        if self._log is not None:
            try:
                changed = self._table.apply(self._log.read())
            except LaunchError as error:
                self._schedd_error = str(error)
                self._queue_known = False
            else:
                self._note(changed)
        now = time.monotonic()
        pause = _QUEUE_INTERVAL if self._log is not None else 0.0
        if not self._queue_known or now - self._queue_asked >= pause:
            self._ask_queue(now)

    def _ask_queue(self, now: float) -> bool:
        """Ask the schedd for our jobs and for others of the manager; whether it answered."""
        asked = time.time()
        projection = [*QUEUE_ATTRIBUTES, FACTORY_ATTRIBUTE]
        with self._schedd_errors():
            ads = self._schedd.query(
                f'{MANAGER_ATTRIBUTE} =?= "{self._manager}" || {self._mine}', projection
            )
            if self._log is not None:
                self._note(self._table.apply(self._log.read()))
            mine = [ad for ad in ads if ad.get(FACTORY_ATTRIBUTE) == self.id]
            self._fetch_spooled(mine)  # first, for what the jobs have said last
            self._note(self._table.update(mine, asked=asked))
            self._others = _count_others(
                ad for ad in ads if ad.get(FACTORY_ATTRIBUTE) != self.id
            )
            self._queue_known, self._queue_asked = True, now
            self._schedd_error = None
            return True
        self._queue_known = False
        return False

    def _fetch_spooled(self, ads: Sequence[Mapping[str, Any]]) -> None:
        """Fetch what ended jobs have left at a schedd that spools, and let them go."""
        if not self._where.spool:
            return
        done = [ad for ad in ads if ad.get("JobStatus") == 4]
        if not done:
            return
        constraint = f"{self._mine} && JobStatus == 4"
        try:
            self._schedd.retrieve(constraint)
        except LaunchError as error:
            log.warning("%s", error)
        with self._schedd_errors():
            self._schedd.act("remove", constraint, "its output has been fetched")

    def _remove_left_behind(self) -> bool:
        """Remove jobs of this manager whose factory has ended without doing so.

        Returns:
            Whether the schedd has done what it was asked.
        """
        with self._schedd_errors():
            ads = self._schedd.query(
                f'{MANAGER_ATTRIBUTE} =?= "{self._manager}" && {FACTORY_ATTRIBUTE} '
                f'isnt undefined && {FACTORY_ATTRIBUTE} isnt "{self.id}"',
                [FACTORY_ATTRIBUTE, "UserLog", "Owner"],
            )
            for factory in {str(ad[FACTORY_ATTRIBUTE]) for ad in ads}:
                logs = {ad.get("UserLog") for ad in ads if ad[FACTORY_ATTRIBUTE] == factory}
                directory = os.path.dirname(str(next(iter(logs))))
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

    def _renew_lease(self, now: float) -> None:
        """Tell the schedd that somebody sees to the jobs."""
        if now - self._lease_renewed < LEASE / 3:
            return
        with self._schedd_errors():
            self._schedd.edit(self._mine, LEASE_ATTRIBUTE, int(time.time()) + LEASE)
            self._lease_renewed = now

    def _look_at_holds(self) -> None:
        """Explain held jobs, and mend them where that is allowed."""
        jobs = {job.id: job for job in self._table if job.left}
        # What was mended is told as long as the job is there.
        self._causes = {
            id: found
            for id, found in self._causes.items()
            if id in jobs and (found[1] or jobs[id].state == "held")
        }
        held = [job for job in jobs.values() if job.state == "held"]
        # One that was mended and is held again is a new case.
        new = [j for j in held if j.id not in self._causes or self._causes[j.id][2] < j.since]
        if not new:
            return
        ads = self._ads_of(new)
        for job in new:
            ad = ads.get(job.id, {})
            cause = explain_hold(job.hold_code, job.hold_subcode, job.hold_reason, ad)
            repaired = self.options.repair and self._repair(job, cause, ad)
            self._causes[job.id] = (cause, repaired, job.since)
            (log.info if repaired else log.warning)(
                "job %s is held (%s): %s; %s",
                job.id, cause.name, cause.explanation,
                "repaired and released" if repaired else cause.remedy,
            )  # fmt: skip

    def _ads_of(self, jobs: list[Job]) -> dict[str, Mapping[str, Any]]:
        which = " || ".join(f"(ClusterId == {j.cluster} && ProcId == {j.proc})" for j in jobs)
        with self._schedd_errors():
            ads = self._schedd.query(which, [*_HOLD_ATTRIBUTES, _REPAIRS_ATTRIBUTE])
            return {f"{ad['ClusterId']}.{ad['ProcId']}": ad for ad in ads}
        return {}

    def _repair(self, job: Job, cause: Cause, ad: Mapping[str, Any]) -> bool:
        """Mend a held job and release it; whether that was done."""
        repairs = int(ad.get(_REPAIRS_ATTRIBUTE) or 0)
        if cause.repair is None or repairs >= _REPAIRS or not ad:
            return False
        which = f"ClusterId == {job.cluster} && ProcId == {job.proc} && JobStatus == 5"
        with self._schedd_errors():
            # First the number: what fails half way must not be tried for ever.
            self._schedd.edit(which, _REPAIRS_ATTRIBUTE, repairs + 1)
            for name, value in cause.repair.items():
                self._schedd.edit(which, name, value)
            done = self._schedd.act("release", which, f"repaired: {cause.name}")
            return done > 0
        return False

    def _note(self, changed: list[Job]) -> None:
        """Log what has become of jobs."""
        self._forget_replaced()
        for job in changed:
            if job.left:
                log.debug("job %s is %s", job.id, job.state)
                continue
            self._lines[job.id] = self._last_line(job)
            if has_failed(job):
                log.warning("job %s: %s", job.id, self._why(job, time.time()))
            else:
                log.debug("job %s %s", job.id, job.state)

    def _last_line(self, job: Job) -> str | None:
        """Return what the launcher said last, from the job's ``.err`` file."""
        path = os.path.join(self.directory, f"{job.id}.err")
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - 8192))
                text = file.read(8192).decode(errors="replace")
        except OSError:
            return None
        lines = [line for line in text.splitlines() if line.startswith("vine_sharedport:")]
        return lines[-1][:_LAST_LINE] if lines else None

    def _why(self, job: Job, now: float) -> str | None:
        """Return why a job is not at work."""
        if job.state == "held":
            return job.hold_reason
        if job.state == "ended" and has_failed(job):
            if job.exit_signal is not None:
                return f"ended by signal {job.exit_signal}"
            reason = EXIT_REASONS.get(job.exit_status or 0)
            return reason or f"the worker ended with status {job.exit_status}"
        if job.state == "running" and job.connected is None:
            view = self._watch.view
            if view.answered is None:
                return "unknown: the manager has not answered yet"
            if view.error is not None:
                silence = time.monotonic() - view.answered
                return f"unknown: the manager has not answered for {silence:.0f} s"
        if job.connected is False and job.not_connected_since is not None:
            waited = now - job.not_connected_since
            if job.id in self._worked:
                return f"the manager lost it {waited:.0f} s ago"
            return (
                f"not connected after {waited:.0f} s; it tells why when it gives up, after "
                f"{self.options.timeout} s"
            )
        return job.reason if job.state in ("idle", "removed") else None

    def _forget(self) -> None:
        """Drop jobs that ended long ago, not their numbers."""
        before = time.time() - _FORGET_AFTER
        old = [job for job in self._table if not job.left and job.since < before]
        if len(old) < _KEPT_ENDED:
            return
        numbers = self._totals()
        self._table.forget(before)
        for job in old:
            if self._table.get(job.id) is None:
                self._forget_id(job.id)
        after = self._totals()
        for name in self._forgotten:
            self._forgotten[name] += numbers[name] - after[name]

    def _forget_replaced(self) -> None:
        """Drop what is known of jobs whose id another one has now, not their numbers."""
        for job in self._table.take_replaced():
            log.debug("job %s is another one now: the schedd has begun anew", job.id)
            self._forget_id(job.id)
            self._forgotten["submitted"] += 1
            self._forgotten["ended"] += 1
            self._forgotten["failed"] += has_failed(job)
            self._forgotten["evicted"] += job.evictions

    def _forget_id(self, id: str) -> None:
        self._lines.pop(id, None)
        self._causes.pop(id, None)
        self._worked.discard(id)
        self._brake.forget(id)

    def _totals(self) -> dict[str, int]:
        """Return numbers since the beginning."""
        ended = [job for job in self._table if not job.left]
        return {
            "submitted": len(self._table) + self._forgotten["submitted"],
            "ended": len(ended) + self._forgotten["ended"],
            "failed": sum(map(has_failed, ended)) + self._forgotten["failed"],
            "evicted": sum(job.evictions for job in self._table) + self._forgotten["evicted"],
        }

    # --- the configuration

    def _config_changed(self) -> bool:
        marks = []
        for path in (os.path.join(self.directory, files.CONFIG), self._base.config_file):
            try:
                found = os.stat(path) if path else None
            except OSError:
                found = None
            marks.append(found and (found.st_mtime_ns, found.st_ino, found.st_size))
        changed = tuple(marks) != self._config_marks
        self._config_marks = tuple(marks)
        return changed

    def _read_config(self) -> None:
        """Take changed options over; what is wrong in the file leaves them as they were."""
        before = self.options
        try:
            base = read_config(os.path.join(self.directory, files.CONFIG))
            # Not to be changed while it runs; what the API writes is checked there.
            fixed = {name: getattr(base, name) for name in CHANGEABLE}
            self._base = Options.make(fixed, base=self._base, running=True)
            self._config_error = None
            self._read_user_config()
        except LaunchError as error:
            self._config_error = str(error)
            log.warning("the options stay as they were: %s", error)
            return
        for name in sorted(CHANGEABLE):
            old, new = getattr(before, name), getattr(self.options, name)
            if old != new:
                log.info("option %s changed from %r to %r", name, old, new)

    def _read_user_config(self) -> None:
        self.options = self._base
        if self._base.config_file is not None:
            self.options = read_config(self._base.config_file, base=self._base, running=True)

    def _describe(self) -> Description:
        """Return what to submit; made anew when options change, and for the lease's sake."""
        key = (self.options, time.monotonic() // (LEASE / 3))
        if self._described is None or self._described[0] != key:
            made = describe(self.options, self.directory, factory=self.id, now=time.time())
            self._described = (key, made)
        return self._described[1]

    # --- waiting and ending

    def _pause(self, check: Callable[[], None]) -> None:
        """Wait for news, at most a cycle."""
        until = time.monotonic() + self.options.cycle
        while time.monotonic() < until:
            if self._watch.news.wait(_TICK):
                time.sleep(0.05)  # two factories that take turns
                return
            check()
            if self._reason_to_end() is not None:
                return
            if self._config_changed():
                self._read_config()
                return

    def _reason_to_end(self) -> str | None:
        if self._stop is not None:
            return self._stop
        if self._owner is not None and not is_alive(self._owner):
            return f"the program that started it (process {self._owner.pid}) has ended"
        now = time.monotonic()
        view = self._watch.view
        patience = _GONE_AFTER if self._owner is None else _GONE_AFTER_WITH_OWNER
        known = view.answered is not None or len(self._table) > 0
        if known and view.gone_since is not None and now - view.gone_since > patience:
            log.info("%s", view.error)
            return f"the manager has ended: nobody has answered for it for {patience:g} s"
        limit = self.options.factory_timeout
        last = view.answered if view.answered is not None else self._began
        if limit and view.error is not None and now - last > limit:
            return f"no manager for {limit} s (factory_timeout): {view.error}"
        return None

    def _end(self, check: Callable[[], None]) -> None:
        """Remove the jobs, and wait until they are gone."""
        reason = self._message
        log.info("ending: %s", reason)
        deadline = time.monotonic() + _END_TIMEOUT
        removed_at: float | None = None
        told = False
        pool_gone: float | None = None
        while time.monotonic() < deadline:
            self._schedd_error = None
            with self._schedd_errors():
                if removed_at is None:
                    self._schedd.act("remove", self._mine, reason[:200])
                ads = self._schedd.query(self._mine, ["JobStatus", "ClusterId"])
                left = [ad for ad in ads if ad.get("JobStatus") not in (3, 4)]
                now = time.monotonic()
                if removed_at is None:
                    removed_at = now
                if left:
                    removed_at = None  # e.g. submitted while we were told to end
                elif not ads or now - removed_at > _REMOVAL_TIMEOUT:
                    break
            with contextlib.suppress(LaunchError):
                self._follow_jobs()
            if not told or self._schedd_error is not None:
                self._message = f"{reason}; removing the jobs"
                self._tell("ending")
                told = True
            if self._schedd_error is None or not _pool_is_gone():
                pool_gone = None
            elif pool_gone is None:
                pool_gone = time.monotonic()
            elif time.monotonic() - pool_gone > _POOL_GONE_AFTER:
                self._message = f"{reason}; HTCondor itself has ended, and its jobs with it"
                self._tell("ended")
                log.info("ended: %s", self._message)
                return
            time.sleep(_TICK)
        else:
            log.error("the jobs could not be removed; 'condor_rm' them: %s", self._mine)
            self._message = f"{reason}; its jobs could not be removed: {self._schedd_error}"
            self._tell("ended")
            return
        self._follow_jobs()
        self._message = reason
        self._tell("ended")
        log.info("ended: %s", reason)

    @contextlib.contextmanager
    def _schedd_errors(self) -> Any:
        """Note what the schedd does not do; the factory tries again later."""
        try:
            yield
        except SharedPortError as error:
            if str(error) != self._schedd_error:
                log.warning("%s", error)
            self._schedd_error = str(error)

    # --- telling

    def _tell(self, state: str) -> None:
        """Write the status."""
        snapshot = self._snapshot(state)
        try:
            files.write_status(self.directory, snapshot)
            if self._prometheus_file is not None:
                files.write_atomically(self._prometheus_file, format_prometheus(snapshot))
        except LaunchError as error:
            log.warning("%s", error)
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
        counts = self._table.counts()
        totals = self._totals()
        view = self._watch.view
        status = view.status or {}
        now = time.time()
        connected = counts["connected"]
        return Snapshot(
            time=now,
            factory=self.id,
            pid=self._pid,
            state=state,
            message=self._message,
            directory=self.directory,
            manager=ManagerReport(
                address=self.options.address,
                reachable=view.answered is not None and view.error is None,
                error=view.error,
                tasks_waiting=_int(status.get("tasks_waiting")),
                tasks_running=_int(status.get("tasks_running")),
                workers=len(view.workers),
            ),
            min_workers=self.options.min_workers,
            max_workers=self.options.max_workers,
            needed=self._needed,
            submitted=totals["submitted"],
            workers=WorkerCounts(
                idle=counts["idle"],
                running=counts["running"],
                connected=connected,
                not_connected=counts["running"] - connected,
                # The launcher knows no other way for them.
                by_shared_port=connected,
                by_tcp=0,
                held=counts["held"],
                ended=totals["ended"],
                failed=totals["failed"],
                evicted=totals["evicted"],
                others=max(
                    self._unmatched, self._others.other_idle + self._others.other_running
                ),
            ),
            jobs=tuple(self._job_reports(now)),
            problems=tuple(self._problems()),
        )

    def _job_reports(self, now: float) -> list[JobReport]:
        left = [job for job in self._table if job.left]
        ended = sorted((job for job in self._table if not job.left), key=lambda j: j.since)
        return [
            JobReport(
                id=job.id,
                state="connected" if job.connected else job.state,
                since=job.since,
                host=job.host,
                reason=self._why(job, now),
                exit_status=job.exit_status,
                evictions=job.evictions,
                last_line=self._lines.get(job.id)
                if not job.left
                else self._last_line(job)
                if job.connected is False
                else None,
            )
            for job in [*left, *ended[-_KEPT_ENDED:]]
        ]

    def _problems(self) -> list[Problem]:
        found = []
        if self._config_error is not None:
            found.append(Problem("configuration", self._config_error, "correct the file"))
        if self._submit_error is not None:
            found.append(Problem("submission", self._submit_error, "see the message"))
        if self._schedd_error is not None:
            found.append(
                Problem("schedd", self._schedd_error, "the factory tries again by itself")
            )
        alike: dict[tuple[str, str, str, bool], list[str]] = {}
        for id, (cause, repaired, _) in self._causes.items():
            key = (cause.name, cause.explanation, cause.remedy, repaired)
            alike.setdefault(key, []).append(id)
        for (name, explanation, remedy, repaired), ids in alike.items():
            found.append(Problem(name, explanation, remedy, tuple(ids), repaired))
        if self._brake.failures:
            failed = [j for j in self._table if has_failed(j) and j.id not in self._worked]
            lines = [self._lines.get(job.id) for job in failed]
            last = next((line for line in reversed(lines) if line), None)
            why = self._why(failed[-1], time.time()) if failed else None
            found.append(
                Problem(
                    "workers_fail",
                    f"{self._brake.failures} workers ended without having been connected; the "
                    f"last one: {why}" + (f" ({last})" if last else ""),
                    f"see the .err files in {self.directory}; the factory submits more "
                    "slowly meanwhile",
                    tuple(job.id for job in failed[-5:]),
                )
            )
        return found


def _pool_is_gone() -> bool:
    """Whether HTCondor's configuration is no longer there: a personal pool has ended."""
    path = os.environ.get("CONDOR_CONFIG")
    return bool(path) and path != "ONLY_ENV" and not os.path.exists(str(path))


def _count_others(ads: Any) -> Counts:
    """Count jobs of other factories, and of ``submit_workers``."""
    idle = running = 0
    for ad in ads:
        status = ad.get("JobStatus")
        if status in (1, 5):
            idle += 1
        elif status in (2, 6, 7):
            running += 1
    return Counts(other_idle=idle, other_running=running)


def _int(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
