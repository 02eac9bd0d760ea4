"""What the factory does with its jobs at a schedd: submitted once, kept, mended, removed."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vine_sharedport.errors import LaunchError
from vine_sharedport.factory.description import LEASE_ATTRIBUTE
from vine_sharedport.factory.jobs import Job
from vine_sharedport.factory.loop import Loop
from vine_sharedport.factory.options import Options, write_config
from vine_sharedport.factory.place import Place
from vine_sharedport.factory.queue import Queue
from vine_sharedport.factory.removal import Removal
from vine_sharedport.factory.watch import ManagerView
from vine_sharedport.factory.where import Where

FACTORY = "f" * 32
LEASE = 30


class FakeSchedd:
    """A schedd with jobs of one factory: every constraint is taken for all of them.

    Attributes:
        ads: The jobs.
        error: What it answers to everything; a submission is taken all the same.
        edits: The changes: attribute and value.
        done: The actions.
        constraints: For which jobs.
    """

    def __init__(self) -> None:
        self.ads: list[dict[str, Any]] = []
        self.error: str | None = None
        self.edits: list[tuple[str, Any]] = []
        self.done: list[str] = []
        self.constraints: list[str] = []

    def _answer(self) -> None:
        if self.error is not None:
            raise LaunchError(self.error)

    def add(self, status: int = 1) -> None:
        """Have one more job."""
        now = int(time.time())
        self.ads.append(
            {"ClusterId": 7, "ProcId": len(self.ads), "JobStatus": status, "QDate": now,
             "EnteredCurrentStatus": now, "VineSharedPortFactory": FACTORY}
        )  # fmt: skip

    def submit(self, _: str, count: int, *, spool: bool) -> int:
        for _ in range(count):
            self.add()
        self._answer()
        return 7

    def query(self, *_: Any) -> list[dict[str, Any]]:
        self._answer()
        found = [dict(ad) for ad in self.ads]
        # What is being removed is gone the next time.
        self.ads = [ad for ad in self.ads if ad["JobStatus"] != 3]
        return found

    def edit(self, _: str, attribute: str, value: Any) -> int:
        self._answer()
        self.edits.append((attribute, value))
        for ad in self.ads:
            ad[attribute] = value
        return len(self.ads)

    def act(self, action: str, constraint: str, *_: Any) -> int:
        self._answer()
        self.done.append(action)
        self.constraints.append(constraint)
        for ad in self.ads:
            ad["JobStatus"] = {"remove": 3, "release": 1}[action]
        return len(self.ads)


@pytest.fixture
def schedd() -> FakeSchedd:
    return FakeSchedd()


@pytest.fixture
def queue(tmp_path: Path, schedd: FakeSchedd) -> Queue:
    place = Place("m", Where(), "workers.log", LEASE)
    found = Queue(str(tmp_path), factory=FACTORY, place=place)
    found._schedd = schedd  # type: ignore[assignment]
    return found


def submit(queue: Queue, count: int) -> int:
    description: Any = SimpleNamespace(text="", where=Where())
    return queue.submit(description, count)


def test_jobs_that_a_schedd_took_without_saying_so_are_found_at_once(
    queue: Queue, schedd: FakeSchedd
) -> None:
    assert queue.ask()
    schedd.error = "the connection was lost"
    with pytest.raises(LaunchError, match="was lost"):
        submit(queue, 3)
    assert not queue.is_known
    queue.follow()
    assert not queue.is_known, "it has not answered yet"
    schedd.error = None
    queue.follow()
    assert queue.is_known
    assert queue.table.counts()["idle"] == 3


def test_the_lease_of_jobs_that_wait_is_renewed_in_time(
    queue: Queue, schedd: FakeSchedd, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.monotonic()]
    clock = SimpleNamespace(monotonic=lambda: now[0], time=lambda: now[0] + 1e9)
    monkeypatch.setattr("vine_sharedport.factory.queue.time", clock)
    submit(queue, 2)

    def after(seconds: float) -> list[tuple[str, Any]]:
        now[0] += seconds
        schedd.edits.clear()
        queue.renew_lease()
        return schedd.edits

    assert after(0) == []
    for _ in range(3):
        edits = after(LEASE / 2)
        assert edits == [(LEASE_ATTRIBUTE, int(now[0] + 1e9) + LEASE)]
        assert after(1) == []
    schedd.error = "busy"
    assert after(LEASE / 2) == []
    schedd.error = None
    assert len(after(0.1)) == 1, "at once when the schedd is back"


def test_a_job_is_mended_a_limited_number_of_times_also_by_another_process(
    queue: Queue, schedd: FakeSchedd, tmp_path: Path
) -> None:
    schedd.add()
    queue.ask()
    (job,) = queue.table

    def repaired() -> bool:
        schedd.ads[0]["JobStatus"] = 5
        schedd.done.clear()
        ad = queue.ads_of([job])[job.id]
        found = queue.repair(job, ad, {"RequestMemory": 300}, "more memory")
        assert schedd.done == ["release"] * found
        return found

    assert repaired()
    queue = Queue(str(tmp_path), factory=FACTORY, place=queue._place)
    queue._schedd = schedd  # type: ignore[assignment]
    assert [repaired() for _ in range(4)] == [True, False, False, False]
    assert schedd.ads[0]["RequestMemory"] == 300


def test_jobs_that_come_after_the_removal_are_removed_too(
    queue: Queue, schedd: FakeSchedd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vine_sharedport.factory.removal._TICK", 0.0)
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


@pytest.fixture
def loop(tmp_path: Path, schedd: FakeSchedd) -> Loop:
    worker = tmp_path / "vine_worker"
    worker.write_text("#!/bin/sh\n")
    worker.chmod(0o755)
    options = Options(
        address="<192.0.2.7:9618?sock=vine_42>", worker_binary=str(worker), min_workers=2
    )
    write_config(str(tmp_path / "config.json"), options)
    made = Loop(str(tmp_path), pid=1)
    made._queue._schedd = schedd  # type: ignore[assignment]
    made._queue._factory = FACTORY
    return made


@pytest.mark.parametrize(("age", "jobs"), [(1, 2), (55, 2), (65, 0), (3600, 0)])
def test_nothing_is_submitted_by_what_a_silent_manager_said_long_ago(
    loop: Loop, schedd: FakeSchedd, age: float, jobs: int
) -> None:
    now = time.monotonic()
    status = {"tasks_waiting": 1}
    loop._watch._view = ManagerView(answered=now - age, status=status, error="busy")
    loop._cycle()
    assert len(schedd.ads) == jobs
    assert ("the manager does not answer" in loop._message) == (jobs == 0)


def test_each_cycle_sees_to_the_lease(loop: Loop, schedd: FakeSchedd) -> None:
    schedd.add()
    loop._queue._renewed -= 3600
    loop._cycle()
    assert [name for name, _ in schedd.edits] == [LEASE_ATTRIBUTE]


def answer(loop: Loop, **values: Any) -> None:
    """Let the manager have answered just now that it has more tasks than workers."""
    found = {"answered": time.monotonic(), "status": {"tasks_waiting": 500}, **values}
    loop._watch._view = ManagerView(**found)


@pytest.mark.parametrize(("grid", "done"), [(None, ["remove"]), ("batch slurm", [])])
def test_waiting_jobs_are_taken_back_when_what_they_ask_for_changes(
    loop: Loop, schedd: FakeSchedd, grid: str | None, done: list[str]
) -> None:
    answer(loop)
    loop._cycle()
    assert len(schedd.ads) == 5
    loop._queue._where = Where(grid=grid)

    def change(**values: Any) -> None:
        changed = Options.make({**values, "cycle": 0.1}, base=loop.options)
        write_config(str(Path(loop.directory) / "config.json"), changed)
        assert loop._live.follow()
        loop._cycle()
        time.sleep(0.2)
        loop._cycle()

    change(max_workers=5)
    assert schedd.done == []
    assert loop._message == "max_workers is reached"
    change(memory=100)
    assert schedd.done == done
    assert ("jobs wait with earlier options" in loop._message) == bool(done)
    assert all("JobStatus == 1 || JobStatus == 5" in which for which in schedd.constraints)


def test_when_nobody_answers_for_the_manager_the_status_says_so(
    loop: Loop, schedd: FakeSchedd
) -> None:
    answer(loop, error="nobody there", gone_since=time.monotonic())
    loop._cycle()
    assert schedd.ads == []
    assert loop._message == "nobody answers for the manager: nothing is submitted"


def test_workers_of_jobs_that_ended_with_the_manager_are_nobody_elses(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vine_sharedport.factory.loop.routes", lambda *_: {})
    now = time.time()
    job = Job(7, 0, state="running", since=now, submitted=now, host="localhost", starts=1)
    loop._queue.table._jobs[7, 0] = job
    worker = {"addrport": "127.0.0.1:4000", "hostname": "localhost", "start_time": now * 1e6}
    answer(loop, workers=(worker,))
    loop._join(loop._watch.view, time.monotonic())
    assert (job.connected, loop._strangers) == (True, 0)
    job._enter("ended", now)
    answer(loop, workers=(worker,), gone_since=time.monotonic())
    loop._join(loop._watch.view, time.monotonic())
    assert loop._strangers == 0


def test_a_silent_manager_and_long_waits_are_told_beside_the_limit(
    loop: Loop, schedd: FakeSchedd
) -> None:
    answer(loop)
    loop._cycle()
    loop._cycle()
    limit = "workers_per_cycle=5 are on their way already"
    assert loop._message == limit
    for job in loop._queue.table:
        job.since -= 100
    loop._queue._where = Where(schedd="a", pool="b")
    loop._cycle()
    assert loop._message == (
        f"{limit}; 5 jobs have waited for a machine for more than a minute: "
        "condor_q -name a -pool b -better-analyze 7.0 tells why"
    )
    answer(loop, error="busy")
    loop._cycle()
    assert loop._message == f"the manager does not answer; by what it said last, {limit}"
