"""A factory's status for people: in a terminal and in a notebook."""

from __future__ import annotations

import html
import re
import time

from vine_sharedport.factory.report.record import (
    JobReport,
    ManagerReport,
    Problem,
    StatusRecord,
    WorkerCounts,
)

__all__ = [
    "describe_age",
    "describe_job",
    "format_age",
    "format_html",
    "format_text",
    "headline",
    "jobs_worth_a_look",
    "rows",
]

# Jobs that are shown one by one, where nobody asked for all.
_SHOWN = 12


def headline(snapshot: StatusRecord) -> str:
    """Return the state in one line."""
    text = f"factory {snapshot.factory[:8]} {snapshot.state}"
    return f"{text}: {snapshot.message}" if snapshot.message else text


def rows(snapshot: StatusRecord, now: float) -> list[tuple[str, str]]:
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
        told = f"no answer: {error}" if error else "no answer yet"
    else:
        told = "not queried any more"
    limits = f"{snapshot.min_workers} to {snapshot.max_workers} workers, each {snapshot.each}"
    lost = f", {workers.lost} of them lost, which do not count" if workers.lost else ""
    found = [
        ("as of", describe_age(now - snapshot.time)),
        ("manager", " at ".join(filter(None, (manager.name, place)))),
        ("", told),
        ("limits", limits),
        ("needed", str(snapshot.needed)),
        ("submitted", str(snapshot.submitted)),
        ("idle", str(workers.idle)),
        (
            "running",
            f"{workers.running}, {workers.connected} of them connected{_silent(workers)}{lost}",
        ),
        ("suspended", f"{workers.suspended}, which do not count"),
        ("held", str(workers.held)),
        ("ended", f"{workers.ended}, {workers.failed} of them failed"),
        ("evicted", str(workers.evicted)),
        ("others", f"{workers.others} workers that are not this factory's"),
    ]
    return [row for row in found if row[0] in always or not re.match(r"0\b", row[1])]


def _silent(workers: WorkerCounts) -> str:
    """Return how many of those that are connected do not answer, if there are any."""
    return f", {workers.silent} of those without an answer" if workers.silent else ""


def _ways(manager: ManagerReport) -> str:
    """Return by which ways the workers came, where there are any and that is known."""
    ways = ((manager.by_shared_port, "the shared port"), (manager.by_tcp, "TCP"))
    found = [f"{number} by {way}" for number, way in ways if number]
    if manager.silent:
        found.append(f"{manager.silent} without an answer")
    return f" ({', '.join(found)})" if found else ""


def jobs_worth_a_look(snapshot: StatusRecord) -> list[JobReport]:
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


def format_text(snapshot: StatusRecord, *, now: float | None = None) -> str:
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


def format_html(snapshot: StatusRecord, *, now: float | None = None) -> str:
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
