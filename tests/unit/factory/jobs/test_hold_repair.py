"""Held jobs are mended when that is allowed, and told of once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.factory.fake_schedd import FakeSchedd
from vine_sharedport.errors import ScheddError
from vine_sharedport.factory.jobs.hold_repair import HoldRepair
from vine_sharedport.factory.jobs.queue import Queue
from vine_sharedport.factory.submission.destination import Destination
from vine_sharedport.factory.submission.location import JobLocation

FACTORY = "f" * 32


@pytest.fixture
def schedd() -> FakeSchedd:
    """Return a schedd that holds a job for its memory."""
    found = FakeSchedd(FACTORY, "m")
    found.add(5)
    found.ads[0].update(HoldReasonCode=34, HoldReasonSubCode=102, RequestMemory=100)
    return found


@pytest.fixture
def repairs(tmp_path: Path, schedd: FakeSchedd) -> HoldRepair:
    queue = Queue(
        str(tmp_path), factory=FACTORY, place=JobLocation("m", Destination(), "workers.log", 30)
    )
    queue._schedd = schedd  # type: ignore[assignment]
    assert queue.query()
    return HoldRepair(queue)


def repaired(repairs: HoldRepair) -> bool:
    (problem,) = repairs.problems()
    assert problem.cause == "memory"
    return problem.repaired


def test_a_job_held_before_that_was_allowed_is_mended_once_it_is(
    repairs: HoldRepair, schedd: FakeSchedd
) -> None:
    repairs.update(repair=False)
    assert (repaired(repairs), schedd.done) == (False, [])
    repairs.update(repair=True)
    assert (repaired(repairs), schedd.done) == (True, ["release"])
    assert schedd.ads[0]["RequestMemory"] == 150
    repairs.update(repair=True)
    assert schedd.done == ["release"], "the log tells later that it was released"


def test_what_the_schedd_does_not_do_is_tried_again_and_told_once(
    repairs: HoldRepair, schedd: FakeSchedd, caplog: pytest.LogCaptureFixture
) -> None:
    schedd.error = "it restarts"
    for _ in range(3):
        repairs.update(repair=True)
        assert not repaired(repairs)
    assert caplog.text.count("is held") == 1
    schedd.error = None
    caplog.set_level("INFO")
    repairs.update(repair=True)
    assert (repaired(repairs), schedd.done) == (True, ["release"])
    assert caplog.text.count("repaired and released") == 1


def test_attempts_that_fail_half_way_are_not_made_for_ever(
    repairs: HoldRepair, schedd: FakeSchedd, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def refuse(action: str, *_: Any) -> int:
        tried.append(action)
        raise ScheddError("not allowed")

    monkeypatch.setattr(schedd, "act", refuse)
    for _ in range(5):
        repairs.update(repair=True)
    assert tried == ["release"] * 2
    schedd.error = "is not asked any more"
    repairs._queue.error = None
    repairs.update(repair=True)
    assert repairs._queue.error is None


def test_the_way_to_release_jobs_names_them_and_their_schedd(
    repairs: HoldRepair, schedd: FakeSchedd
) -> None:
    schedd.ads[0].update(HoldReasonCode=15)
    repairs._queue.table.update(schedd.ads, asked=time.time() + 2)
    repairs._queue._where = Destination(schedd="a", pool="b")
    repairs.update(repair=False)
    (problem,) = repairs.problems()
    assert problem.remedy.startswith("condor_release -name a -pool b 7; ")


def test_a_job_that_has_gone_is_no_problem_any_more(repairs: HoldRepair) -> None:
    repairs.update(repair=False)
    assert repairs.problems()
    repairs._queue.table.update([], asked=time.time() + 2)
    assert repairs.problems() == []
