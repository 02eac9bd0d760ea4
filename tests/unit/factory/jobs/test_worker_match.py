"""Which of the manager's workers is which job's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factory.jobs.events import event as _event
from tests.unit.factory.jobs.events import execute as _execute
from tests.unit.factory.jobs.events import only as _only
from tests.unit.factory.jobs.events import running as _running


def _worker(
    host: str, address: str = "192.0.2.1:1000", start: float = 1000.0
) -> dict[str, Any]:
    return {"hostname": host, "addrport": address, "start_time": int(start * 1e6)}


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
