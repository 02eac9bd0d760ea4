"""Ordinary workflows end with the right outputs, wherever their workers are."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from typing import Any

import pytest

from .flows import Flow
from .hosts import descendants
from .site import Site

pytestmark = pytest.mark.site

SIZE = {
    "workers": 2, "megabytes": 50, "tasks": 20, "groups": 3, "fan_in": 5, "depth": 3,
    "kilobytes": 500,
}  # fmt: skip
PLACES = {
    "one NAT": ["nat1", "nat1b"],
    "two sites": ["nat1", "nat2"],
    "public": ["public"],
    "mixed": ["nat1", "nat2", "public"],
}


def begin(site: Site, user: str = "ann", program: str = "flow.py", **settings: Any) -> Flow:
    """Start a workflow with a content of its own."""
    settings = {**SIZE, "transport": "auto", "seed": random.randrange(10**9), **settings}
    return Flow(site, user, program, **settings)


def check(flow: Flow, **changed: int) -> dict[str, Any]:
    """Wait for its end; check what must hold wherever it ran."""
    size = {**SIZE, **changed}
    tasks = size["tasks"] + size["groups"] * (size["fan_in"] * size["depth"] + 1)
    report = flow.read()
    assert (report["wrong"], report["right"]) == ({}, tasks), report
    assert report["by_tcp"] == 0
    assert flow.packets_to_its_port() == 0
    return report


def run(site: Site, places: list[str], **settings: Any) -> dict[str, Any]:
    """Run a whole workflow with workers that are HTCondor jobs."""
    with begin(site, places=places, **settings) as flow:
        assert flow.read() == {"ready": True}
        changed = {name: value for name, value in settings.items() if name in SIZE}
        return check(flow, **changed)


@pytest.fixture(scope="module")
def seconds_on_one_machine(site: Site) -> float:
    """Return how long it takes with as many workers beside the manager."""
    return float(run(site, ["", ""])["seconds"])


@pytest.mark.long
@pytest.mark.parametrize("transport", ["shim", "relay"])
@pytest.mark.parametrize("places", PLACES)
def test_cached_and_temporary_files_reach_all_workers(
    site: Site, places: str, transport: str, seconds_on_one_machine: float
) -> None:
    report = run(site, PLACES[places], transport=transport)
    assert set(report["hosts"]) == set(PLACES[places])
    assert report["seconds"] < 3 * seconds_on_one_machine


@pytest.mark.parametrize("places", PLACES)
def test_cached_file_reaches_all_workers_of_work_queue(site: Site, places: str) -> None:
    where = PLACES[places]
    report = run(site, where, program="queue_flow.py", groups=0)
    assert set(report["hosts"]) == set(where)


def test_two_users_have_managers_at_once(site: Site) -> None:
    ann = begin(site, "ann", places=["nat1"], groups=1)
    # With PyPI's bindings none of ben's jobs could be submitted; these workers are no jobs.
    with ann, begin(site, "ben", places=[], groups=1) as ben:
        workers = [ben.start_worker(host) for host in ("nat1", "nat2")]
        for flow in (ann, ben):
            assert flow.read() == {"ready": True}
        for flow in (ann, ben):
            check(flow, groups=1)
        assert {worker.poll() for worker in workers} == {None}


def sources(site: Site, host: str) -> set[int]:
    """Return the processes on a host from which another worker fetches a file just now."""
    ports = {
        line.split()[3].rpartition(":")[2]
        for line in site.run(host, ["ss", "-Htln"]).stdout.splitlines()
    }
    established = site.run(host, ["ss", "-Htnp", "state", "established"]).stdout
    found = set()
    for line in established.splitlines():
        if line.split()[2].rpartition(":")[2] in ports:
            found.update(map(int, re.findall(r'"vine_worker",pid=(\d+)', line)))
    return found


def test_nothing_is_lost_with_a_worker_that_is_a_source(site: Site) -> None:
    size = {"groups": 4, "tasks": 0, "kilobytes": 10_000}
    with begin(site, places=[], workers=4, peer_transfers="site", **size) as flow:
        places = ("nat1", "nat1b", "nat1", "nat1b")
        workers = [flow.start_worker(host) for host in places]
        assert flow.read() == {"ready": True}
        until = time.monotonic() + 60
        found: set[int] = set()
        while not found:
            found = sources(site, "nat1") | sources(site, "nat1b")
            assert time.monotonic() < until, "no worker was a source"
        for worker in workers:
            family = descendants(worker.pid)
            if family & found:
                for pid in family:
                    os.kill(pid, signal.SIGKILL)
                break
        else:
            raise AssertionError("the source is no worker of this manager")
        check(flow, **size)
