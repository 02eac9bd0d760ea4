"""What has become of each worker job: HTCondor's word joined with the manager's.

Pure: it is fed with the events of a job event log or with the ads of a schedd's queue,
and with the manager's list of its workers.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from vine_sharedport.condor.event_log import Event
from vine_sharedport.factory.jobs.hold_causes import is_hold

__all__ = ["QUEUE_ATTRIBUTES", "STATES", "Job", "JobTable", "worker_address"]

STATES = ("idle", "running", "held", "ended", "removed")
"""What ``Job.state`` can be."""

_LEFT = frozenset({"idle", "running", "held"})

QUEUE_ATTRIBUTES = (
    "ClusterId", "ProcId", "JobStatus", "JobUniverse", "QDate", "EnteredCurrentStatus",
    "JobCurrentStartDate", "NumJobStarts", "RemoteHost", "StartdIpAddr", "HoldReason",
    "HoldReasonCode", "HoldReasonSubCode", "RemoveReason", "VacateReason", "ExitCode",
    "ExitBySignal", "ExitSignal",
)  # fmt: skip
"""The attributes that ``JobTable.update`` looks at."""

# JobStatus in HTCondor's manual, "Job ClassAd Attributes"; 6 is running, transferring
# output, and 7 suspended.
_STATUS = {
    1: "idle",
    2: "running",
    3: "removed",
    4: "ended",
    5: "held",
    6: "running",
    7: "running",
}
_GRID_UNIVERSE = 9

# How much earlier than its job's start a worker may seem to have connected: the access
# point's clock and the manager's need not agree.
_CLOCK_SLACK = 60.0

_IP_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f:.]*:[0-9a-f:.]*")


@dataclass
class Job:
    """One worker job.

    Attributes:
        cluster: First number.
        proc: Second number.
        state: One of ``STATES``.
        since: When it came into this state, in seconds since 1970.
        submitted: When it was submitted.
        host: Name of the machine that it runs on, or last ran on.
        address: IP address of that machine.
        slot: Slot of that machine.
        reason: HTCondor's text about the last thing that went wrong or was done to it.
        hold_reason: Why it is held; None unless it is.
        hold_code: HoldReasonCode.
        hold_subcode: HoldReasonSubCode.
        exit_status: Of a worker that ended by itself.
        exit_signal: Of a worker that a signal ended.
        lost_reason: HTCondor's text about why it lost its machine the last time.
        evictions: How often it lost its machine and became idle again.
        starts: How often it was started.
        connected: Whether a worker of the manager is this job; None unless running, or
            while the manager has not answered since its start.
        not_connected_since: Since when it is running without being connected.
        worker: Address of its connection (``addrport`` in the manager's list).
    """

    cluster: int
    proc: int
    state: str = "idle"
    since: float = 0.0
    submitted: float = 0.0
    host: str | None = None
    address: str | None = None
    slot: str | None = None
    reason: str | None = None
    hold_reason: str | None = None
    hold_code: int | None = None
    hold_subcode: int | None = None
    exit_status: int | None = None
    exit_signal: int | None = None
    lost_reason: str | None = None
    evictions: int = 0
    starts: int = 0
    connected: bool | None = None
    not_connected_since: float | None = None
    worker: str | None = None
    # The eviction that was counted last is part of a hold or a removal, if that follows.
    _just_evicted: bool = field(default=False, repr=False)
    _last_news: float = field(default=0.0, repr=False)

    @property
    def id(self) -> str:
        """HTCondor's name of the job, such as ``12.0``."""
        return f"{self.cluster}.{self.proc}"

    @property
    def left(self) -> bool:
        """Whether it has not ended."""
        return self.state in _LEFT

    def _enter(self, state: str, time: float) -> None:
        """Change the state; what belongs to the old one goes."""
        if state != self.state:
            self.since = time
        self.state = state
        if state != "held":
            self.hold_reason = self.hold_code = self.hold_subcode = None
        if state not in ("ended", "removed"):
            # A schedd that was killed may run a job again whose end is in the log.
            self.exit_status = self.exit_signal = None
        if state != "running":
            self.connected = self.not_connected_since = self.worker = None

    def _lose_machine(self, time: float) -> None:
        """Note that it became idle without having ended."""
        if self.state == "running":
            self.evictions += 1
            self.lost_reason = self.reason
            self._just_evicted = True
        self._enter("idle", time)

    def _take_eviction_back(self) -> None:
        """Note that the machine was lost to a hold or removal."""
        self.evictions -= self._just_evicted
        self._just_evicted = False


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
        return {
            **{state: found[state] for state in STATES},
            "connected": sum(job.connected is True for job in self),
        }

    def forget(self, before: float) -> int:
        """Drop the jobs that ended before this time; return how many."""
        old = [
            key for key, job in self._jobs.items() if not job.left and job._last_news < before
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
            step = _STEPS.get(event.type)
            if step is None or event.proc < 0:
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
                    *key, since=event.time, submitted=event.time, _last_news=event.time
                )
                changed[id(job)] = job
            before = job.state
            if not (self._on_grid and event.type == "EXECUTE" and job.state == "running"):
                step(job, event)
            job._last_news = event.time
            if event.type not in _KEEP_EVICTION:
                job._just_evicted = False
            if job.state != before:
                changed[id(job)] = job
        return list(changed.values())

    @staticmethod
    def _is_another(job: Job, submitted: float) -> bool:
        """Whether a submission is not that of the job which has this id."""
        # One that has not been started may be known before its log tells of it.
        return not job.left or (job.starts > 0 and submitted > job._last_news)

    def _drop(self, job: Job, submitted: float) -> None:
        """Make room for another job with the same id."""
        # It comes in its old place else, and the last ones are removed first.
        del self._jobs[job.cluster, job.proc]
        # Else it is the same job, in a log that is read again from its beginning.
        if submitted > job._last_news:
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
            if job is not None and not job.left and submitted > job._last_news:
                self._drop(job, submitted)
                job = None
            if job is None:
                job = self._jobs[key] = Job(*key, since=submitted, submitted=submitted)
                _follow_ad(job, ad)
                changed.append(job)
            elif job._last_news < until:
                before = (job.state, job.since)
                if not (self._on_grid and _is_stale(job, ad)):
                    _follow_ad(job, ad)
                if (job.state, job.since) != before:
                    changed.append(job)
            else:
                continue
            job._last_news = max(job._last_news, min(asked, job.since))
        for key, job in self._jobs.items():
            if key not in seen and job.left and job._last_news < until:
                job.reason = "left the schedd's queue"
                job._enter("ended", asked)
                job._last_news = asked
                changed.append(job)
        return changed

    def join(
        self,
        workers: Iterable[Mapping[str, Any]],
        *,
        now: float,
        told: float | None = None,
    ) -> list[Mapping[str, Any]]:
        """Mark each running job as connected or not, by the manager's list of workers.

        A job keeps the connection that it had. Else a worker belongs to a job on the host
        of its name, full or short, or of its IP address; with several on a host, the
        oldest worker to the oldest job. No worker has been connected for longer than its
        job runs. Jobs that run nobody knows where (on a grid) take what is left.

        Args:
            workers: What the manager answers to ``worker_status``.
            now: Present time in seconds since 1970.
            told: When the manager answered that; now by default. Of jobs that were
                started later nothing is known.

        Returns:
            The workers that belong to no job here: other factories', or started by hand.
        """
        running = sorted(
            (job for job in self if job.state == "running"),
            key=lambda job: (job.since, job.cluster, job.proc),
        )
        if self._on_grid:
            running += [job for job in self if job.state == "idle"]
        free = sorted(map(_Worker.read, workers), key=lambda worker: worker.started)
        found: dict[int, _Worker] = {}
        for job_key, worker_key in _TIERS:
            by_key: dict[Any, deque[_Worker]] = defaultdict(deque)
            for worker in free:
                key = worker_key(worker)
                if key is not None:
                    by_key[key].append(worker)
            taken = set()
            for job in running:
                if id(job) in found:
                    continue
                candidates = by_key.get(job_key(job), deque())
                for worker in candidates:
                    earliest = job.submitted if self._on_grid else job.since
                    if worker.started + _CLOCK_SLACK >= earliest:
                        found[id(job)] = worker
                        taken.add(id(worker))
                        candidates.remove(worker)
                        break
            free = [worker for worker in free if id(worker) not in taken]
        for job in running:
            own = found.get(id(job))
            if job.state == "idle":
                if own is None:
                    continue
                job._enter("running", min(own.started, now))
                job.starts += 1
            if told is not None and told < (job.submitted if self._on_grid else job.since):
                # What it was matched with is another's that was there before.
                job.connected = job.not_connected_since = job.worker = None
            else:
                _mark(job, own, now)
        return [worker.entry for worker in free]


def worker_address(entry: Mapping[str, Any]) -> str:
    """Return a worker's address, as its manager's list has it.

    TaskVine says ``addrport``, Work Queue ``address_port``.
    """
    return str(entry.get("addrport") or entry.get("address_port") or "")


def _mark(job: Job, worker: _Worker | None, now: float) -> None:
    """Note whether a running job is connected."""
    if worker is not None:
        job.connected, job.worker, job.not_connected_since = True, worker.address, None
    elif job.connected is not False:
        # Never connected: since its start. Lost: since it was seen to be.
        job.not_connected_since = now if job.connected else job.since
        job.connected, job.worker = False, None


@dataclass(frozen=True)
class _Worker:
    """A worker in the manager's list."""

    entry: Mapping[str, Any]
    host: str
    address: str
    started: float

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> _Worker:
        """Read an entry."""
        address = worker_address(entry)
        # Microseconds, when the connection was accepted.
        started = float(entry.get("start_time") or 0) / 1e6 or float("inf")
        return cls(entry, str(entry.get("hostname") or "").lower(), address, started)

    @property
    def ip(self) -> str | None:
        """IP address without port; IPv6 comes with and without brackets."""
        return self.address.rpartition(":")[0].strip("[]").lower() or None


def _full_name(host: str | None) -> str | None:
    """Return a name that has a domain."""
    name = (host or "").lower().rstrip(".")
    return name if "." in name and not _IP_ADDRESS.fullmatch(name) else None


def _short_name(host: str | None) -> str | None:
    name = (host or "").lower().rstrip(".")
    return None if not name or _IP_ADDRESS.fullmatch(name) else name.partition(".")[0]


def _bare_name(host: str | None) -> str | None:
    """Return a name that has no domain."""
    return None if _full_name(host) else _short_name(host)


def _ip_of(job: Job) -> str | None:
    if job.address is not None:
        return job.address.lower()
    host = (job.host or "").lower()
    return host if host and _IP_ADDRESS.fullmatch(host) else None


def _unknown(job: Job) -> str | None:
    """Return the same for all jobs that run nobody knows where: on a grid."""
    return "somewhere" if job.host is None and job.address is None else None


# How a job and a worker are recognized as one, the surest first. Short names count only
# if one of the two has no domain: node1.a.edu is not node1.b.edu.
_TIERS: tuple[tuple[Callable[[Job], Any], Callable[[_Worker], Any]], ...] = (
    (lambda job: job.worker, lambda worker: worker.address or None),
    (lambda job: _full_name(job.host), lambda worker: _full_name(worker.host)),
    (lambda job: _bare_name(job.host), lambda worker: _short_name(worker.host)),
    (lambda job: _short_name(job.host), lambda worker: _bare_name(worker.host)),
    (_ip_of, lambda worker: worker.ip),
    (_unknown, lambda worker: "somewhere"),
)


def _submit(job: Job, event: Event) -> None:
    job.submitted = event.time


def _execute(job: Job, event: Event) -> None:
    job._enter("running", event.time)
    job.since = event.time
    job.starts += 1
    job.host, job.address, job.slot = event.host, event.address, event.slot
    job.reason = None


def _evicted(job: Job, event: Event) -> None:
    job.reason = event.reason or job.reason
    if event.requeued:
        job._enter("idle", event.time)
    else:
        job._lose_machine(event.time)


def _lost_machine(job: Job, event: Event) -> None:
    job.reason = event.reason or job.reason
    job._lose_machine(event.time)


def _told(job: Job, event: Event) -> None:
    job.reason = event.reason or job.reason


def _reconnected(job: Job, event: Event) -> None:
    job.reason = None
    if job.state != "running":
        job._enter("running", event.time)
    # A machine that it told already it does not tell again.
    job.host = event.host or job.host
    job.address = event.address or job.address
    job.slot = event.slot or job.slot


def _held(job: Job, event: Event) -> None:
    job._take_eviction_back()
    job.reason = event.reason
    if not is_hold(event.code):
        job._enter("idle", event.time)
        return
    job._enter("held", event.time)
    job.hold_reason, job.hold_code, job.hold_subcode = event.reason, event.code, event.subcode


def _released(job: Job, event: Event) -> None:
    job._enter("idle", event.time)
    job.reason = event.reason


def _terminated(job: Job, event: Event) -> None:
    job._enter("ended", event.time)
    job.reason = None
    job.exit_status, job.exit_signal = event.exit_status, event.exit_signal


def _aborted(job: Job, event: Event) -> None:
    if job.exit_status is None and job.exit_signal is None:
        job._take_eviction_back()
        job.reason = event.reason
        job._enter("removed", event.time)


_STEPS: dict[str, Callable[[Job, Event], None]] = {
    "SUBMIT": _submit,
    "EXECUTE": _execute,
    "JOB_EVICTED": _evicted,
    "SHADOW_EXCEPTION": _lost_machine,
    "JOB_RECONNECT_FAILED": _lost_machine,
    "JOB_DISCONNECTED": _told,
    "REMOTE_ERROR": _told,
    "JOB_RECONNECTED": _reconnected,
    "JOB_HELD": _held,
    "JOB_RELEASED": _released,
    "JOB_TERMINATED": _terminated,
    "JOB_ABORTED": _aborted,
}
# After these a hold or removal may be what the machine was lost to.
_KEEP_EVICTION = frozenset(
    {"JOB_EVICTED", "SHADOW_EXCEPTION", "JOB_RECONNECT_FAILED", "REMOTE_ERROR"}
)


def _is_stale(job: Job, ad: Mapping[str, Any]) -> bool:
    """Whether a grid job's worker has told more than the job's ad."""
    status = ad.get("JobStatus")
    since = float(ad.get("EnteredCurrentStatus") or 0)
    return job.state == "running" and (status == 2 or (status == 1 and since <= job.since))


def _follow_ad(job: Job, ad: Mapping[str, Any]) -> None:
    """Bring a job up to date with its ad."""
    state = _STATUS.get(int(ad.get("JobStatus", 1)), "idle")
    code = ad.get("HoldReasonCode")
    if state == "held" and not is_hold(code):
        state = "idle"
    started = ad.get("JobCurrentStartDate")
    entered = float(ad.get("EnteredCurrentStatus") or job.since)
    if state == "running":
        entered = float(started or entered)
        again = job.state == "running" and entered > job.since + 1 and job.since > 0
        if again:  # evicted and started between two questions
            job._lose_machine(entered)
        if job.state != "running":
            job.starts += 1
            job._enter(state, entered)
            job.since = entered
        _place(job, ad)
    elif job.state == "running" and state == "idle":
        job._lose_machine(entered)
    else:
        job._enter(state, entered)
    # The schedd writes it minutes late.
    job.starts = max(job.starts, int(ad.get("NumJobStarts") or 0))
    # Between two questions it may have had a machine and lost it.
    job.lost_reason = str(ad.get("VacateReason") or "") or job.lost_reason
    if state == "held":
        job.since = entered
        job.hold_reason = job.reason = str(ad.get("HoldReason") or "") or None
        job.hold_code, job.hold_subcode = code, ad.get("HoldReasonSubCode")
    elif state == "removed":
        job.reason = str(ad.get("RemoveReason") or "") or job.reason
    elif state == "ended":
        by_signal = ad.get("ExitBySignal") is True
        job.exit_signal = ad.get("ExitSignal") if by_signal else None
        job.exit_status = None if by_signal else ad.get("ExitCode")


# The IP address in <192.0.2.7:9618?...> or <[2001:db8::7]:9618?...>.
_SINFUL_ADDRESS = re.compile(r"<(?:\[([^\]]+)\]|([^:\]]+)):")


def _place(job: Job, ad: Mapping[str, Any]) -> None:
    """Note the machine; for a grid job the attributes name the grid."""
    slot = ad.get("RemoteHost")
    if slot is None or ad.get("JobUniverse") == _GRID_UNIVERSE:
        return
    match = _SINFUL_ADDRESS.match(str(ad.get("StartdIpAddr") or ""))
    job.slot, job.host = str(slot), str(slot).rpartition("@")[2]
    job.address = (match[1] or match[2]) if match else None
