"""What a factory tells of itself: numbers, jobs and problems, in every form of them."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vine_sharedport import records
from vine_sharedport.errors import DialAttempt, SettingError
from vine_sharedport.factory.report.phase import Phase

__all__ = [
    "JobReport",
    "ManagerReport",
    "Problem",
    "Snapshot",
    "WorkerCounts",
    "WorkerSize",
    "describe_age",
    "format_html",
    "format_prometheus",
    "format_text",
]

# Jobs that are shown one by one, where nobody asked for all.
_SHOWN = 12

# PID_MAX_LIMIT in Linux's include/linux/threads.h.
_MAX_PID = 1 << 22


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
        not_connected: Those that it does not know, yet or any more.
        held: Jobs that HTCondor has stopped until somebody acts.
        ended: Jobs that have ended by themselves or were removed, since the beginning.
        failed: Those of them that ended with another status than 0, or by a signal.
        evicted: How often a job lost its machine.
        others: Workers of the same manager that are not this factory's.
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


@dataclass(frozen=True)
class JobReport:
    """One worker's job.

    Attributes:
        id: HTCondor's number of it, such as ``12.0``.
        state: idle, running, connected, held, ended or removed.
        since: When it came into this state; seconds since 1970.
        host: Where it runs or ran.
        worker: Its worker's address, as the manager sees it, while it is connected.
        reason: Why it is not connected, held, or has failed.
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
        repaired: The factory has mended them and let them go on.
    """

    cause: str
    explanation: str
    remedy: str
    jobs: tuple[str, ...] = ()
    repaired: bool = False


@dataclass(frozen=True)
class Snapshot:
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
        jobs: One by one: all that have not ended, and those that ended last.
        problems: What is wrong.
        started: When it was started; seconds since 1970, 0 if that is not known.
        each: What a worker gets.
        phase: What ``message`` is about, for programs: the value of a ``Phase``.
        events: How often each event has happened since the process began, by its code.
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

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``json.dumps``."""
        return records.as_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Snapshot:
        """Return what ``as_dict`` gave; keys of other versions are left out.

        Raises:
            SettingError: It is something else.
        """
        try:
            made = records.decode(cls, values)
            if not 0 < made.pid <= _MAX_PID:  # to kill() others mean many processes
                raise SettingError(f"pid is {made.pid}")
            return made
        except SettingError as error:
            raise SettingError(f"this is no factory's status: {error}") from error

    def __str__(self) -> str:
        return format_text(self)

    def _repr_html_(self) -> str:
        return format_html(self)


def headline(snapshot: Snapshot) -> str:
    """Return the state in one line."""
    text = f"factory {snapshot.factory[:8]} {snapshot.state}"
    return f"{text}: {snapshot.message}" if snapshot.message else text


def rows(snapshot: Snapshot, now: float) -> list[tuple[str, str]]:
    """Return what there is to say in the order of a worker's way, name and text."""
    always = ("as of", "manager", "", "limits", "needed", "idle", "running")
    workers, manager = snapshot.workers, snapshot.manager
    place = manager.address or f"{manager.host}:{manager.port}"
    if manager.reachable:
        told = (
            f"{manager.tasks_waiting} tasks waiting, {manager.tasks_running} running, "
            f"{manager.tasks_done} done, {manager.workers} workers{_ways(manager)}"
        )
    elif snapshot.state == "running":
        # The line above has the address, as the error has.
        error = "; ".join(map(str, manager.attempts)) or manager.error
        told = f"no answer: {error}" if error else "not asked yet"
    else:
        told = "not asked any more"
    limits = f"{snapshot.min_workers} to {snapshot.max_workers} workers, each {snapshot.each}"
    found = [
        ("as of", describe_age(now - snapshot.time)),
        ("manager", " at ".join(filter(None, (manager.name, place)))),
        ("", told),
        ("limits", limits),
        ("needed", str(snapshot.needed)),
        ("submitted", str(snapshot.submitted)),
        ("idle", str(workers.idle)),
        ("running", f"{workers.running}, {workers.connected} of them connected"),
        ("held", str(workers.held)),
        ("ended", f"{workers.ended}, {workers.failed} of them failed"),
        ("evicted", str(workers.evicted)),
        ("others", f"{workers.others} workers that are not this factory's"),
    ]
    return [row for row in found if row[0] in always or not re.match(r"0\b", row[1])]


