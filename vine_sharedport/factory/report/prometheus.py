"""A factory's status for Prometheus."""

from __future__ import annotations

from vine_sharedport.factory.report.record import StatusRecord

__all__ = ["format_prometheus"]

# Name, type, help, and how to get the values: pairs of labels and a number.
_GAUGES = ("idle", "connected", "not_connected", "suspended", "held")


def format_prometheus(snapshot: StatusRecord) -> str:
    """Return it in Prometheus's text format, version 0.0.4.

    Source: "Exposition formats" in Prometheus's documentation.
    """
    workers, manager = snapshot.workers, snapshot.manager
    who = {"factory": snapshot.factory, "directory": snapshot.directory}
    states = [({"state": name}, getattr(workers, name)) for name in _GAUGES]
    metrics: list[tuple[str, str, str, list[tuple[dict[str, str], float]]]] = [
        ("workers", "gauge", "Worker jobs, by state.", states),
        ("workers_silent", "gauge", "Connected workers that do not answer at present.",
         [({}, workers.silent)]),
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


def _count_causes(snapshot: StatusRecord) -> list[tuple[dict[str, str], float]]:
    counts: dict[str, int] = {}
    for problem in snapshot.problems:
        counts[problem.cause] = counts.get(problem.cause, 0) + max(
            1, len(problem.jobs) + problem.jobs_left_out
        )
    return [({"cause": cause}, number) for cause, number in counts.items()]


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
