"""Jobs that wait with options that have changed are replaced, and no others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vine_sharedport.condor.submit_description import SubmitDescription
from vine_sharedport.factory.jobs.description import Description, describe
from vine_sharedport.factory.jobs.job import STATES, Job
from vine_sharedport.factory.jobs.outdated import OutdatedJobs
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.submission.destination import Destination

JOBS = [Job(1, number, state=state) for number, state in enumerate(STATES)] + [Job(2, 0)]


def description(text: str) -> Description:
    return Description(SubmitDescription((text,)), {}, 30, Destination())


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found = [1000.0]
    clock = SimpleNamespace(monotonic=lambda: found[0])
    monkeypatch.setattr("vine_sharedport.factory.jobs.outdated.time", clock)
    return found


@pytest.fixture
def outdated() -> OutdatedJobs:
    """Return what knows cluster 1, and not cluster 2."""
    found = OutdatedJobs()
    found.note(1, Options(), description("memory"), JOBS)
    return found


def find(outdated: OutdatedJobs, options: Options, text: str) -> list[str]:
    found = outdated.find(JOBS, options, lambda: description(text))
    return [job.id for job in found]


def test_only_known_jobs_that_wait_or_are_held_are_replaced(outdated: OutdatedJobs) -> None:
    held = STATES.index("held")
    assert find(outdated, Options(memory=1), "less memory") == ["1.0", f"1.{held}"]


def test_what_changes_beside_what_is_asked_for_replaces_nothing(outdated: OutdatedJobs) -> None:
    assert find(outdated, Options(max_workers=7), "memory") == []
    assert find(outdated, Options(), "another worker program on PATH") == []


def test_options_may_be_set_one_after_the_other_and_again_and_again(
    outdated: OutdatedJobs, now: list[float]
) -> None:
    def due(text: str, after: float) -> bool:
        now[0] += after
        assert find(outdated, Options(memory=1), text)
        return outdated.is_due(5.0)

    assert not due("memory=1", 0)
    assert not due("memory=1, cores=1", 4)
    assert not due("memory=1, cores=1", 4)
    assert due("memory=1, cores=1", 1)
    outdated.note_replaced()
    assert not due("memory=2", 10)
    assert not due("memory=2", 40)
    assert due("memory=2", 10)


def test_clusters_that_have_no_job_left_are_forgotten(outdated: OutdatedJobs) -> None:
    ended = [Job(1, 0, state="ended"), Job(3, 0)]
    outdated.note(3, Options(), description("memory"), ended)
    now = outdated.find([*JOBS, Job(3, 1)], Options(memory=1), lambda: description("less"))
    assert [job.id for job in now] == ["3.1"]


def test_a_description_differs_by_what_is_asked_for_and_not_by_its_lease(
    tmp_path: Path,
) -> None:
    worker = tmp_path / "vine_worker"
    worker.write_text("#!/bin/sh\n")
    worker.chmod(0o755)

    def made(now: float, **values: Any) -> Description:
        options = Options(
            address="<192.0.2.7:9618?sock=vine_42>", worker_binary=str(worker), **values
        )
        return describe(options, str(tmp_path), factory="f" * 32, now=now)

    first, second = made(1000.0, memory=9000), made(5000.0, memory=9000)
    assert first.job != second.job
    assert first.recipe == second.recipe
    for change in ({"memory": 100}, {"cores": 2}, {"condor_requirements": "A"}, {"gpus": 1}):
        assert made(1000.0, **{"memory": 9000, **change}).recipe != first.recipe