def _ways(manager: ManagerReport) -> str:
    """Return by which ways the workers came, where there are any and that is known."""
    ways = ((manager.by_shared_port, "the shared port"), (manager.by_tcp, "TCP"))
    found = [f"{number} by {way}" for number, way in ways if number]
    return f" ({', '.join(found)})" if found else ""


def jobs_worth_a_look(snapshot: Snapshot) -> list[JobReport]:
    """Return the jobs about which there is something to say, the latest first."""
    found = [job for job in snapshot.jobs if job.reason]
    return sorted(found, key=lambda job: -job.since)[:_SHOWN]


def describe_job(job: JobReport, now: float) -> str:
    """Return a job in one line."""
    parts = [f"{job.id} {job.state} for {format_age(now - job.since)}"]
    if job.host:
        parts.append(f"on {job.host}")
    if job.exit_status is not None:
        parts.append(f"status {job.exit_status}")
    if job.evictions:
        parts.append(f"evicted {job.evictions} times")
    text = ", ".join(parts)
    said = " - ".join(filter(None, (job.reason, job.last_line)))
    return f"{text}: {said}" if said else text


def format_age(seconds: float) -> str:
    """Return a length of time with its largest two units."""
    whole = max(0, int(seconds))
    for size, name, smaller, lower in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size}{name}{rest}{lower}" if rest else f"{whole // size}{name}"
    return f"{whole}s"


def describe_age(seconds: float) -> str:
    """Return how long ago something was, in words."""
    return f"{max(0, int(seconds))} s ago" if seconds < 60 else f"{format_age(seconds)} ago"


def format_text(snapshot: Snapshot, *, now: float | None = None) -> str:
    """Return it for a terminal, in lines."""
    now = time.time() if now is None else now
    lines = [headline(snapshot)]
    lines += [f"  {name:<10} {text}" for name, text in rows(snapshot, now)]
    for problem in snapshot.problems:
        lines.append(_problem_line(problem))
        lines.append(f"  {'repaired' if problem.repaired else 'remedy'}: {problem.remedy}")
    jobs = jobs_worth_a_look(snapshot)
    if jobs:
        lines.append("jobs:")
        lines += [f"  {describe_job(job, now)}" for job in jobs]
    return "\n".join(lines)


def _problem_line(problem: Problem) -> str:
    some = ", ".join(problem.jobs[:5]) + (", ..." if len(problem.jobs) > 5 else "")
    return f"problem ({problem.cause}): {problem.explanation}" + (f" [{some}]" if some else "")


def format_html(snapshot: Snapshot, *, now: float | None = None) -> str:
    """Return it for a notebook."""
    now = time.time() if now is None else now
    escape = html.escape
    body = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(text)}</td></tr>"
        for name, text in rows(snapshot, now)
    )
    parts = [f"<b>{escape(headline(snapshot))}</b>", f"<table>{body}</table>"]
    if snapshot.problems:
        items = "".join(
            f"<li>{escape(_problem_line(problem))}<br>"
            f"<i>{'repaired' if problem.repaired else 'remedy'}:</i> "
            f"{escape(problem.remedy)}</li>"
            for problem in snapshot.problems
        )
        parts.append(f"<ul>{items}</ul>")
    jobs = jobs_worth_a_look(snapshot)
    if jobs:
        items = "".join(f"<li>{escape(describe_job(job, now))}</li>" for job in jobs)
        parts.append(f"<details><summary>jobs</summary><ul>{items}</ul></details>")
    return f"<div>{''.join(parts)}</div>"


