"""A factory whose workers' jobs go elsewhere: another schedd, its spool, a grid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.daemon.factory.test_faults import factory_of_its_own
from tests.daemon.factory_helpers import SWIFT, drive, finish, kill, processes_of
from vine_sharedport.condor.schedd import Schedd
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.submission.destination import Destination
from vine_sharedport.factory.submission.location import JobLocation

from . import where_helpers
from .where_helpers import SECOND

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")


@pytest.fixture(scope="module")
def pool() -> Iterator[Any]:
    """Return a pool with two schedds, instead of the other tests' pool."""
    with where_helpers.pool_with_second_schedd() as running:
        yield running


def _options(kind: str) -> dict[str, Any]:
    import htcondor2

    collector = htcondor2.param["COLLECTOR_HOST"]
    resource = f"condor {SECOND} {collector}"
    return {
        "schedd": {"schedd": SECOND},
        "pool": {"schedd": SECOND, "pool": collector},
        "spool": {"schedd": SECOND, "spool": True},
        "condor": {"grid": resource},
        # Only root's schedd can have its host's name, as a CE's has: the second one is it.
        "ce": {"grid": "ce localhost", "commands": {"grid_resource": resource}},
        "batch": {"grid": "batch condor"},
    }[kind]


def second_jobs_of(mark: str) -> list[Any]:
    jobs = Schedd(SECOND).query(f'VineSharedPortFactory =?= "{mark}"', ["JobStatus"])
    return [job for job in jobs if job["JobStatus"] not in (3, 4)]


@pytest.mark.parametrize("kind", ["schedd", "pool", "spool", "condor", "ce", "batch"])
def test_a_workflow_there_from_the_first_worker_to_the_last_jobs_end(
    make_manager: Any, kind: str
) -> None:
    manager = make_manager()
    options = {**SWIFT, "max_workers": 2, "timeout": 60, **_options(kind)}
    with vine.Factory("condor", manager=manager, **options) as workers:

        def both_are_there() -> bool:
            if (
                helpers.stats_now(manager).tasks_waiting < 10
            ):  # or one alone may have done all before
                for _ in range(20):
                    manager.submit(vine.Task("sleep 0.2"))
            return bool(workers.status().workers.connected == 2)

        drive(manager, both_are_there, timeout=150)
        finish(manager)
        snapshot = workers.status()
        assert snapshot.manager.by_shared_port == 2
        # One that was lost at its start has another in its place.
        assert snapshot.submitted - snapshot.workers.ended == 2
        assert snapshot.problems == ()
    assert workers.status().state == "ended"
    assert JobLocation.read(workers.directory) is None
    schedd = Schedd(options.get("schedd"))
    mark = f'VineSharedPortFactory =?= "{snapshot.factory}"'
    helpers.wait_until(lambda: not schedd.query(mark), timeout=60)
    left = [job for job in where_helpers.second_jobs() if job["JobStatus"] not in (3, 4)]
    assert not left, "the other schedd still has jobs that the first one has removed"


def test_jobs_of_a_factory_that_was_killed_go_when_the_next_names_another_schedd(
    make_manager: Any, tmp_path: Path
) -> None:
    manager = make_manager()
    directory = str(tmp_path / "factory")
    with factory_of_its_own(manager, Path(directory), "-w", "1", "--schedd", SECOND) as mark:
        drive(manager, lambda: len(second_jobs_of(mark)) == 1)
        for pid in processes_of(directory):
            kill(pid)
        helpers.wait_until(lambda: not paths.is_running(directory))
        assert len(second_jobs_of(mark)) == 1
        options = {**SWIFT, "min_workers": 1, "max_workers": 1, "directory": directory}
        with vine.Factory("condor", manager=manager, **options) as workers:
            drive(manager, lambda: workers.status().workers.connected == 1)
            assert not second_jobs_of(mark)
            assert workers.status().factory == mark
            assert workers.status().problems == ()


def test_jobs_at_a_schedd_that_has_gone_are_told_of(make_manager: Any, tmp_path: Path) -> None:
    manager = make_manager()
    directory = tmp_path / "factory"
    directory.mkdir()
    gone = JobLocation(
        manager.shared_port.sock_id, Destination(schedd="gone@nowhere"), None, 300
    )
    gone.write(str(directory))
    options = {**SWIFT, "min_workers": 1, "max_workers": 1, "directory": str(directory)}
    with vine.Factory("condor", manager=manager, **options) as workers:
        drive(manager, lambda: workers.status().workers.connected == 1)
        (problem,) = workers.status().problems
        assert "may have jobs at schedd gone@nowhere" in problem.explanation
        assert "condor_rm -name gone@nowhere -constraint 'VineSharedPort" in problem.remedy


def test_what_a_job_on_a_grid_waits_for_is_told(make_manager: Any) -> None:
    import htcondor2

    manager = make_manager()
    nobody = f"condor nobody@nowhere {htcondor2.param['COLLECTOR_HOST']}"
    options = {**SWIFT, "min_workers": 1, "max_workers": 1, "grid": nobody}
    with vine.Factory("condor", manager=manager, **options) as workers:

        def told() -> str:
            return " ".join(str(job.reason) for job in workers.status().jobs)

        drive(manager, lambda: "cannot reach 'condor nobody@nowhere" in told(), timeout=60)


def test_spooled_workers_leave_their_last_words_and_the_queue(make_manager: Any) -> None:
    manager = make_manager()
    options = {**SWIFT, "max_workers": 1, "timeout": 1, **_options("spool")}
    with vine.Factory("condor", manager=manager, **options) as workers:
        manager.submit(vine.Task("true"))
        finish(manager)
        drive(manager, lambda: workers.status().workers.ended == 1)
        (job,) = workers.status().jobs
        assert (job.state, job.exit_status) == ("ended", 0)
        mark = f'VineSharedPortFactory =?= "{workers.status().factory}"'
        drive(manager, lambda: not Schedd(SECOND).query(mark))
        drive(
            manager, lambda: "connected to manager" in str(workers.status().jobs[0].last_line)
        )
