"""TaskVine's library tasks: no demand for workers, though the manager counts them as tasks.

A library task is sent along with the first FunctionCall that a worker gets, and runs there
until the worker ends. Upstream's worker takes it for work, so a worker that has one never
becomes idle by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Libraries", "find_libraries", "may_have", "without_libraries"]

# Tasks in the manager of which the list is fetched: it has some 400 bytes for each. With
# more of them, libraries make no difference.
_MOST_TASKS = 5000

_RESOURCES = ("cores", "memory", "disk", "gpus")


@dataclass(frozen=True)
class Libraries:
    """The library tasks that run.

    Attributes:
        count: How many there are.
        unused: Addresses of the workers that have nothing else to do.
        unused_resources: What is allocated to those on them.
    """

    count: int = 0
    unused: frozenset[str] = frozenset()
    unused_resources: Mapping[str, int] = field(default_factory=dict)


def may_have(entry: Mapping[str, Any]) -> bool:
    """Whether a manager with this status may have library tasks.

    It has more tasks than its program has submitted and not got back: those that recover a
    lost file do so, too.
    """
    known = {
        name: value
        for name, value in entry.items()
        if name.startswith("tasks_") and isinstance(value, int)
    }
    if not {"tasks_submitted", "tasks_done"} <= set(known) or not _on_workers(known):
        return False
    there = known.get("tasks_waiting", 0) + _on_workers(known)
    of_program = (
        known["tasks_submitted"] - known["tasks_done"] - known.get("tasks_cancelled", 0)
    )
    return of_program < there <= _MOST_TASKS


def find_libraries(tasks: Iterable[Mapping[str, Any]]) -> Libraries:
    """Return the libraries in a manager's list of its tasks.

    Source: ``vine_task_to_jx`` in ``vine_task.c``: ``provides_library``, and ``addrport`` of
    a task that is with a worker.
    """
    placed = [task for task in tasks if task.get("addrport")]
    libraries = [task for task in placed if task.get("provides_library")]
    at_work = {str(t["addrport"]) for t in placed if not t.get("provides_library")}
    unused = frozenset(str(t["addrport"]) for t in libraries) - at_work
    resources: Counter[str] = Counter()
    for task in libraries:
        if str(task["addrport"]) in unused:
            resources.update({name: _number(task.get(name)) for name in _RESOURCES})
    return Libraries(len(libraries), unused, dict(resources))


def without_libraries(entry: Mapping[str, Any], libraries: Libraries) -> dict[str, Any]:
    """Return a manager's status without its library tasks.

    What a library has that serves function calls stays: they have nothing of their own.
    """
    found = dict(entry)
    for name in ("tasks_on_workers", "tasks_running"):
        if name in found:
            found[name] = max(0, _number(found[name]) - libraries.count)
    for name, amount in libraries.unused_resources.items():
        key = f"tasks_total_{name}"
        if key in found:
            found[key] = max(0, _number(found[key]) - amount)
    return found


def _on_workers(known: Mapping[str, int]) -> int:
    return max(known.get("tasks_on_workers", 0), known.get("tasks_running", 0))


def _number(value: Any) -> int:
    return max(0, int(value)) if isinstance(value, (int, float)) else 0
