"""What the factory does with its jobs at a schedd: submitted once, kept, mended, removed."""

from __future__ import annotations

import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.factory.fake_schedd import CLUSTER, FakeSchedd
from vine_sharedport.errors import SharedPortError
from vine_sharedport.factory.jobs.description import LEASE_ATTRIBUTE
from vine_sharedport.factory.jobs.queue import Queue
from vine_sharedport.factory.jobs.removal import Removal
from vine_sharedport.factory.loop import Loop
from vine_sharedport.factory.manager_view.monitor import ManagerView
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.options.stored import write_config
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.snapshot import Snapshot
from vine_sharedport.factory.submission.destination import Destination
from vine_sharedport.factory.submission.location import JobLocation

LEASE = 30


@pytest.fixture
def manager() -> str:
    """Return a sock id that no other test on this machine has: submitting takes its lock."""
    return f"vine_{uuid.uuid4().hex}"


@pytest.fixture
def schedd(tmp_path: Path, manager: str, monkeypatch: pytest.MonkeyPatch) -> FakeSchedd:
    """Return the schedd that the factory of this directory finds."""
    found = FakeSchedd(paths.factory_id(str(tmp_path)), manager)
    monkeypatch.setattr("vine_sharedport.factory.jobs.queue.Schedd", lambda *_: found)
    return found


class Clock:
    """The time, and how much later it is for the queue."""

    def __init__(self) -> None:
        self.later = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.later

    def time(self) -> float:
        return time.time() + self.later


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("vine_sharedport.factory.jobs.queue.time", made)
    return made


@pytest.fixture
def queue(tmp_path: Path, schedd: FakeSchedd) -> Queue:
    place = JobLocation(schedd.manager, Destination(), "workers.log", LEASE)
    return Queue(str(tmp_path), factory=schedd.factory, place=place)


def submit(queue: Queue, count: int) -> int:
    description: Any = SimpleNamespace(job=None, where=Destination())
    return queue.submit(description, count)


def test_jobs_that_a_schedd_took_without_saying_so_are_found_at_once(
    queue: Queue, schedd: FakeSchedd
) -> None:
    assert queue.query()
    schedd.error = "the connection was lost"
    with pytest.raises(SharedPortError, match="was lost"):
        submit(queue, 3)
    assert not queue.is_known
    queue.follow()
    assert not queue.is_known, "it has not answered yet"
    schedd.error = None
    queue.follow()
    assert queue.is_known
    assert queue.table.counts()["idle"] == 3


def test_the_lease_of_jobs_that_wait_is_renewed_in_time(
    queue: Queue, schedd: FakeSchedd, clock: Clock
) -> None:
    submit(queue, 1)
    schedd.add(status=2)  # at work, it needs none

    def after(seconds: float) -> list[tuple[str, Any]]:
        clock.later += seconds
        schedd.edits.clear()
        queue.renew_lease()
        return schedd.edits

    assert after(0) == []
    for _ in range(3):
        ((name, until),) = after(LEASE / 2)
        assert name == LEASE_ATTRIBUTE
        assert until == pytest.approx(clock.time() + LEASE, abs=5)
        assert after(1) == []
    schedd.error = "busy"
    assert after(LEASE / 2) == []
    schedd.error = None
    assert len(after(0.1)) == 1, "at once when the schedd is back"


def test_a_job_is_mended_a_limited_number_of_times_also_by_another_process(
    queue: Queue, schedd: FakeSchedd, tmp_path: Path
) -> None:
    held = schedd.add()
    other = schedd.add(status=5)
    queue.query()
    job = queue.table.get(f"{CLUSTER}.0")
    assert job is not None

    def repaired() -> bool:
        held["JobStatus"] = 5
        schedd.done.clear()
        ad = queue.ads_of([job])[job.id]
        found = bool(queue.repair(job, ad, {"RequestMemory": 300}, "more memory"))
        assert schedd.done == ["release"] * found
        return found

    assert repaired()
    place = JobLocation(schedd.manager, Destination(), "workers.log", LEASE)
    queue = Queue(str(tmp_path), factory=schedd.factory, place=place)
    assert [repaired() for _ in range(4)] == [True, False, False, False]
    assert held["RequestMemory"] == 300
    assert other["JobStatus"] == 5
    assert "RequestMemory" not in other


