"""What a factory says of its jobs: why one is not connected, and what their containers do."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path
from typing import Any

import pytest

from vine_sharedport.bundle.package import launcher_path
from vine_sharedport.condor.event_log import Event
from vine_sharedport.errors import ExitStatus
from vine_sharedport.factory.jobs.job import Job
from vine_sharedport.factory.jobs.ledger import Ledger
from vine_sharedport.factory.jobs.table import JobTable
from vine_sharedport.factory.manager_view.monitor import ManagerView
from vine_sharedport.factory.manager_view.silence import Silence

REASON = "Error from slot1@node7: Singularity test failed: FATAL: no such image"


def test_a_container_that_fails_again_and_again_is_told_once_and_until_a_worker_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = JobTable()
    ledger = Ledger(table, "/nowhere", lambda: 900)
    table.apply([Event("SUBMIT", 1, 0, 10.0)])

    def fail(moment: float) -> None:
        started = Event("EXECUTE", 1, 0, moment, host="node7", address="192.0.2.7")
        table.apply([started, Event("SHADOW_EXCEPTION", 1, 0, moment + 1, reason=REASON)])

    fail(11.0)
    fail(13.0)
    assert ledger.containers() == []
    fail(15.0)
    for _ in range(2):
        (problem,) = ledger.containers()
    assert "did not start, 3 times by now, the last time on node7" in problem.explanation
    assert REASON in problem.explanation
    assert problem.jobs == ("1.0",)
    assert caplog.text.count("the container did not start") == 1
    table.apply([Event("EXECUTE", 1, 0, 20.0, host="node7", address="192.0.2.7")])
    assert ledger.containers(), "it has not worked yet"
    worker = {"hostname": "node7", "addrport": "192.0.2.7:99", "start_time": int(21e6)}
    table.join([worker], now=22.0, told=22.0)
    ledger.update(ManagerView(answered=22.0), 22.0)
    assert ledger.containers() == []


def test_it_is_told_where_only_the_schedd_can_be_asked() -> None:
    table = JobTable()
    ledger = Ledger(table, "/nowhere", lambda: 900)
    ad: dict[str, Any] = {
        "ClusterId": 1, "ProcId": 0, "JobStatus": 1, "QDate": 10, "NumJobStarts": 2,
        "VacateReason": REASON,
    }  # fmt: skip
    table.update([ad], asked=20.0)
    assert ledger.containers() == []
    # Between two questions it was started and failed: it was never seen to run.
    table.update([{**ad, "NumJobStarts": 3}], asked=25.0)
    assert "3 times by now; HTCondor says" in ledger.containers()[0].explanation


def test_jobs_that_ended_before_the_factory_was_started_are_not_its_own() -> None:
    table = JobTable()
    ledger = Ledger(table, "/nowhere", lambda: 900, since=100.5)
    events = [Event("SUBMIT", 1, proc, 10.0) for proc in range(3)]
    events += [Event("JOB_ABORTED", 1, 0, 100.0), Event("JOB_TERMINATED", 1, 1, 100.0)]
    ledger.note(table.apply(events))
    assert [job.id for job in ledger.reports(101.0)] == ["1.2"], "which it has taken over"
    assert ledger.totals()["submitted"] == 1
    table.apply([Event("JOB_ABORTED", 1, 2, 102.0)])
    assert ledger.totals() == {"submitted": 1, "ended": 1, "failed": 0, "evicted": 0}


@pytest.mark.parametrize("seconds", [3.0, 75.0, pytest.param(random.uniform(3, 900), id="-")])
def test_a_worker_without_an_answer_is_silent_and_not_just_connected(seconds: float) -> None:
    table = JobTable()
    ledger = Ledger(table, "/nowhere", lambda: 900)
    workers = []
    for proc in range(2):
        host = f"node{proc}"
        table.apply([Event("SUBMIT", 1, proc, 10.0)])
        table.apply([Event("EXECUTE", 1, proc, 20.0, host=host, address=f"192.0.2.{proc}")])
        workers.append(
            {"hostname": host, "addrport": f"192.0.2.{proc}:99", "start_time": int(21e6)}
        )
    table.join(workers, now=22.0, told=22.0)
    view = ManagerView(answered=22.0)

    def states() -> list[str]:
        return [job.state for job in ledger.reports(23.0)]

    ledger.update(view, 22.0, {})
    assert (states(), ledger.silent(), ledger.silent_workers) == (["connected"] * 2, [], 0)
    ledger.update(view, 22.0, {"192.0.2.1:99": Silence(seconds, 3)})
    assert (states(), ledger.silent_workers) == (["connected", "silent"], 1)
    (problem,) = ledger.silent()
    assert (problem.cause, problem.jobs) == ("silent", ("1.1",))
    reason = ledger.reports(23.0)[1].reason
    for text in (problem.explanation, reason):
        assert f"for {seconds:.0f} s" in str(text)
    ledger.update(view, 22.0, {})
    assert states() == ["connected"] * 2


def ended(number: int, status: int | None) -> Job:
    return Job(1, number, state="ended", exit_status=status)


def test_the_launchers_exit_statuses_are_all_explained() -> None:
    text = Path(launcher_path()).read_text()
    used = {int(number) for number in re.findall(r"\bfail (\d+) ", text)}
    assert used
    assert used <= set(ExitStatus)
    assert {75, 77, 78, 127} <= set(ExitStatus)
    ledger = Ledger(JobTable(), "/none", lambda: 60)
    for status in used:
        assert ledger.why(ended(0, status), 0.0) == ExitStatus(status).meaning
    assert "status 1" in str(ledger.why(ended(0, 1), 0.0))


@pytest.mark.parametrize(
    ("answered", "error", "reason"),
    [
        (None, "busy", "unknown: the manager has not answered yet"),
        (300, "busy", "unknown: the manager has not answered for 300 s"),
        (1, None, None),
    ],
)
def test_of_a_job_that_a_busy_manager_may_know_nothing_is_said(
    tmp_path: Path, answered: float | None, error: str | None, reason: str | None
) -> None:
    seen = None if answered is None else time.monotonic() - answered
    ledger = Ledger(JobTable(), str(tmp_path), lambda: 60)
    ledger.update(ManagerView(answered=seen, error=error), time.monotonic())
    job = Job(1, 0, state="running", connected=None)
    assert ledger.why(job, time.time()) == reason


@pytest.mark.parametrize("count", [3, 100, 101, 5000])
def test_of_many_jobs_that_wait_the_last_are_told_and_those_with_a_reason(count: int) -> None:
    table = JobTable()
    ledger = Ledger(table, "/nowhere", lambda: 900)
    table.apply([Event("SUBMIT", 1, proc, 10.0) for proc in range(count)])
    table.apply([Event("EXECUTE", 1, 0, 11.0, host="a", address="192.0.2.1")])
    table.apply([Event("JOB_EVICTED", 1, 0, 12.0)])
    table.apply([Event("EXECUTE", 1, 1, 11.0, host="b", address="192.0.2.2")])
    told = ledger.reports(23.0)
    waiting = [job for job in told if job.state == "idle" and not job.evictions]
    assert len(waiting) == min(count - 2, 100)
    assert [job.id for job in told if job.evictions] == ["1.0"]
    assert [job.id for job in told if job.state == "running"] == ["1.1"]
    assert told[-1].id == f"1.{count - 1}"
