"""What has become of the worker jobs so far: in numbers, and why one is not at work."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

from vine_sharedport.condor.tail import Tails
from vine_sharedport.errors import ExitStatus
from vine_sharedport.events import JobFailed
from vine_sharedport.factory.jobs.failure_backoff import FailureBackoff, has_failed
from vine_sharedport.factory.jobs.job import Job
from vine_sharedport.factory.jobs.last_words import LastWords, OutputFiles, launcher_line, read
from vine_sharedport.factory.jobs.table import JobTable
from vine_sharedport.factory.manager_view.monitor import ManagerView
from vine_sharedport.factory.manager_view.silence import Silence
from vine_sharedport.factory.report.phase import journal
from vine_sharedport.factory.report.record import JobReport, Problem

__all__ = ["Ledger"]

log = logging.getLogger(__name__)

# Jobs of each state that are told one by one; of those that are left, as many about which there
# is something to say besides. And seconds after which the ended ones are forgotten.
_KEPT_ENDED = _KEPT = 100
_FORGET_AFTER = 3600.0

# How HTCondor's text begins where a container does not start (source: Singularity::runTest),
# and how often that must have been: one bad machine is no reason.
_NO_CONTAINER = "Singularity test failed"
_NO_CONTAINER_TIMES = 3


class Ledger:
    """What is known about a factory's jobs beyond the present state.

    Args:
        table: The jobs.
        directory: Where their ``.err`` files are.
        patience: Returns the seconds after which a worker gives up to connect.
        tails: Fetches what running jobs have said; None where HTCondor cannot.
        since: When the factory was started. Its directory's log may tell of jobs that had
            ended before, of an earlier one.

    Attributes:
        backoff: How many workers have failed one after the other.
    """

    def __init__(
        self,
        table: JobTable,
        directory: str,
        patience: Callable[[], int],
        tails: Tails | None = None,
        *,
        since: float = 0.0,
    ) -> None:
        self.backoff = FailureBackoff()
        self._table = table
        self._directory = directory
        self._patience = patience
        self._tails = tails
        self._since = since
        self._view = ManagerView()
        self._silences: Mapping[str, Silence] = {}
        self._worked: set[str] = set()  # those that have been connected
        self._said: dict[str, LastWords] = {}  # by those that have ended
        self._lost: Sequence[Job] = ()
        self._no_container = ""
        self._files = OutputFiles(directory)
        self._forgotten = {"submitted": 0, "ended": 0, "failed": 0, "evicted": 0}

    def close(self) -> None:
        """Fetch no more of what running jobs have said."""
        if self._tails is not None:
            self._tails.close()

    def note(self, changed: Iterable[Job]) -> None:
        """Log what has become of jobs, and keep what ended ones have said last."""
        self._forget_replaced()
        for job in changed:
            if not job.left:
                self._files.ended(job.id, failed=has_failed(job))
            if not self._is_ours(job):
                continue
            if not job.left:
                self._hear(job)
                if has_failed(job):
                    journal.record(JobFailed(job.id, self.why(job, time.time())))
                    continue
            log.debug("job %s is %s", job.id, job.state)

    def update(
        self,
        view: ManagerView,
        now: float,
        silences: Mapping[str, Silence] | None = None,
        lost: Sequence[Job] = (),
    ) -> None:
        """Take note of what the manager says, with which the table has been joined.

        Args:
            view: That.
            now: ``time.monotonic()``.
            silences: Which of its workers do not answer, by their address.
            lost: Jobs that run without being workers, and do not end.
        """
        self._view = view
        self._silences = silences or {}
        self._worked |= {job.id for job in self._table if job.connected}
        self._lost = lost
        self.backoff.update(self._jobs(), self._worked, now, {job.id for job in lost})
        if self._tails is not None:
            self._tails.want(job.id for job in self._table if job.connected is False)

    def _hear(self, job: Job) -> None:
        """Keep what an ended job has said, which tells whether it was of any use."""
        said = self._said[job.id] = read(self._directory, job.id)
        # A short life may lie between two answers of the manager.
        job.was_useless = (
            job.state == "ended"
            and job.exit_status == 0
            and job.id not in self._worked
            and said.is_known
            and not said.was_connected
        )

    def _is_ours(self, job: Job) -> bool:
        """Whether a job is not of an earlier factory, of which the log still tells."""
        return job.left or job.since >= self._since

    def _jobs(self) -> list[Job]:
        return list(filter(self._is_ours, self._table))

    def why(self, job: Job, now: float) -> str | None:
        """Return why a job is not at work; None if it is, or that is not known.

        Args:
            job: The job.
            now: In seconds since 1970.
        """
        if job.state == "held":
            return job.hold_reason
        if job.state == "ended" and has_failed(job):
            if job.exit_signal is not None:
                return f"ended by signal {job.exit_signal}"
            meaning = self._meaning(job)
            if meaning is not None:
                return meaning
            text = f"the worker ended with status {job.exit_status}"
            return f"{text} and was never connected" if job.was_useless else text
        if job.state == "suspended":
            return "HTCondor has suspended it: its machine is wanted for something else"
        silence = self._silence_of(job)
        if silence is not None:
            return f"connected, but without an answer for {silence.seconds:.0f} s"
        if job.state == "running" and job.connected is None:
            if self._view.answered is None:
                return "unknown: the manager has not answered yet"
            if self._view.error is not None:
                age = time.monotonic() - self._view.answered
                return f"unknown: the manager has not answered for {age:.0f} s"
        if job.state == "running" and job.not_connected_since is not None:
            waited = now - job.not_connected_since
            if job.id in self._worked:
                return f"the manager lost it {waited:.0f} s ago"
            text = f"not connected after {waited:.0f} s"
            if self._last_line(job) is not None:
                return text
            return f"{text}; it logs the reason when it gives up, after {self._patience()} s"
        return job.reason if job.state in ("idle", "removed") else None

    def _meaning(self, job: Job) -> str | None:
        """Return what a status of the launcher's means; None for any other one."""
        said = self._said.get(job.id, LastWords())
        if said.is_known and said.launcher is None:
            return None  # a wrapper's: the launcher was not started
        with contextlib.suppress(ValueError):
            known = ExitStatus(job.exit_status or 0)
            if known > ExitStatus.USAGE:  # a worker's own are 1 and 2
                return known.meaning
        return None

    def _silence_of(self, job: Job) -> Silence | None:
        """Return since when a connected worker does not answer; None if it does."""
        if not job.connected or job.state != "running":
            return None
        return self._silences.get(job.worker or "")

    @property
    def silent_workers(self) -> int:
        """How many connected workers do not answer at present."""
        return sum(self._silence_of(job) is not None for job in self._table)

    def silent(self) -> list[Problem]:
        """Return the problem that connected workers do not answer, if some do not."""
        found = {j.id: s for j in self._table if (s := self._silence_of(j)) is not None}
        if not found:
            return []
        longest = max(silence.seconds for silence in found.values())
        return [
            Problem(
                "silent",
                f"{len(found)} connected workers do not answer, for {longest:.0f} s by now: "
                "the network on the way is cut, or has forgotten their connections, or "
                "their machines have stopped",
                "wait: they go on when the network does, or are given up and their tasks run "
                "elsewhere; if it comes after each pause, set a shorter keepalive",
                tuple(found),
            )
        ]

    def totals(self) -> dict[str, int]:
        """Return how many jobs were submitted, ended, failed and evicted so far."""
        jobs = self._jobs()
        ended = [job for job in jobs if not job.left]
        return {
            "submitted": len(jobs) + self._forgotten["submitted"],
            "ended": len(ended) + self._forgotten["ended"],
            "failed": sum(map(has_failed, ended)) + self._forgotten["failed"],
            "evicted": sum(job.evictions for job in jobs) + self._forgotten["evicted"],
        }

    def reports(self, now: float) -> list[JobReport]:
        """Return jobs that are left, those submitted last of each state, and that ended last.

        Args:
            now: In seconds since 1970.
        """
        kinds: dict[tuple[str, bool], deque[Job]] = {}
        ended = []
        for job in self._table:
            if job.left:
                kind = (self._state_of(job), job.reason is not None or job.evictions > 0)
                kinds.setdefault(kind, deque(maxlen=_KEPT)).append(job)
            elif self._is_ours(job):
                ended.append(job)
        left = sorted(chain.from_iterable(kinds.values()), key=lambda j: (j.cluster, j.proc))
        ended.sort(key=lambda j: j.since)
        return [
            JobReport(
                id=job.id,
                state=self._state_of(job),
                since=job.since,
                host=job.host,
                worker=job.worker,
                reason=self.why(job, now),
                exit_status=job.exit_status,
                evictions=job.evictions,
                last_line=self._last_line(job),
            )
            for job in [*left, *ended[-_KEPT_ENDED:]]
        ]

    def _state_of(self, job: Job) -> str:
        if self._silence_of(job) is not None:
            return "silent"
        return "connected" if job.connected else job.state

    def failures(self) -> list[Problem]:
        """Return the problem that workers fail, if they do."""
        if not self.backoff.failures:
            return []
        lost = {job.id for job in self._lost}
        failed = [
            job
            for job in self._jobs()
            if (has_failed(job) or job.id in lost) and job.id not in self._worked
        ]
        lines = [self._last_line(job) for job in failed]
        last = next((line for line in reversed(lines) if line), None)
        why = self.why(failed[-1], time.time()) if failed else None
        return [
            Problem(
                "workers_fail",
                f"{self.backoff.failures} workers were never connected; the last one: {why}"
                + (f" ({last})" if last else ""),
                f"see the .err files in {self._directory}; the factory submits more slowly "
                "meanwhile",
                tuple(job.id for job in failed[-5:]),
            )
        ]

    def containers(self) -> list[Problem]:
        """Return the problem that containers do not start, if they do not.

        HTCondor takes that for the machine's fault: the job is not held, but tried again
        within seconds, for ever (seen with 23.9 and 25.14).
        """
        lost = [
            job
            for job in self._table
            if job.left
            and job.id not in self._worked
            and _NO_CONTAINER in (job.lost_reason or "")
        ]
        times = sum(max(job.evictions, job.starts) for job in lost)
        if times < _NO_CONTAINER_TIMES:
            return []
        where = f", the last time on {lost[-1].host}" if lost[-1].host else ""
        explanation = (
            f"the container did not start, {times} times by now{where}; HTCondor says: "
            f"{lost[-1].lost_reason}"
        )
        remedy = (
            "run 'apptainer test IMAGE' by hand, which shows more: the image must be there and "
            "have a /bin/sh; HTCondor tries it again and again meanwhile"
        )
        if self._no_container != lost[-1].lost_reason:
            self._no_container = str(lost[-1].lost_reason)
            log.warning("%s; %s", explanation, remedy)
        return [Problem("container", explanation, remedy, tuple(job.id for job in lost[-5:]))]

    def forget(self) -> None:
        """Drop jobs that ended long ago, not their numbers."""
        before = time.time() - _FORGET_AFTER
        old = [job for job in self._table if not job.left and job.since < before]
        if len(old) < _KEPT_ENDED:
            return
        numbers = self.totals()
        self._table.forget(before)
        for job in old:
            if self._table.get(job.id) is None:
                self._drop(job.id)
        after = self.totals()
        for name in self._forgotten:
            self._forgotten[name] += numbers[name] - after[name]

    def _forget_replaced(self) -> None:
        """Drop what is known of jobs whose id another one has now, not their numbers."""
        for job in self._table.take_replaced():
            log.debug("job %s is another one now: the schedd has begun anew", job.id)
            self._drop(job.id)
            if not self._is_ours(job):
                continue
            self._forgotten["submitted"] += 1
            self._forgotten["ended"] += 1
            self._forgotten["failed"] += has_failed(job)
            self._forgotten["evicted"] += job.evictions

    def _drop(self, id: str) -> None:
        self._said.pop(id, None)
        self._worked.discard(id)
        self.backoff.forget(id)

    def _last_line(self, job: Job) -> str | None:
        """Return the last line that tells why a job is not at work, or has not been."""
        if not job.left:
            said = self._said.get(job.id, LastWords())
            # A worker that has failed by itself comes after a launcher that has not.
            by_itself = has_failed(job) and self._meaning(job) is None
            return (said.own if by_itself else None) or said.launcher
        if job.connected is not False:
            return None
        told = self._tails and launcher_line(self._tails.get(job.id))
        return told or read(self._directory, job.id).launcher
