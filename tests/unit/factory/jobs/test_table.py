"""The table of worker jobs, fed by hand: by the log, by the queue, and ids that come again."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factory.jobs.events import event as _event
from tests.unit.factory.jobs.events import execute as _execute
from tests.unit.factory.jobs.events import only as _only
from tests.unit.factory.jobs.events import running as _running
from vine_sharedport.factory.jobs.job import STATES
from vine_sharedport.factory.jobs.table import JobTable


def test_unknown_events_and_those_of_whole_clusters_change_nothing() -> None:
    table = JobTable()
    assert table.apply([_event("CLUSTER_SUBMIT", proc=-1), _event("EVENT_999")]) == []
    assert len(table) == 0


def test_ended_jobs_can_be_forgotten() -> None:
    table = _running(_execute(9.0), _execute(9.0, 1))
    table.apply([_event("JOB_TERMINATED", 20.0, exit_status=0)])
    assert table.forget(20.0) == 0
    assert table.forget(21.0) == 1
    assert [job.id for job in table] == ["7.1"]
    assert table.get("7.0") is None
    assert table.get("7.1") is not None


# The queue instead of the log


def _ad(status: int, proc: int = 0, **more: Any) -> dict[str, Any]:
    return {"ClusterId": 7, "ProcId": proc, "JobStatus": status, "QDate": 5, **more}


def test_the_queue_tells_the_same_life() -> None:
    table = JobTable()
    (job,) = table.update([_ad(5, HoldReasonCode=16, EnteredCurrentStatus=5)], asked=6.0)
    assert (job.state, job.submitted) == ("idle", 5.0)
    running = _ad(
        2, JobCurrentStartDate=10, EnteredCurrentStatus=10, RemoteHost="slot1_1@node1.a.edu",
        StartdIpAddr="<192.0.2.1:9618?addrs=x>",
    )  # fmt: skip
    assert table.update([running], asked=12.0) == [job]
    assert (job.state, job.since, job.starts) == ("running", 10.0, 1)
    assert (job.host, job.address) == ("node1.a.edu", "192.0.2.1")
    assert table.update([running], asked=14.0) == []
    again = {**running, "JobCurrentStartDate": 15, "EnteredCurrentStatus": 15}
    assert table.update([again], asked=20.0) == [job]
    assert (job.state, job.since, job.starts, job.evictions) == ("running", 15.0, 2, 1)
    held = _ad(
        5, EnteredCurrentStatus=21, HoldReason="why", HoldReasonCode=13, HoldReasonSubCode=2
    )
    table.update([held], asked=23.0)
    assert (job.state, job.since, job.hold_reason, job.hold_subcode) == ("held", 21.0, "why", 2)
    assert job.evictions == 1
    ended = _ad(4, EnteredCurrentStatus=30, ExitCode=3, ExitBySignal=False)
    table.update([ended], asked=32.0)
    assert (job.state, job.exit_status, job.exit_signal, job.hold_code) == (
        "ended",
        3,
        None,
        None,
    )


def test_a_job_that_is_no_longer_in_the_queue_has_ended() -> None:
    table = _running(_execute(9.0))
    (job,) = table.update([], asked=20.5)
    assert (job.state, job.since, job.exit_status) == ("ended", 20.5, None)
    # The log may tell more, later.
    table.apply([_event("JOB_TERMINATED", 20.0, exit_status=3)])
    assert (job.state, job.exit_status) == ("ended", 3)


def test_an_answer_of_the_queue_does_not_undo_later_news() -> None:
    table = _running(_execute(20.0))
    assert table.update([_ad(1)], asked=20.9) == []
    assert table.update([], asked=20.9) == []
    assert _only(table).state == "running"


_TYPES = (
    "SUBMIT", "EXECUTE", "JOB_EVICTED", "SHADOW_EXCEPTION", "JOB_DISCONNECTED",
    "JOB_RECONNECTED", "JOB_RECONNECT_FAILED", "JOB_HELD", "JOB_RELEASED", "JOB_TERMINATED",
    "JOB_ABORTED", "REMOTE_ERROR", "IMAGE_SIZE",
)  # fmt: skip


@given(st.lists(st.sampled_from(_TYPES)))
def test_any_order_of_events_leaves_a_sound_table(types: list[str]) -> None:
    table = JobTable()
    table.apply(_event(name, float(n), code=3) for n, name in enumerate(types))
    for job in table:
        assert job.state in STATES
        assert 0 <= job.evictions <= job.starts + types.count("JOB_RECONNECTED")
        assert (job.hold_code is not None) == (job.state == "held")
        assert job.exit_status is None or job.state == "ended"


# Ids that a schedd gives a second time


def test_what_is_submitted_after_its_end_is_another_job() -> None:
    first = [_event("SUBMIT", 1.0), _execute(2.0), _event("JOB_TERMINATED", 3.0, exit_status=1)]
    table = JobTable()
    table.apply(first)
    old = _only(table)
    (job,) = table.apply([_event("SUBMIT", 9.0)])
    assert (job.state, job.since, job.starts, job.exit_status) == ("idle", 9.0, 0, None)
    assert _only(table) is job
    assert old.state == "ended"
    assert table.take_replaced() == [old]
    assert table.take_replaced() == []
    assert table.apply([_event("SUBMIT", 9.0)]) == [], "the log tells later"


def test_a_log_of_two_schedds_shows_the_last_ones_jobs() -> None:
    table = JobTable()
    events = [_event("SUBMIT", 1.0), _execute(2.0), _event("JOB_EVICTED", 3.0)]
    (job,) = table.apply([*events, _event("SUBMIT", 50.0)])  # the first one was killed
    assert (job.state, job.submitted, job.starts, job.evictions) == ("idle", 50.0, 0, 0)
    assert len(table.take_replaced()) == 1


def test_a_log_that_is_read_again_leaves_the_same_jobs() -> None:
    events = [_event("SUBMIT", 1.0), _execute(2.0), _event("JOB_EVICTED", 3.0)]
    events += [_execute(4.0), _event("JOB_TERMINATED", 5.0, exit_status=3)]
    table = JobTable()
    table.apply(events)
    table.apply(events)
    job = _only(table)
    assert (job.state, job.starts, job.evictions, job.exit_status) == ("ended", 2, 1, 3)
    assert table.take_replaced() == []


def test_the_queue_tells_of_another_job_with_the_id() -> None:
    table = JobTable()
    table.apply([_event("SUBMIT", 1.0), _execute(2.0), _event("JOB_EVICTED", 3.0)])
    table.apply([_event("JOB_ABORTED", 4.0)])
    ad = {"ClusterId": 7, "ProcId": 0, "JobStatus": 1, "QDate": 50, "EnteredCurrentStatus": 50}
    (job,) = table.update([ad], asked=60.0)
    assert (job.state, job.submitted, job.evictions) == ("idle", 50.0, 0)
    assert len(table.take_replaced()) == 1


# On a grid


def test_on_a_grid_a_worker_tells_that_its_job_runs() -> None:
    """blahp tells it a minute later, and must not be believed before that."""
    table = JobTable(on_grid=True)
    table.apply([_event("SUBMIT", 100.0)])
    assert table.join([_worker("node7", start=110.0)], now=120.0, told=120.0) == []
    (job,) = table
    assert (job.state, job.connected, job.since) == ("running", True, 110.0)
    idle = {"ClusterId": job.cluster, "ProcId": 0, "JobStatus": 1, "EnteredCurrentStatus": 100}
    table.update([idle], asked=150.0)
    table.apply([_event("EXECUTE", 190.0)])
    table.update([{**idle, "JobStatus": 2, "EnteredCurrentStatus": 190}], asked=200.0)
    assert table.join([_worker("node7", start=110.0)], now=250.0, told=250.0) == []
    assert (job.state, job.connected, job.since) == ("running", True, 110.0)
    assert (job.evictions, job.starts) == (0, 1)
    table.join([], now=260.0, told=260.0)
    assert (job.state, job.connected, job.not_connected_since) == ("running", False, 260.0)
    table.update([{**idle, "EnteredCurrentStatus": 270}], asked=280.0)
    assert (job.state, job.evictions) == ("idle", 1)


def test_on_a_grid_a_worker_from_before_the_submission_is_anothers() -> None:
    table = JobTable(on_grid=True)
    table.apply([_event("SUBMIT", 1000.0)])
    assert len(table.join([_worker("node7", start=100.0)], now=1010.0, told=1010.0)) == 1
    assert [job.state for job in table] == ["idle"]


def test_on_a_grid_a_worker_is_known_when_its_job_is_told_late() -> None:
    table = JobTable(on_grid=True)
    table.apply([_event("SUBMIT", 100.0), _event("EXECUTE", 300.0)])
    assert table.join([_worker("node7", start=110.0)], now=310.0, told=310.0) == []


def _worker(
    host: str, address: str = "192.0.2.1:1000", start: float = 1000.0
) -> dict[str, Any]:
    return {"hostname": host, "addrport": address, "start_time": int(start * 1e6)}
