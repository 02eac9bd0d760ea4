"""The table of worker jobs, fed by hand: states, evictions, and who is connected."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vine_sharedport.condor.event_log import Event
from vine_sharedport.factory.jobs.job import STATES, Job
from vine_sharedport.factory.jobs.table import JobTable


def _event(type: str, time: float = 100.0, proc: int = 0, **more: Any) -> Event:
    return Event(type, 7, proc, time, **more)


def _execute(
    time: float, proc: int = 0, host: str | None = "node1.a.edu", **more: Any
) -> Event:
    return _event("EXECUTE", time, proc, host=host, **more)


def _only(table: JobTable) -> Job:
    (job,) = table
    return job


def _running(*events: Event) -> JobTable:
    table = JobTable()
    table.apply([_event("SUBMIT", 1.0, event.proc) for event in events])
    table.apply(events)
    return table


def _worker(
    host: str, address: str = "192.0.2.1:1000", start: float = 1000.0
) -> dict[str, Any]:
    return {"hostname": host, "addrport": address, "start_time": int(start * 1e6)}


# Its life


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
        "idle": 0, "running": 0, "held": 0, "ended": 1, "removed": 0, "connected": 0,
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


# Joined with the manager's list


def test_a_running_job_without_a_worker_is_not_connected_since_its_start() -> None:
    table = _running(_execute(9.0))
    assert table.join([], now=50.0) == []
    job = _only(table)
    assert (job.connected, job.not_connected_since, job.worker) == (False, 9.0, None)
    table.join([], now=60.0)
    assert job.not_connected_since == 9.0


def test_a_list_from_before_a_jobs_start_tells_nothing_of_it() -> None:
    table = _running(_execute(1000.0))
    worker = _worker("node1.a.edu", start=990.0)  # that of an earlier job on the machine
    assert table.join([worker], now=1200.0, told=995.0) == []
    job = _only(table)
    assert (job.connected, job.not_connected_since, job.worker) == (None, None, None)
    table.join([], now=1300.0, told=1290.0)
    assert (job.connected, job.not_connected_since) == (False, 1000.0)


def test_a_connection_that_is_lost_is_missing_since_then() -> None:
    table = _running(_execute(9.0))
    job = _only(table)
    assert table.join([_worker("node1.a.edu", "10.0.0.9:5555", 11.0)], now=50.0) == []
    assert (job.connected, job.worker, job.not_connected_since) == (True, "10.0.0.9:5555", None)
    assert table.counts()["connected"] == 1
    table.join([], now=60.0)
    assert (job.connected, job.worker, job.not_connected_since) == (False, None, 60.0)
    table.apply([_event("JOB_EVICTED", 70.0)])
    assert (job.connected, job.not_connected_since) == (None, None)


@pytest.mark.parametrize(
    ("host", "address", "worker"),
    [
        ("node1.a.edu", None, _worker("NODE1.A.EDU")),
        ("node1.a.edu", None, _worker("node1")),
        ("node1", None, _worker("node1.a.edu")),
        ("node1", None, _worker("node1")),
        ("node1.a.edu", "192.0.2.1", _worker("container-1234", "192.0.2.1:77")),
        ("localhost", "2001:db8::1", _worker("elsewhere", "[2001:DB8::1]:77")),
        ("localhost", "2001:db8::1", _worker("elsewhere", "2001:db8::1:77")),
        ("192.0.2.1", None, _worker("elsewhere", "192.0.2.1:77")),
        (None, None, _worker("on.a.grid")),
        ("node1", None, {"hostname": "node1", "address_port": "x:1", "start_time": 10**9}),
    ],
)
def test_a_worker_is_found_by_name_or_address(
    host: str | None, address: str | None, worker: dict[str, Any]
) -> None:
    table = _running(_execute(9.0, host=host, address=address))
    assert table.join([worker], now=50.0) == []
    assert _only(table).connected is True


@pytest.mark.parametrize(
    ("host", "address", "worker"),
    [
        ("node1.a.edu", None, _worker("node1.b.edu")),
        ("node1.a.edu", None, _worker("node11.a.edu")),
        ("192.0.2.1", None, _worker("192", "198.51.100.1:7")),
        ("node1", "192.0.2.1", _worker("node2", "192.0.2.11:7")),
        # connected long before the job started
        ("node1.a.edu", None, _worker("node1.a.edu", start=500.0)),
    ],
)
def test_somebody_elses_worker_is_given_back(
    host: str, address: str | None, worker: dict[str, Any]
) -> None:
    table = _running(_execute(900.0, host=host, address=address))
    assert table.join([worker], now=1000.0) == [worker]
    assert _only(table).connected is False


def test_as_many_jobs_of_a_host_are_connected_as_workers_the_oldest_first() -> None:
    table = _running(*(_execute(9.0 + proc, proc) for proc in range(4)))
    workers = [_worker("node1.a.edu", f"192.0.2.1:{n}", 20.0 + n) for n in range(2)]
    assert table.join(workers, now=50.0) == []
    assert [job.connected for job in table] == [True, True, False, False]


def test_a_job_keeps_its_own_connection() -> None:
    table = _running(_execute(9.0, 0), _execute(10.0, 1))
    first, second = (_worker("node1.a.edu", f"192.0.2.1:{n}", 20.0 + n) for n in (1, 2))
    table.join([first, second], now=50.0)
    table.join([second], now=60.0)
    assert [job.worker for job in table] == [None, "192.0.2.1:2"]


_HOSTS = st.sampled_from(["node1", "node1.a.edu", "node2.a.edu", "192.0.2.1", None])


@given(
    st.lists(st.tuples(_HOSTS, st.integers(0, 3000))),
    st.lists(st.tuples(_HOSTS, st.integers(0, 3000))),
)
def test_every_worker_is_one_jobs_or_nobodys(
    jobs: list[tuple[str | None, int]], workers: list[tuple[str | None, int]]
) -> None:
    table = _running(*(_execute(time, n, host) for n, (host, time) in enumerate(jobs)))
    entries = [
        _worker(host or "", f"192.0.2.1:{n}", time) for n, (host, time) in enumerate(workers)
    ]
    left = table.join(entries, now=4000.0)
    connected = [job for job in table if job.connected]
    assert len(connected) + len(left) == len(entries)
    assert len({job.worker for job in connected}) == len(connected)
    assert {job.worker for job in connected}.isdisjoint(entry["addrport"] for entry in left)
    assert all((job.not_connected_since is None) == bool(job.connected) for job in table)


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
