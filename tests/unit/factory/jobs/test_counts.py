"""Each worker counts once: as a job, as one of the manager's workers, or as both."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from vine_sharedport.factory.jobs import counts as module
from vine_sharedport.factory.jobs.counts import Counts, WorkerCounter
from vine_sharedport.factory.manager_view.monitor import ManagerView
from vine_sharedport.factory.manager_view.routes import TCP

STATES = ("idle", "running", "suspended", "held", "ended", "removed", "connected")


def table(**numbers: int) -> Any:
    return SimpleNamespace(counts=lambda: {**dict.fromkeys(STATES, 0), **numbers})


class Queue:
    """Jobs as a schedd tells them; of the manager's workers so many are no job's."""

    def __init__(self, own: Any, others: Any, unmatched: int = 0) -> None:
        self.table, self.others = own, others
        self.knows_host = True
        self.unmatched = unmatched
        self.joined: list[Any] = []

    def join(self, workers: list[Any], *, now: float, told: float) -> int:
        self.joined = workers
        assert told <= now
        return self.unmatched


def view(*addresses: str, **more: Any) -> ManagerView:
    workers = tuple({"hostname": "n", "addrport": address} for address in addresses)
    return ManagerView(
        answered=time.monotonic(), workers=workers, status={"port": 9123}, **more
    )  # fmt: skip


def test_sums_are_of_disjoint_parts() -> None:
    found = Counts(
        idle=1, running=5, connected=2, held=3, other_idle=4, other_running=6, unmatched=7
    )
    assert (found.own, found.others, found.on_their_way) == (9, 17, 7)
    assert Counts(running=1, connected=4).on_their_way == 0


def test_workers_that_came_by_tcp_are_no_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = {"192.0.2.1:1": TCP, "192.0.2.2:1": "shared port"}
    monkeypatch.setattr(module, "routes", lambda addresses, port: ways)
    queue = Queue(table(running=1, connected=1), table(idle=2, held=1, running=3))
    counter = WorkerCounter(queue)  # type: ignore[arg-type]
    counter.join(view(*ways), time.monotonic())
    assert [worker["addrport"] for worker in queue.joined] == ["192.0.2.2:1"]
    assert counter.counts() == Counts(
        running=1, connected=1, other_idle=3, other_running=3, unmatched=1
    )
    assert not counter.is_in_doubt


def test_a_stranger_may_be_a_job_that_seems_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "routes", lambda addresses, port: {})
    queue = Queue(table(idle=2), table(idle=1), unmatched=3)
    counter = WorkerCounter(queue)  # type: ignore[arg-type]
    counter.join(view("192.0.2.1:1"), time.monotonic())
    assert counter.is_in_doubt
    assert counter.counts().unmatched == 3
    assert counter.counts(doubt=True).unmatched == 1
    queue.knows_host = False
    assert counter.counts().unmatched == 1


def test_strangers_do_not_grow_once_the_manager_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "routes", lambda addresses, port: {})
    queue = Queue(table(), table(), unmatched=1)
    counter = WorkerCounter(queue)  # type: ignore[arg-type]
    counter.join(view("192.0.2.1:1"), time.monotonic())
    queue.unmatched = 5  # of jobs that have ended since
    counter.join(view("192.0.2.1:1", gone_since=time.monotonic()), time.monotonic())
    assert counter.counts().unmatched == 1
