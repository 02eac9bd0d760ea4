"""What has become of each worker job: HTCondor's word joined with the manager's.

Pure: it is fed with the events of a job event log or with the ads of a schedd's queue,
and with the manager's list of its workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vine_sharedport.condor.event_log import Event
from vine_sharedport.factory.jobs.job import EVENTS, STATES, Job, apply_ad, apply_event
from vine_sharedport.factory.jobs.worker_match import ListedWorker, match_workers

__all__ = ["JobTable"]


class JobTable:
    """The worker jobs of one factory, by their ids.

    Args:
        on_grid: The schedd hands the jobs on, and hears minutes late that they run (blahp
            asks a batch system once in 60 s). Their workers tell it sooner.
    """

    def __init__(self, *, on_grid: bool = False) -> None:
        self._on_grid = on_grid
        self._jobs: dict[tuple[int, int], Job] = {}
        self._replaced: list[Job] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        """Iterate over the jobs in the order in which they were submitted."""
        return iter(self._jobs.values())

    def get(self, id: str) -> Job | None:
        """Return the job with this id, such as ``12.0``."""
        cluster, _, proc = id.partition(".")
        return self._jobs.get((int(cluster), int(proc)))

    def counts(self) -> dict[str, int]:
        """Return how many jobs are in each state, and how many of those running connected."""
        found = Counter(job.state for job in self)
        connected = sum(job.connected is True and job.state == "running" for job in self)
        return {**{state: found[state] for state in STATES}, "connected": connected}

    def forget(self, before: float) -> int:
        """Drop the jobs that ended before this time; return how many."""
        old = [
            key for key, job in self._jobs.items() if not job.left and job.last_news < before
        ]
        for key in old:
            del self._jobs[key]
        return len(old)

    def take_replaced(self) -> list[Job]:
        """Return the jobs whose id another one has got since the last call.

        A schedd that begins anew, such as that of another personal pool, begins with
        cluster 1, and the log of an earlier one may still be there.
        """
        found, self._replaced = self._replaced, []
        return found

    def apply(self, events: Iterable[Event]) -> list[Job]:
        """Follow the events of the jobs' log, in the order of the log.

        What is submitted after its end is another job with the same id.

        Returns:
            The jobs whose state changed, each once.
        """
        changed: dict[int, Job] = {}
        for event in events:
            if event.type not in EVENTS or event.proc < 0:
                continue
            key = (event.cluster, event.proc)
            job = self._jobs.get(key)
            if job is not None and event.type == "SUBMIT" and self._is_another(job, event.time):
                changed.pop(id(job), None)
                self._drop(job, event.time)
                job = None
            if job is None:
                if event.type == "JOB_ABORTED":
                    continue  # forgotten already
                job = self._jobs[key] = Job(
                    *key, since=event.time, submitted=event.time, last_news=event.time
                )
                changed[id(job)] = job
            before = job.state
            if not (self._on_grid and event.type == "EXECUTE" and job.has_machine):
                apply_event(job, event)
            job.last_news = event.time
            if job.state != before:
                changed[id(job)] = job
        return list(changed.values())

    @staticmethod
    def _is_another(job: Job, submitted: float) -> bool:
        """Whether a submission is not that of the job which has this id."""
        # One that has not been started may be known before its log tells of it.
        return not job.left or (job.starts > 0 and submitted > job.last_news)

    def _drop(self, job: Job, submitted: float) -> None:
        """Make room for another job with the same id."""
        # It comes in its old place else, and the last ones are removed first.
        del self._jobs[job.cluster, job.proc]
        # Else it is the same job, in a log that is read again from its beginning.
        if submitted > job.last_news:
            self._replaced.append(job)

    def update(self, ads: Iterable[Mapping[str, Any]], *, asked: float) -> list[Job]:
        """Follow the schedd's queue: for jobs without a log here, or a log that was lost.

        Args:
            ads: All jobs of the factory that are in the queue, with ``QUEUE_ATTRIBUTES``.
            asked: When the question was sent, in seconds since 1970. Jobs of which there
                is later news keep that.

        Returns:
            The jobs whose state changed. Those that left the queue have ended: with which
            status, the queue does not tell.
        """
        changed: list[Job] = []
        seen = set()
        until = int(asked)  # events tell whole seconds
        for ad in ads:
            key = (int(ad["ClusterId"]), int(ad["ProcId"]))
            seen.add(key)
            job = self._jobs.get(key)
            submitted = float(ad.get("QDate", asked))
            if job is not None and not job.left and submitted > job.last_news:
                self._drop(job, submitted)
                job = None
            if job is None:
                job = self._jobs[key] = Job(*key, since=submitted, submitted=submitted)
                apply_ad(job, ad)
                changed.append(job)
            elif job.last_news < until:
                before = (job.state, job.since)
                if not (self._on_grid and _is_stale(job, ad)):
                    apply_ad(job, ad)
                if (job.state, job.since) != before:
                    changed.append(job)
            else:
                continue
            job.last_news = max(job.last_news, min(asked, job.since))
        for key, job in self._jobs.items():
            if key not in seen and job.left and job.last_news < until:
                job.reason = "left the schedd's queue"
                job.enter("ended", asked)
                job.last_news = asked
                changed.append(job)
        return changed

    def join(
        self,
        workers: Iterable[Mapping[str, Any]],
        *,
        now: float,
        told: float | None = None,
    ) -> list[Mapping[str, Any]]:
        """Mark each job with a machine as connected or not, by the manager's list of workers.

        The manager keeps a suspended one for a while, as whose worker it must be known.

        Jobs that run nobody knows where (on a grid) run once they are connected.

        Args:
            workers: What the manager answers to ``worker_status``.
            now: Present time in seconds since 1970.
            told: When the manager answered that; now by default. Of jobs that were
                started later nothing is known.

        Returns:
            The workers that belong to no job here: other factories', or started by hand.
        """
        running = sorted(
            (job for job in self if job.has_machine),
            # A new connection is rather a new job's than that of one which had lost its own.
            key=lambda job: (job.has_lost_worker, job.started, job.cluster, job.proc),
        )
        if self._on_grid:
            running += [job for job in self if job.state == "idle"]
        found, free = match_workers(running, workers, since=self._earliest)
        for job in running:
            own = found.get(id(job))
            if job.state == "idle":
                if own is None:
                    continue
                job.enter("running", min(own.started, now))
                job.started = job.since
                job.starts += 1
            if told is not None and told < self._earliest(job):
                # What it was matched with is another's that was there before.
                job.connected = job.not_connected_since = job.worker = None
            else:
                _mark(job, own, now)
        return free

    def _earliest(self, job: Job) -> float:
        """Return the time before which its worker cannot have connected."""
        return job.submitted if self._on_grid else job.started


def _mark(job: Job, worker: ListedWorker | None, now: float) -> None:
    """Note whether a running job is connected."""
    if worker is not None:
        job.connected, job.worker, job.not_connected_since = True, worker.address, None
    elif job.connected is not False:
        # Never connected: since its start. Lost: since it was seen to be.
        job.not_connected_since = now if job.connected else job.started
        job.connected, job.worker = False, None


def _is_stale(job: Job, ad: Mapping[str, Any]) -> bool:
    """Whether a grid job's worker has told more than the job's ad."""
    status = ad.get("JobStatus")
    since = float(ad.get("EnteredCurrentStatus") or 0)
    return job.has_machine and (status == 2 or (status == 1 and since <= job.since))
