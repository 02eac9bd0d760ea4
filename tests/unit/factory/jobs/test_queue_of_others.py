"""Jobs that a queue leaves alone or removes: those left behind, and those of others."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.factory.fake_schedd import AbsentSchedd
from vine_sharedport.factory.jobs.job import Job
from vine_sharedport.factory.jobs.queue import Queue, _constraints
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
    assert removed == [f'VineSharedPortFactory =?= "{ended}"']


def test_jobs_of_others_with_the_managers_name_do_not_count(queue: Queue) -> None:
    import pwd

    me = pwd.getpwuid(os.getuid()).pw_name
    base = {"ProcId": 0, "JobStatus": 1, "QDate": 1, "EnteredCurrentStatus": 1}
    ads = [
        {**base, "ClusterId": 1, "Owner": me, "VineSharedPortFactory": "e" * 32},
        {**base, "ClusterId": 2, "Owner": "somebody"},
    ]
    queue._schedd = SimpleNamespace(query=lambda *_: ads)  # type: ignore[assignment]
    assert queue.query()
    assert [job.id for job in queue.others] == ["1.0"]


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