# Name, type, help, and how to get the values: pairs of labels and a number.
_GAUGES = ("idle", "connected", "not_connected", "held")


def format_prometheus(snapshot: Snapshot) -> str:
    """Return it in Prometheus's text format, version 0.0.4.

    Source: "Exposition formats" in Prometheus's documentation.
    """
    workers, manager = snapshot.workers, snapshot.manager
    who = {"factory": snapshot.factory, "directory": snapshot.directory}
    states = [({"state": name}, getattr(workers, name)) for name in _GAUGES]
    metrics: list[tuple[str, str, str, list[tuple[dict[str, str], float]]]] = [
        ("workers", "gauge", "Worker jobs, by state.", states),
        ("workers_others", "gauge", "The manager's workers of other origin.",
         [({}, workers.others)]),
        ("workers_needed", "gauge", "Workers that the tasks could use, within the limits.",
         [({}, snapshot.needed)]),
        ("workers_limit", "gauge", "The options min_workers and max_workers.",
         [({"limit": "min"}, snapshot.min_workers), ({"limit": "max"}, snapshot.max_workers)]),
        ("jobs_submitted_total", "counter", "Worker jobs submitted.",
         [({}, snapshot.submitted)]),
        ("jobs_ended_total", "counter", "Worker jobs that have ended.", [({}, workers.ended)]),
        ("jobs_failed_total", "counter", "Worker jobs that have failed.",
         [({}, workers.failed)]),
        ("jobs_evicted_total", "counter", "Times that a job lost its machine.",
         [({}, workers.evicted)]),
        ("manager_reachable", "gauge", "1 if the manager answered the last question.",
         [({}, int(manager.reachable))]),
        ("manager_tasks", "gauge", "The manager's tasks, by state.",
         [({"state": "waiting"}, manager.tasks_waiting),
          ({"state": "running"}, manager.tasks_running)]),
        ("manager_tasks_done_total", "counter", "The manager's tasks that have come back.",
         [({}, manager.tasks_done)]),
        ("manager_workers", "gauge", "Workers that are connected to the manager.",
         [({}, manager.workers)]),
        ("manager_workers_by_way", "gauge", "Workers that are connected, by how they came.",
         [({"way": way}, number)
          for way, number in (("shared_port", manager.by_shared_port), ("tcp", manager.by_tcp))
          if number is not None]),
        ("phase", "gauge", "1 for what it does now.", [({"phase": snapshot.phase}, 1)]),
        ("events_total", "counter", "What has happened, by its code.",
         [({"event": code}, number) for code, number in snapshot.events.items()]),
        ("problems", "gauge", "Problems, by cause.", _count_causes(snapshot)),
        ("running", "gauge", "0 once the factory has ended.",
         [({}, int(snapshot.state != "ended"))]),
        ("status_timestamp_seconds", "gauge", "When this was written.",
         [({}, snapshot.time)]),
    ]  # fmt: skip
    lines = []
    for name, kind, text, values in metrics:
        if not values:
            continue
        full = f"vine_sharedport_factory_{name}"
        lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
        for labels, value in values:
            shown = ",".join(f'{key}="{_label(v)}"' for key, v in {**who, **labels}.items())
            lines.append(f"{full}{{{shown}}} {value:.3f}" if isinstance(value, float)
                         else f"{full}{{{shown}}} {value}")  # fmt: skip
    return "\n".join(lines) + "\n"


def _count_causes(snapshot: Snapshot) -> list[tuple[dict[str, str], float]]:
    counts: dict[str, int] = {}
    for problem in snapshot.problems:
        counts[problem.cause] = counts.get(problem.cause, 0) + max(1, len(problem.jobs))
    return [({"cause": cause}, number) for cause, number in counts.items()]


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
