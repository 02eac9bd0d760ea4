"""How many workers are needed, and that never too many are submitted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vine_sharedport.factory.demand import Counts, plan, within_limits, workers_needed
from vine_sharedport.factory.options.schema import Options


def needed(options: dict[str, Any] | None = None, **status: Any) -> int:
    return workers_needed([status], Options.make(options or {}))


def test_every_task_that_waits_is_with_a_worker_or_is_announced_counts() -> None:
    assert needed(tasks_waiting=7, tasks_on_workers=3, tasks_running=2, tasks_left=5) == 15


def test_without_tasks_on_workers_the_running_ones_count() -> None:
    assert needed(tasks_waiting=7, tasks_running=2) == 9


def test_several_managers_add_up() -> None:
    assert workers_needed([{"tasks_waiting": 2}, {"tasks_waiting": 3}, {}], Options()) == 5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 10),
        ({"cores": 4}, 3),  # one task per core
        ({"cores": 4, "tasks_per_worker": 5}, 2),
        ({"tasks_per_worker": 3}, 4),
    ],
)
def test_a_worker_runs_as_many_tasks_as_the_options_say(
    options: dict[str, Any], expected: int
) -> None:
    assert needed(options, tasks_waiting=10) == expected


@pytest.mark.parametrize("name", ["cores", "memory", "disk", "gpus"])
def test_declared_resources_ask_for_more_workers(name: str) -> None:
    status = {"tasks_waiting": 1, f"tasks_total_{name}": 41}
    assert needed({name: 10, "tasks_per_worker": 1}, **status) == 5
    assert needed({"tasks_per_worker": 1}, **status) == 1, "the worker's size is not known"


def test_capacity_counts_where_it_is_asked_for() -> None:
    status = {"tasks_waiting": 100, "capacity_weighted": 20, "capacity_cores": 24}
    assert needed({"tasks_per_worker": 2}, **status) == 50
    assert needed({"tasks_per_worker": 2, "capacity": True}, **status) == 10
    assert needed({"tasks_per_worker": 2, "capacity": True, "cores": 4}, **status) == 6


def test_an_unknown_capacity_limits_nothing() -> None:
    assert needed({"capacity": True}, tasks_waiting=9, capacity_weighted=0) == 9


ODD = st.one_of(
    st.none(), st.booleans(), st.text(), st.integers(), st.floats(), st.lists(st.integers())
)
KEYS = [
    "tasks_waiting", "tasks_left", "tasks_on_workers", "tasks_running",
    *(f"{kind}_{name}" for kind in ("tasks_total", "capacity")
      for name in ("cores", "memory", "disk", "gpus", "weighted")),
]  # fmt: skip
STATUS = st.lists(st.dictionaries(st.sampled_from(KEYS), ODD), max_size=3)
SMALL = st.integers(0, 30)
OPTIONS = st.builds(
    Options,
    min_workers=SMALL,
    max_workers=st.integers(1, 30),
    workers_per_cycle=SMALL,
    max_idle=st.none() | st.integers(1, 30),
    tasks_per_worker=st.none() | st.integers(1, 8),
    cores=st.none() | st.integers(1, 8),
    capacity=st.booleans(),
)


@st.composite
def some_counts(draw: st.DrawFn) -> Counts:
    running = draw(SMALL)
    return Counts(
        idle=draw(SMALL),
        running=running,
        connected=draw(st.integers(0, running)),
        held=draw(SMALL),
        other_idle=draw(SMALL),
        other_running=draw(SMALL),
        unmatched=draw(SMALL),
    )


@given(STATUS, OPTIONS)
def test_whatever_a_manager_says_the_need_is_a_number(
    status: list[dict[str, Any]], options: Options
) -> None:
    assert workers_needed(status, options) >= 0


@given(st.integers(-5, 10**9), OPTIONS, some_counts())
def test_never_too_many_are_submitted(wanted: int, options: Options, counts: Counts) -> None:
    new = plan(wanted, options, counts)
    assert new >= 0
    if new:
        own = counts.idle + counts.running + counts.held
        assert own + counts.others + new <= options.max_workers
        assert own + counts.others + new <= max(wanted, options.min_workers)
        if options.workers_per_cycle:
            assert own - counts.connected + new <= options.workers_per_cycle
        if options.max_idle is not None:
            assert counts.idle + new <= options.max_idle


@given(st.integers(0, 100), OPTIONS, some_counts())
def test_cycle_for_cycle_the_need_is_met_where_workers_connect(
    wanted: int, options: Options, counts: Counts
) -> None:
    """Growing stops at the target, neither before it nor beyond."""
    target = within_limits(wanted, options)
    own, others = 0, counts.other_idle + counts.other_running
    for _ in range(2 * target + 2):
        all_connected = Counts(
            running=own, connected=own, other_idle=counts.other_idle,
            other_running=counts.other_running,
        )  # fmt: skip
        own += plan(wanted, options, all_connected)
    assert own == max(0, target - others)


@given(OPTIONS, OPTIONS, st.lists(st.integers(0, 3), max_size=40))
def test_factories_in_turn_stay_within_the_limit_together(
    first: Options, second: Options, turns: list[int]
) -> None:
    """Two factories whose jobs go from idle to running to connected, in any order."""
    limit = max(first.max_workers, second.max_workers)
    idle, running, connected = [0, 0], [0, 0], [0, 0]
    for turn in turns:
        one, other = turn % 2, 1 - turn % 2
        if turn >= 2:  # what has been submitted gets further
            connected[one] = running[one]
            running[one], idle[one] = running[one] + idle[one], 0
        counts = Counts(
            idle=idle[one], running=running[one], connected=connected[one],
            other_idle=idle[other], other_running=running[other],
        )  # fmt: skip
        idle[one] += plan(1000, (first, second)[one], counts)
        assert sum(idle) + sum(running) <= limit


def test_held_jobs_are_not_replaced_for_ever() -> None:
    options = Options(workers_per_cycle=5)
    assert plan(50, options, Counts(held=3)) == 2
    assert plan(50, options, Counts(held=5)) == 0


@pytest.mark.parametrize(("idle", "new"), [(0, 3), (2, 1), (3, 0), (9, 0)])
def test_no_more_than_max_idle_wait_for_a_machine(idle: int, new: int) -> None:
    assert plan(50, Options(max_idle=3, workers_per_cycle=0), Counts(idle=idle)) == new


def test_workers_that_the_user_started_count() -> None:
    assert plan(10, Options(workers_per_cycle=0), Counts(unmatched=7)) == 3


def test_the_minimum_is_kept_without_tasks() -> None:
    assert plan(0, Options(min_workers=2), Counts()) == 2
    assert plan(0, Options(max_workers=1), Counts()) == 1, "the maximum holds"
