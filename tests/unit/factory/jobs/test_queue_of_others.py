"""Jobs that a queue leaves alone or removes: those left behind, and those of others."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.factory.fake_schedd import AbsentSchedd, FakeSchedd
from vine_sharedport.condor.personal_pool.user import owner
from vine_sharedport.factory.jobs.description import LEASE_ATTRIBUTE
from vine_sharedport.factory.jobs.job import Job
from vine_sharedport.factory.jobs.queue import Queue, _constraints
from vine_sharedport.factory.jobs.removal import Removal
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.submission.destination import Destination
from vine_sharedport.factory.submission.location import JobLocation


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """Return a queue at a schedd that is not there."""
    place = JobLocation("m", Destination(), "workers.log", 30)
    place.write(str(tmp_path))
    found = Queue(str(tmp_path), factory="f" * 32, place=place)
    found._schedd = AbsentSchedd()  # type: ignore[assignment]
    return found


def test_jobs_left_behind_are_looked_for_until_the_schedd_has_answered(queue: Queue) -> None:
    assert queue.remove_left_behind() is False
    assert queue.error == "the schedd is not there"
    queue._schedd = SimpleNamespace(query=lambda *_: [])  # type: ignore[assignment]
    assert queue.remove_left_behind() is True


def test_nobody_elses_job_can_name_what_is_removed(queue: Queue, tmp_path: Path) -> None:
    """Everybody may submit a job with the manager's public sock id, and any other text."""
    ended, living, other = "a" * 32, "b" * 32, "c" * 32
    for mark in (ended, living, other):
        directory = tmp_path / mark
        directory.mkdir()
        (directory / paths.LOCK).touch()
        (directory / "factory.id").write_text(mark)
    (tmp_path / other / "factory.id").write_text("d" * 32)  # another one has the directory
    evil = 'x" || true || "y'
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / paths.LOCK).touch()

    def ad(mark: str, directory: str) -> dict[str, str]:
        path = str(tmp_path / directory / "workers.log")
        return {"VineSharedPortFactory": mark, "UserLog": path}

    ads = [
        ad(ended, ended), ad(living, living), ad(other, other), ad(evil, "evil"),
        ad("e" * 32, "nowhere"), {"VineSharedPortFactory": "f" * 31 + "e", "UserLog": "a\0b"},
    ]  # fmt: skip
    removed: list[str] = []
    queue._schedd = SimpleNamespace(  # type: ignore[assignment]
        query=lambda *_: ads, act=lambda _, which, __: removed.append(which) or 1
    )
    lock = paths.lock_directory(str(tmp_path / living))
    assert lock is not None
    try:
        assert queue.remove_left_behind() is True
    finally:
        os.close(lock)
    assert removed == [f'VineSharedPortFactory =?= "{ended}" && Owner =?= "{owner()}"']


def test_jobs_of_others_with_the_managers_name_do_not_count(queue: Queue) -> None:
    me = owner()
    base = {"ProcId": 0, "JobStatus": 1, "QDate": 1, "EnteredCurrentStatus": 1}
    ads = [
        {**base, "ClusterId": 1, "Owner": me, "VineSharedPortFactory": "e" * 32},
        {**base, "ClusterId": 2, "Owner": "somebody"},
    ]
    queue._schedd = SimpleNamespace(query=lambda *_: ads)  # type: ignore[assignment]
    assert queue.query()
    assert [job.id for job in queue.others] == ["1.0"]


@pytest.fixture
def schedd(queue: Queue) -> FakeSchedd:
    """Return a schedd for the queue, where two jobs of another user have its marks."""
    found = FakeSchedd("f" * 32, "m")
    for status in (1, 2):
        found.add(status, ClusterId=900 + status, Owner="mallory")
    queue._schedd = found  # type: ignore[assignment]
    return found


