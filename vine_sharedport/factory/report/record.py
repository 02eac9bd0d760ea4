"""A factory's status as plain values: manager, workers, jobs and problems."""

from __future__ import annotations

from dataclasses import dataclass, field

from vine_sharedport.errors import DialAttempt
from vine_sharedport.factory.report.phase import Phase

__all__ = [
    "JobReport",
    "ManagerReport",
    "Problem",
    "StatusRecord",
    "WorkerCounts",
    "WorkerSize",
]


@dataclass(frozen=True)
class ManagerReport:
    """The manager, as far as it told.

    Attributes:
        address: Its address at the shared port.
        host: Its host, where it is reached by TCP alone.
        port: Its port, likewise.
        reachable: Whether it answered the last question.
        error: Why not.
        tasks_waiting: Tasks that no worker has.
        tasks_running: Tasks at work.
        workers: All workers that are connected, whoever started them.
        by_shared_port: Those of them that came through the shared port; None if that is not
            known, as from another host than the manager's.
        by_tcp: Those that came by the manager's own TCP port; None likewise.
        name: What it calls itself; None without a name, or before its first answer.
        tasks_done: Tasks that have come back.
        silent: Workers whose connections get no answer at present, whoever started them.
        attempts: What each way to it did at the last question, if none led there.
    """

    address: str | None = None
    host: str | None = None
    port: int | None = None
    reachable: bool = False
    error: str | None = None
    tasks_waiting: int = 0
    tasks_running: int = 0
    workers: int = 0
    by_shared_port: int | None = None
    by_tcp: int | None = None
    name: str | None = None
    tasks_done: int = 0
    silent: int = 0
    attempts: tuple[DialAttempt, ...] = ()


@dataclass(frozen=True)
class WorkerSize:
    """What a worker gets, by the options of these names; None: what HTCondor gives.

    Attributes:
        cores: Its cores.
        memory: Megabytes.
        disk: Megabytes.
        gpus: Its GPUs.
        autosize: Its whole slot, if that is more.
    """

    cores: int | None = None
    memory: int | None = None
    disk: int | None = None
    gpus: int | None = None
    autosize: bool = False

    def __str__(self) -> str:
        """Return it in words."""
        if self.autosize:
            return "its whole slot"
        cores = self.cores or 1
        parts = [f"{cores} core{'s' if cores > 1 else ''}"]
        if self.memory is not None:
            parts.append(f"{self.memory} MB")
        if self.disk is not None:
            parts.append(f"{self.disk} MB of disk")
        if self.gpus:
            parts.append(f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}")
        return ", ".join(parts)


@dataclass(frozen=True)
class WorkerCounts:
    """How many of the factory's workers are where.

    Attributes:
        idle: Jobs that wait for a machine.
        running: Jobs that run: ``connected`` and ``not_connected``.
        connected: Those of them that the manager knows.
        silent: Those of ``connected`` whose connection gets no answer at present.
        not_connected: Those that it does not know, yet or any more.
        held: Jobs that HTCondor has stopped until somebody acts.
        ended: Jobs that have ended by themselves or were removed, since the beginning.
        failed: Those of them that ended with another status than 0, by a signal, or without
            ever having been connected.
        evicted: How often a job lost its machine.
        others: Workers of the same manager that are not this factory's.
        suspended: Jobs that HTCondor has stopped on their machine for a while; they do not
            count as workers.
        lost: Those of ``not_connected`` that should have given up long ago; nor do they.
    """

    idle: int = 0
    running: int = 0
    connected: int = 0
    not_connected: int = 0
    held: int = 0
    ended: int = 0
    failed: int = 0
    evicted: int = 0
    others: int = 0
    silent: int = 0
    suspended: int = 0
    lost: int = 0


@dataclass(frozen=True)
class JobReport:
    """One worker's job.

    Attributes:
        id: HTCondor's number of it, such as ``12.0``.
        state: idle, running, connected, silent (connected, and without an answer), suspended,
            held, ended or removed.
        since: When it came into this state; seconds since 1970.
        host: Where it runs or ran.
        worker: Its worker's address, as the manager sees it, while it is connected.
        reason: Why it is not connected, silent, held, or has failed.
        exit_status: What it ended with.
        evictions: How often it lost its machine.
        last_line: What its launcher said last.
    """

    id: str
    state: str
    since: float
    host: str | None = None
    worker: str | None = None
    reason: str | None = None
    exit_status: int | None = None
    evictions: int = 0
    last_line: str | None = None


@dataclass(frozen=True)
class Problem:
    """Something that keeps workers from working, with what to do about it.

    Attributes:
        cause: One word for programs.
        explanation: What happened.
        remedy: What the user can do.
        jobs: The jobs that it concerns.
        repaired: The factory has repaired and released them.
        jobs_left_out: How many more it concerns.
    """

    cause: str
    explanation: str
    remedy: str
    jobs: tuple[str, ...] = ()
    repaired: bool = False
    jobs_left_out: int = 0


@dataclass(frozen=True)
class StatusRecord:
    """All that a factory knows at one moment; ``status.json`` has it as JSON.

    Attributes:
        time: The moment; seconds since 1970.
        factory: The factory's id, the mark in its jobs' ads.
        pid: The process to send SIGTERM to.
        state: ``running``, ``ending`` or ``ended``.
        message: What it does or waits for, or why it ended.
        directory: Where its files are.
        manager: What the manager tells.
        min_workers: The option.
        max_workers: The option.
        needed: Workers that the tasks could use at once, within the limits.
        submitted: Jobs submitted since the beginning.
        workers: Where they are.
        jobs: One by one, the latest of each state and those that ended last: of ten thousand
            that wait there is no more to say than of a hundred.
        problems: What is wrong.
        started: When it was started; seconds since 1970, 0 if that is not known.
        each: What a worker gets.
        phase: What ``message`` is about, for programs: the value of a ``Phase``.
        events: How often each event has happened since the process began, by its code.
        jobs_left_out: How many more jobs have not ended.
        due: When the next status is written at the latest, while it runs; seconds since 1970,
            0 if that is not known.
    """

    time: float
    factory: str
    pid: int
    state: str
    message: str
    directory: str
    manager: ManagerReport = field(default_factory=ManagerReport)
    min_workers: int = 0
    max_workers: int = 0
    needed: int = 0
    submitted: int = 0
    workers: WorkerCounts = field(default_factory=WorkerCounts)
    jobs: tuple[JobReport, ...] = ()
    problems: tuple[Problem, ...] = ()
    started: float = 0.0
    each: WorkerSize = field(default_factory=WorkerSize)
    phase: str = Phase.STARTING.value
    events: dict[str, int] = field(default_factory=dict)
    jobs_left_out: int = 0
    due: float = 0.0