def test_jobs_that_come_after_the_removal_are_removed_too(
    queue: Queue, schedd: FakeSchedd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vine_sharedport.factory.jobs.removal._TICK", 0.0)
    submit(queue, 2)
    removal = Removal(queue, "told to end")
    removal.go_on()
    assert schedd.done == ["remove"]
    schedd.add()  # it was on its way to the schedd
    for _ in range(10):
        removal.go_on()
    assert schedd.ads == []
    assert schedd.done == ["remove", "remove"]
    assert (removal.is_over, removal.is_done) == (True, True)


# --- the loop over such a queue


class FakeMonitor:
    """Tells what a test says of the manager; see ``factory.watch.ManagerMonitor``."""

    def __init__(self) -> None:
        self.news = threading.Event()
        self.view = ManagerView()

    def start(self) -> None:
        pass

    def answer(self, *, age: float = 0.0, **values: Any) -> None:
        """Let the manager have answered that it has more tasks than workers."""
        found = {"answered": time.monotonic() - age, "status": {"tasks_waiting": 500}, **values}
        self.view = ManagerView(**found)


class _CycleIsOverError(Exception):
    pass


class Factory:
    """A factory that does one cycle at a time."""

    def __init__(
        self, directory: Path, watch: FakeMonitor, manager: str, **options: Any
    ) -> None:
        worker = directory / "vine_worker"
        worker.write_text("#!/bin/sh\n")
        worker.chmod(0o755)
        self.watch = watch
        self._config = str(directory / paths.CONFIG)
        self._options = {
            "address": f"<192.0.2.7:9618?sock={manager}>", "worker_binary": str(worker),
            "min_workers": 2, "settle": 0, **options,
        }  # fmt: skip
        write_config(self._config, Options.make(self._options))
        self._loop = Loop(str(directory), pid=1)

    def change(self, **values: Any) -> None:
        """Change options while it runs."""
        write_config(self._config, Options.make({**self._options, **values}))

    def cycle(self) -> Snapshot:
        """Do one cycle; return the status then."""

        def check() -> None:
            raise _CycleIsOverError

        with pytest.raises(_CycleIsOverError):
            self._loop.run(check=check)
        return paths.read_status(self._loop.directory)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> FakeMonitor:
    made = FakeMonitor()
    monkeypatch.setattr("vine_sharedport.factory.loop.ManagerMonitor", lambda *_: made)
    return made


@pytest.fixture
def factory(tmp_path: Path, schedd: FakeSchedd, watch: FakeMonitor) -> Factory:
    return Factory(tmp_path, watch, schedd.manager)


@pytest.mark.parametrize(("age", "jobs"), [(1, 2), (55, 2), (65, 0), (3600, 0)])
def test_nothing_is_submitted_by_what_a_silent_manager_said_long_ago(
    factory: Factory, schedd: FakeSchedd, age: float, jobs: int
) -> None:
    factory.watch.answer(age=age, status={"tasks_waiting": 1}, error="busy")
    found = factory.cycle()
    assert len(schedd.ads) == jobs
    assert (found.phase == "busy-manager") == (jobs == 0)


def test_each_cycle_sees_to_the_lease(
    clock: Clock, factory: Factory, schedd: FakeSchedd
) -> None:
    schedd.add()
    clock.later = 3600
    factory.cycle()
    assert [name for name, _ in schedd.edits] == [LEASE_ATTRIBUTE]


@pytest.mark.parametrize("grid", [None, "batch slurm"])
def test_waiting_jobs_are_taken_back_when_what_they_ask_for_changes(
    tmp_path: Path, schedd: FakeSchedd, watch: FakeMonitor, grid: str | None
) -> None:
    factory = Factory(tmp_path, watch, schedd.manager, grid=grid, cycle=0.1)
    watch.answer()
    factory.cycle()
    assert len(schedd.ads) == 5
    schedd.ads[0]["JobStatus"] = 2  # of which the factory has not heard yet

    def change(**values: Any) -> list[str]:
        factory.change(**values)
        return [factory.cycle().phase for _ in range(2)]

    assert change(max_workers=5)[-1] == "max-workers"
    assert schedd.done == []
    # A slow machine may come to it in the first cycle, and submit again in the second.
    assert ("replacing" in change(max_workers=5, memory=100)) == (grid is None)
    first = schedd.ads[0]["ClusterId"]
    left = [ad for ad in schedd.ads if ad["ClusterId"] == first and ad["JobStatus"] != 3]
    assert len(left) == (5 if grid else 1)


def test_when_nobody_answers_for_the_manager_the_status_says_so(
    factory: Factory, schedd: FakeSchedd
) -> None:
    factory.watch.answer(error="nobody there", gone_since=time.monotonic())
    found = factory.cycle()
    assert schedd.ads == []
    assert found.phase == "manager-gone"


def test_workers_of_jobs_that_ended_with_the_manager_are_nobody_elses(
    factory: Factory, schedd: FakeSchedd, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vine_sharedport.factory.jobs.counts.routes", lambda *_: {})
    began = int(time.time()) - 5
    schedd.add(
        status=2, RemoteHost="slot1@localhost", NumJobStarts=1, EnteredCurrentStatus=began
    )
    worker = {
        "addrport": "127.0.0.1:4000",
        "hostname": "localhost",
        "start_time": began * 1e6,
    }
    factory.watch.answer(status={}, workers=(worker,))
    found = factory.cycle().workers
    assert (found.connected, found.others) == (1, 0)
    schedd.ads.clear()
    clock.later = 3600  # it looks again
    factory.watch.answer(status={}, workers=(worker,), gone_since=time.monotonic())
    found = factory.cycle().workers
    assert (found.running, found.others) == (0, 0)


@pytest.mark.parametrize(
    ("where", "told"), [({}, ""), ({"schedd": "a", "pool": "b"}, " -name a -pool b")]
)
def test_a_silent_manager_and_long_waits_are_told_beside_the_limit(
    tmp_path: Path, schedd: FakeSchedd, watch: FakeMonitor, where: dict[str, str], told: str
) -> None:
    factory = Factory(tmp_path, watch, schedd.manager, **where)
    watch.answer()
    factory.cycle()
    found = factory.cycle()
    assert found.phase == "workers-per-cycle"
    limit = found.message
    assert "workers_per_cycle=5" in limit
    schedd.ads.clear()
    for _ in range(5):
        schedd.add(QDate=1, EnteredCurrentStatus=int(time.time()) - 100)
    factory = Factory(tmp_path, watch, schedd.manager, **where)
    found = factory.cycle()
    assert found.phase == "waiting-for-machines"
    for part in (limit, "5 jobs", f"condor_q{told} -better-analyze {CLUSTER}.0 "):
        assert part in found.message
    watch.answer(error="busy")
    found = factory.cycle()
    assert found.phase == "busy-manager"
    assert limit in found.message