def test_what_others_submit_with_our_mark_neither_counts_nor_keeps_us_from_anything(
    queue: Queue, schedd: FakeSchedd, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedd.add(5)
    assert queue.query()
    assert [job.state for job in queue.table] == ["held"]
    assert not list(queue.others)
    assert (queue.count_left(), len(queue.names())) == ((1, 0), 1)
    queue._renewed -= 3600
    queue.renew_lease()
    assert queue.error is None
    assert [name for name, _ in schedd.edits] == [LEASE_ATTRIBUTE]
    assert queue.remove_waiting(list(queue.table), "too many") is True
    queue.query()
    schedd.add(2)
    monkeypatch.setattr("vine_sharedport.factory.jobs.removal._TICK", 0.0)
    removal = Removal(queue, "told to end")
    for _ in range(4):
        removal.go_on()
    assert (removal.is_over, removal.is_done, queue.error) == (True, True, None)
    assert {ad["Owner"] for ad in schedd.ads} == {"mallory"}


def test_jobs_that_were_left_behind_are_removed_beside_those_of_others(
    queue: Queue, schedd: FakeSchedd, tmp_path: Path
) -> None:
    ended = "a" * 32
    (tmp_path / ended).mkdir()
    (tmp_path / ended / paths.LOCK).touch()
    (tmp_path / ended / "factory.id").write_text(ended)
    log = str(tmp_path / ended / "workers.log")
    for who in (owner(), "mallory"):
        schedd.add(1, Owner=who, VineSharedPortFactory=ended, UserLog=log)
    assert queue.remove_left_behind() is True
    assert queue.error is None
    gone = [ad["Owner"] for ad in schedd.ads if ad["JobStatus"] == 3]
    assert gone == [owner()]


def test_what_another_schedd_calls_us_is_learned_from_what_it_took_and_kept(
    tmp_path: Path,
) -> None:
    def queue_there() -> Queue:
        place = JobLocation("m", Destination(schedd="ap7"), "workers.log", 30)
        made = Queue(str(tmp_path), factory="f" * 32, place=place)
        made._schedd = schedd  # type: ignore[assignment]
        return made

    schedd = FakeSchedd("f" * 32, "m")
    schedd.owner = "ann-of-there"
    schedd.add(1, ClusterId=1, Owner="mallory")  # the first in the queue
    queue = queue_there()
    description: Any = SimpleNamespace(job=None, where=Destination(schedd="ap7"))
    queue.submit(description, 2)
    assert queue.query()
    for each in (queue, queue_there()):
        assert each.mine.endswith(' && Owner =?= "ann-of-there"')
        assert each.count_left() == (2, 0)
        assert each.query()
        assert len(each.table) == 2


def test_a_schedd_here_that_calls_us_otherwise_says_so_with_the_first_job(
    queue: Queue,
) -> None:
    schedd = FakeSchedd("f" * 32, "m")
    schedd.owner = "mapped"
    queue._schedd = schedd  # type: ignore[assignment]
    description: Any = SimpleNamespace(job=None, where=Destination())
    queue.submit(description, 2)
    assert queue.count_left() == (2, 0), "before the next look, too"
    assert queue.query()
    assert queue.mine.endswith(' && Owner =?= "mapped"')
    assert len(queue.table) == 2


def test_many_jobs_are_told_in_short_constraints() -> None:
    jobs = [Job(1, proc) for proc in range(30_000)] + [Job(2, 3), Job(2, 5)]
    (only,) = _constraints(reversed(jobs))
    assert only == (
        "((ClusterId == 1 && ProcId >= 0 && ProcId <= 29999) || "
        "(ClusterId == 2 && ProcId >= 3 && ProcId <= 3) || "
        "(ClusterId == 2 && ProcId >= 5 && ProcId <= 5))"
    )
    parts = _constraints(Job(1, 2 * proc) for proc in range(1000))
    assert sum(part.count("ClusterId") for part in parts) == 1000
    assert max(map(len, parts)) < 20_000
