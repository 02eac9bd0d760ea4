"""Workers that are too many are taken back: that wait, or that keep nothing but a library."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vine_sharedport.factory.jobs.counts import Counts
from vine_sharedport.factory.jobs.job import Job
from vine_sharedport.factory.manager_view.libraries import Libraries
from vine_sharedport.factory.manager_view.monitor import ManagerView
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.surplus import Surplus


def surplus_of(jobs: list[Job], counts: Counts, *, knows_host: bool = True) -> tuple[Any, Any]:
    """Return a Surplus, and the list of what it removes."""
    removed: list[str] = []

    def remove(those: list[Job], reason: str) -> None:
        removed.extend(job.id for job in those)

    queue = SimpleNamespace(
        table=jobs, knows_host=knows_host, remove=remove, remove_waiting=remove
    )
    counter = SimpleNamespace(counts=lambda **_: counts)
    return Surplus(queue, counter), removed  # type: ignore[arg-type]


def connected(number: int) -> Job:
    return Job(1, number, state="running", connected=True, worker=f"192.0.2.7:{number}")


def view(answered: float, *unused: str) -> ManagerView:
    return ManagerView({}, libraries=Libraries(1, frozenset(unused)), answered=answered)


@pytest.mark.parametrize(
    ("counts", "knows_host", "removed"),
    [
        (Counts(idle=3, running=2), True, ["1.2"]),
        (Counts(idle=3, running=1), True, []),
        (Counts(idle=3, running=2), False, []),
        (Counts(idle=3, running=4, useless=3), True, ["1.0", "1.1", "1.2"]),
    ],
)
def test_the_last_of_those_that_wait_go_when_they_are_above_max_workers(
    counts: Counts, knows_host: bool, removed: list[str]
) -> None:
    jobs = [Job(1, number) for number in range(3)]
    surplus, found = surplus_of(jobs, counts, knows_host=knows_host)
    surplus.remove(view(1.0), 9, Options(max_workers=4))
    assert found == removed


@pytest.mark.parametrize(
    ("needed", "least", "removed"),
    [
        (0, 0, ["1.1", "1.2"]),
        (0, 1, ["1.1", "1.2"]),
        (0, 2, ["1.1"]),
        (2, 0, ["1.1"]),
        (3, 0, []),
    ],
)
def test_a_worker_with_nothing_but_libraries_goes_after_its_timeout_where_it_is_not_needed(
    needed: int, least: int, removed: list[str]
) -> None:
    jobs = [connected(number) for number in range(3)]
    surplus, found = surplus_of(jobs, Counts(running=3, connected=3))
    options = Options(max_workers=4, min_workers=least, timeout=10)
    unused = ("192.0.2.7:1", "192.0.2.7:2")
    surplus.remove(view(100.0, *unused, "192.0.2.7:0"), needed, options)
    surplus.remove(view(105.0, *unused), needed, options)  # the first one has a task
    surplus.remove(view(110.0, *unused), needed, options)
    assert found == []
    surplus.remove(view(111.0, *unused, "192.0.2.7:0"), needed, options)
    assert found == removed
