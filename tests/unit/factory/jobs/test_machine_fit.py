"""That no machine is large enough is said once, and only of jobs that have waited."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from vine_sharedport.errors import MissingDependencyError
from vine_sharedport.factory.jobs import machine_fit
from vine_sharedport.factory.jobs.job import Job
from vine_sharedport.factory.jobs.machine_fit import MachineFit

TOO_LARGE = SimpleNamespace(option="memory", most=3000, explanation="no slot has 9000 MB")


class Pool:
    """The answers that a pool gives, one after the other."""

    def __init__(self) -> None:
        self.answer: Any = TOO_LARGE
        self.asked = 0

    def query(self, *_: Any) -> Any:
        self.asked += 1
        return self.answer


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    made = Pool()
    monkeypatch.setattr(machine_fit, "query_too_large", made.query)
    monkeypatch.setattr(machine_fit.bindings, "load", lambda: None)
    monkeypatch.setattr(machine_fit, "is_typed", lambda: False)
    return made


def description(recipe: str = "a", grid: str | None = None) -> Any:
    where = SimpleNamespace(grid=grid, pool=None)
    return SimpleNamespace(where=where, recipe=recipe, job=SimpleNamespace(commands={}))


def job(waited: float, state: str = "idle") -> Job:
    return Job(1, 0, state=state, since=time.time() - waited)


def test_a_pool_without_such_a_machine_is_named_once(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    fit = MachineFit()
    fit.update([job(100)], description("a"))
    fit.update([job(100)], description("b"))
    assert pool.asked == 2
    assert fit.problem is not None
    assert (fit.problem.cause, fit.problem.jobs) == ("too_large", ("1.0",))
    assert fit.problem.remedy.endswith("memory=3000")
    assert caplog.text.count("no slot has 9000 MB") == 1


def test_the_pool_is_not_asked_of_what_waits_shortly_nor_all_the_time(pool: Pool) -> None:
    fit = MachineFit()
    fit.update([job(0)], description())
    assert pool.asked == 0, "a free machine may take as long"
    for _ in range(3):
        fit.update([job(100)], description())
    assert pool.asked == 1


@pytest.mark.parametrize(
    ("jobs", "grid"),
    [([], None), ([job(100, "running")], None), ([job(100)], "batch slurm")],
)
def test_where_nothing_waits_in_a_pool_there_is_no_such_problem(
    pool: Pool, jobs: list[Job], grid: str | None
) -> None:
    fit = MachineFit()
    fit.update([job(100)], description())
    assert fit.problem is not None
    fit.update(jobs, description(grid=grid))
    assert fit.problem is None


def test_it_is_over_when_a_machine_is_large_enough_or_nobody_knows(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = MachineFit()
    fit.update([job(100)], description("a"))
    pool.answer = None
    fit.update([job(100)], description("b"))
    assert fit.problem is None
    pool.answer = TOO_LARGE
    fit.update([job(100)], description("c"))
    assert fit.problem is not None

    def missing() -> None:
        raise MissingDependencyError("no bindings")

    monkeypatch.setattr(machine_fit.bindings, "load", missing)
    fit.update([job(100)], description("d"))
    assert fit.problem is None


def test_who_has_typed_a_command_gets_it_anew_with_less(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_fit, "is_typed", lambda: True)
    typed = ["/usr/bin/vine_sharedport", "factory", "-M", "x", "--memory", "9000"]
    monkeypatch.setattr("sys.argv", typed)
    fit = MachineFit()
    fit.update([job(100)], description())
    assert fit.problem is not None
    step = fit.problem.remedy.rpartition(": ")[2]
    assert step == "vine_sharedport factory -M x --memory 3000"
