"""One worker job, and what an event of its log or its ad in the queue makes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from vine_sharedport.condor.event_log import Event
from vine_sharedport.factory.jobs.hold_causes import is_hold

__all__ = ["EVENTS", "QUEUE_ATTRIBUTES", "STATES", "Job", "apply_ad", "apply_event"]

STATES = ("idle", "running", "suspended", "held", "ended", "removed")
"""What ``Job.state`` can be."""

_LEFT = frozenset({"idle", "running", "suspended", "held"})
# Those that have a machine.
_STARTED = frozenset({"running", "suspended"})

QUEUE_ATTRIBUTES = (
    "ClusterId", "ProcId", "JobStatus", "JobUniverse", "QDate", "EnteredCurrentStatus",
    "JobCurrentStartDate", "NumJobStarts", "RemoteHost", "StartdIpAddr", "HoldReason",
    "HoldReasonCode", "HoldReasonSubCode", "RemoveReason", "VacateReason", "ExitCode",
    "ExitBySignal", "ExitSignal",
)  # fmt: skip
"""The attributes that ``apply_ad`` reads."""

# JobStatus in HTCondor's manual, "Job ClassAd Attributes"; 6 is running, transferring
# output.
_STATUS = {
    1: "idle",
    2: "running",
    3: "removed",
    4: "ended",
    5: "held",
    6: "running",
    7: "suspended",
}
_GRID_UNIVERSE = 9


@dataclass
class Job:
    """One worker job.

    Attributes:
        cluster: First number.
        proc: Second number.
        state: One of ``STATES``.
        since: When it came into this state, in seconds since 1970.
        submitted: When it was submitted.
        started: When it was started on its machine, the last time.
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
        was_useless: It ended with status 0, and never was a worker of the manager.
        connected: Whether a worker of the manager is this job; None unless it has a machine,
            or while the manager has not answered since its start.
        not_connected_since: Since when it is running without being connected.
        worker: Address of its connection (``addrport`` in the manager's list).
        last_news: The time of the last event or answer about it.
    """

    cluster: int
    proc: int
    state: str = "idle"
    since: float = 0.0
    submitted: float = 0.0
    started: float = 0.0
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
    was_useless: bool = False
    connected: bool | None = None
    not_connected_since: float | None = None
    worker: str | None = None
    last_news: float = field(default=0.0, repr=False)
    # The eviction that was counted last is part of a hold or a removal, if that follows.
    _just_evicted: bool = field(default=False, repr=False)

    @property
    def id(self) -> str:
        """HTCondor's name of the job, such as ``12.0``."""
        return f"{self.cluster}.{self.proc}"

    @property
    def left(self) -> bool:
        """Whether it has not ended."""
        return self.state in _LEFT

    @property
    def has_machine(self) -> bool:
        """Whether it runs, or is suspended where it ran."""
        return self.state in _STARTED

    @property
    def has_lost_worker(self) -> bool:
        """Whether it has been connected since its start, and is not any more."""
        since = self.not_connected_since
        return self.connected is False and since is not None and since > self.started

    def enter(self, state: str, time: float) -> None:
        """Change the state; what belongs to the old one goes."""
        if state != self.state:
            self.since = time
        self.state = state
        if state != "held":
            self.hold_reason = self.hold_code = self.hold_subcode = None
        if state not in ("ended", "removed"):
            # A schedd that was killed may run a job again whose end is in the log.
            self.exit_status = self.exit_signal = None
            self.was_useless = False
        if state not in _STARTED:
            self.connected = self.not_connected_since = self.worker = None

    def lose_machine(self, time: float) -> None:
        """Note that it became idle without having ended."""
        if self.has_machine:
            self.evictions += 1
            self.lost_reason = self.reason
            self._just_evicted = True
        self.enter("idle", time)

    def _take_eviction_back(self) -> None:
        """Note that the machine was lost to a hold or removal."""
        self.evictions -= self._just_evicted
        self._just_evicted = False


def _submit(job: Job, event: Event) -> None:
    job.submitted = event.time


def _execute(job: Job, event: Event) -> None:
    job.enter("running", event.time)
    job.since = job.started = event.time
    job.starts += 1
    job.host, job.address, job.slot = event.host, event.address, event.slot
    job.reason = None


def _evicted(job: Job, event: Event) -> None:
    job.reason = event.reason or job.reason
    if event.requeued:
        job.enter("idle", event.time)
    else:
        job.lose_machine(event.time)


def _lost_machine(job: Job, event: Event) -> None:
    job.reason = event.reason or job.reason
    job.lose_machine(event.time)


def _told(job: Job, event: Event) -> None:
    job.reason = event.reason or job.reason


def _suspended(job: Job, event: Event) -> None:
    if job.state == "running":
        job.enter("suspended", event.time)


def _unsuspended(job: Job, event: Event) -> None:
    if job.state == "suspended":
        job.enter("running", event.time)


def _reconnected(job: Job, event: Event) -> None:
    job.reason = None
    if not job.has_machine:
        job.enter("running", event.time)
        job.started = event.time
    # A machine that it told already it does not tell again.
    job.host = event.host or job.host
    job.address = event.address or job.address
    job.slot = event.slot or job.slot


def _held(job: Job, event: Event) -> None:
    job._take_eviction_back()
    job.reason = event.reason
    if not is_hold(event.code):
        job.enter("idle", event.time)
        return
    job.enter("held", event.time)
    job.hold_reason, job.hold_code, job.hold_subcode = event.reason, event.code, event.subcode


def _released(job: Job, event: Event) -> None:
    job.enter("idle", event.time)
    job.reason = event.reason


def _terminated(job: Job, event: Event) -> None:
    job.enter("ended", event.time)
    job.reason = None
    job.exit_status, job.exit_signal = event.exit_status, event.exit_signal


def _aborted(job: Job, event: Event) -> None:
    if job.exit_status is None and job.exit_signal is None:
        job._take_eviction_back()
        job.reason = event.reason
        job.enter("removed", event.time)


_STEPS: dict[str, Callable[[Job, Event], None]] = {
    "SUBMIT": _submit,
    "EXECUTE": _execute,
    "JOB_EVICTED": _evicted,
    "SHADOW_EXCEPTION": _lost_machine,
    "JOB_RECONNECT_FAILED": _lost_machine,
    "JOB_DISCONNECTED": _told,
    "REMOTE_ERROR": _told,
    "JOB_RECONNECTED": _reconnected,
    "JOB_SUSPENDED": _suspended,
    "JOB_UNSUSPENDED": _unsuspended,
    "JOB_HELD": _held,
    "JOB_RELEASED": _released,
    "JOB_TERMINATED": _terminated,
    "JOB_ABORTED": _aborted,
}
# After these a hold or removal may be what the machine was lost to.
_KEEP_EVICTION = frozenset(
    {"JOB_EVICTED", "SHADOW_EXCEPTION", "JOB_RECONNECT_FAILED", "REMOTE_ERROR"}
)

EVENTS = frozenset(_STEPS)
"""The types of events that say something about a job."""


def apply_event(job: Job, event: Event) -> None:
    """Bring a job up to date with an event, of one of the types in ``EVENTS``."""
    _STEPS[event.type](job, event)
    if event.type not in _KEEP_EVICTION:
        job._just_evicted = False


def apply_ad(job: Job, ad: Mapping[str, Any]) -> None:
    """Bring a job up to date with its ad."""
    state = _STATUS.get(int(ad.get("JobStatus", 1)), "idle")
    code = ad.get("HoldReasonCode")
    if state == "held" and not is_hold(code):
        state = "idle"
    started = ad.get("JobCurrentStartDate")
    entered = float(ad.get("EnteredCurrentStatus") or job.since)
    if state in _STARTED:
        begun = float(started or entered)
        if job.has_machine and begun > job.started + 1 and job.started > 0:
            job.lose_machine(begun)  # evicted and started between two questions
        if not job.has_machine:
            job.starts += 1
            job.started = begun
        if job.state != state:
            resumed = job.state == "suspended" or state == "suspended"
            job.enter(state, entered if resumed else begun)
        _place(job, ad)
    elif job.has_machine and state == "idle":
        job.lose_machine(entered)
    else:
        job.enter(state, entered)
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
