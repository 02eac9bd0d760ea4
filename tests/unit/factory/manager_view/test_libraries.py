"""Library tasks are found in a manager's list of tasks, and are no demand."""

from __future__ import annotations

from typing import Any

import pytest

from vine_sharedport.factory.manager_view.libraries import (
    Libraries,
    find_libraries,
    may_have,
    without_libraries,
)


def task(worker: str | None = None, *, library: bool = False, cores: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {"task_id": 1, "cores": cores, "memory": 10 * cores}
    if worker is not None:
        found["addrport"] = worker
    if library:
        found["provides_library"] = "lib"
    return found


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"submitted": 1, "done": 0, "waiting": 0, "on_workers": 2}, True),
        ({"submitted": 8, "done": 8, "waiting": 0, "on_workers": 1}, True),
        ({"submitted": 8, "done": 3, "cancelled": 1, "waiting": 2, "on_workers": 3}, True),
        ({"submitted": 8, "done": 3, "waiting": 2, "on_workers": 3}, False),
        ({"submitted": 8, "done": 3, "waiting": 5, "on_workers": 0}, False),
        ({"submitted": 9000, "done": 0, "waiting": 9000, "on_workers": 2}, False),
        ({"waiting": 1, "on_workers": 2}, False),  # a Work Queue, or a manager to come
        ({"submitted": None, "done": "x", "on_workers": 2}, False),
    ],
)
def test_the_list_is_fetched_where_there_are_more_tasks_than_were_submitted(
    numbers: dict[str, Any], expected: bool
) -> None:
    assert may_have({f"tasks_{name}": n for name, n in numbers.items()}) is expected


def test_a_worker_with_nothing_but_libraries_is_unused() -> None:
    found = find_libraries(
        [
            task("a:1", library=True, cores=1), task("a:1"),
            task("b:1", library=True, cores=1), task("b:1", library=True, cores=2),
            task("c:1", cores=4), task(library=True), task(),
        ]
    )  # fmt: skip
    assert (found.count, found.unused) == (3, frozenset({"b:1"}))
    assert {**found.unused_resources, "disk": 0, "gpus": 0} == {
        "cores": 3, "memory": 30, "disk": 0, "gpus": 0,
    }  # fmt: skip


def test_what_serves_function_calls_stays_in_the_demand() -> None:
    entry = {"tasks_running": 3, "tasks_on_workers": 4, "tasks_total_cores": 5, "other": "x"}
    libraries = Libraries(2, frozenset({"b:1"}), {"cores": 3, "memory": 7})
    assert without_libraries(entry, libraries) == {
        "tasks_running": 1, "tasks_on_workers": 2, "tasks_total_cores": 2, "other": "x",
    }  # fmt: skip
    assert without_libraries({"tasks_running": 1}, libraries) == {"tasks_running": 0}
