"""What becomes of one job, event by event: its states and its evictions."""

from __future__ import annotations

import pytest

from tests.unit.factory.jobs.events import event as _event
from tests.unit.factory.jobs.events import execute as _execute
from tests.unit.factory.jobs.events import only as _only
from tests.unit.factory.jobs.events import running as _running
from vine_sharedport.factory.jobs.table import JobTable


def test_a_job_that_ends_well() -> None:
    table = JobTable()
    (job,) = table.apply([_event("SUBMIT", 5.0)])
    assert (job.id, job.state, job.since, job.submitted) == ("7.0", "idle", 5.0, 5.0)
    assert table.apply([_execute(9.0, slot="slot1@node1.a.edu", address="192.0.2.1")]) == [job]
    assert (job.state, job.since, job.starts) == ("running", 9.0, 1)
    assert (job.host, job.address, job.slot) == (
        "node1.a.edu",
        "192.0.2.1",
        "slot1@node1.a.edu",
    )
    assert table.apply([_event("JOB_TERMINATED", 20.0, exit_status=3)]) == [job]
    assert (job.state, job.since, job.exit_status, job.left) == ("ended", 20.0, 3, False)
    assert table.counts() == {
        "idle": 0, "running": 0, "suspended": 0, "held": 0, "ended": 1, "removed": 0,
        "connected": 0,
    }  # fmt: skip


def test_a_lost_machine_is_an_eviction() -> None:
    table = _running(_execute(9.0))
    table.apply([_event("JOB_EVICTED", 12.0, reason="Job vacated by schedd")])
    job = _only(table)
    assert (job.state, job.since, job.evictions) == ("idle", 12.0, 1)
    assert job.reason == "Job vacated by schedd"
    table.apply([_execute(15.0, host="node2.a.edu")])
    assert (job.state, job.starts, job.host, job.reason) == ("running", 2, "node2.a.edu", None)


@pytest.mark.parametrize(("last", "state"), [("JOB_HELD", "held"), ("JOB_ABORTED", "removed")])
@pytest.mark.parametrize(
    "between",
    [["JOB_EVICTED"], ["SHADOW_EXCEPTION", "JOB_EVICTED"], ["JOB_EVICTED", "REMOTE_ERROR"]],
)
def test_a_hold_and_a_removal_are_no_evictions(
    between: list[str], last: str, state: str
) -> None:
    table = _running(_execute(9.0))
    table.apply([*(_event(name) for name in between), _event(last, reason="why")])
    job = _only(table)
    assert (job.state, job.evictions, job.reason) == (state, 0, "why")


def test_an_eviction_stays_one_when_the_job_is_held_later() -> None:
    table = _running(_execute(9.0))
    table.apply([_event("JOB_EVICTED"), _execute(110.0), _event("JOB_HELD", 120.0, code=1)])
    assert _only(table).evictions == 1
    table = _running(_execute(9.0))
    table.apply([_event("JOB_EVICTED"), _event("JOB_HELD", code=1), _event("JOB_RELEASED")])
    table.apply([_event("JOB_ABORTED")])
    assert _only(table).evictions == 0


def test_input_that_does_not_arrive_is_no_eviction() -> None:
    table = JobTable()
    table.apply([_event("SUBMIT"), _event("JOB_EVICTED"), _event("JOB_HELD", code=13)])
    job = _only(table)
    assert (job.evictions, job.starts, job.hold_code) == (0, 0, 13)


def test_a_held_job_tells_why_until_it_is_released() -> None:
    table = _running(_execute(9.0))
    (job,) = table.apply([_event("JOB_HELD", 11.0, reason="no file", code=13, subcode=2)])
    assert (job.state, job.hold_reason, job.hold_code, job.hold_subcode) == (
        "held", "no file", 13, 2,
    )  # fmt: skip
    table.apply([_event("JOB_RELEASED", 15.0, reason="by me")])
    assert (job.state, job.since, job.hold_reason, job.hold_code) == ("idle", 15.0, None, None)


def test_a_job_whose_files_are_being_spooled_is_idle() -> None:
    table = JobTable()
    table.apply([_event("SUBMIT"), _event("JOB_HELD", code=16, reason="Spooling input files")])
    assert _only(table).state == "idle"


def test_a_lost_connection_to_the_machine_is_told_and_forgotten() -> None:
    table = _running(_execute(9.0))
    table.apply([_event("JOB_DISCONNECTED", 12.0, reason="Socket closed")])
    job = _only(table)
    assert (job.state, job.reason) == ("running", "Socket closed")
    table.apply([_event("JOB_RECONNECTED", 13.0)])
    assert (job.state, job.since, job.reason, job.host) == ("running", 9.0, None, "node1.a.edu")
    table.apply([_event("JOB_DISCONNECTED"), _event("JOB_RECONNECT_FAILED", reason="too long")])
    assert (job.state, job.evictions, job.reason) == ("idle", 1, "too long")


def test_a_job_that_a_killed_schedd_runs_again_is_running() -> None:
    table = _running(_execute(9.0))
    table.apply([_event("JOB_TERMINATED", 10.0, exit_status=0), _execute(14.0)])
    job = _only(table)
    assert (job.state, job.exit_status, job.starts) == ("running", None, 2)
