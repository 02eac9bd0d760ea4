"""Ordinary workflows end with the right outputs, wherever their workers are."""

from __future__ import annotations

import random
from typing import Any

import pytest

from .flows import Flow
from .site import Site

pytestmark = pytest.mark.site

WORKERS = 2
SIZE = {
    "workers": WORKERS, "megabytes": 50, "tasks": 20,
    "groups": 3, "fan_in": 5, "depth": 3,
}  # fmt: skip
TASKS = SIZE["tasks"] + SIZE["groups"] * (SIZE["fan_in"] * SIZE["depth"] + 1)
PLACES = {
    "one NAT": ["nat1", "nat1b"],
    "two sites": ["nat1", "nat2"],
    "public": ["public"],
    "mixed": ["nat1", "nat2", "public"],
}


def run(
    site: Site, places: list[str], transport: str = "auto", peers: str = "off"
) -> dict[str, Any]:
    """Run the whole workflow, and check what must hold wherever it runs."""
    seed = random.randrange(10**9)
    settings = {**SIZE, "places": places, "transport": transport, "seed": seed}
    settings["peer_transfers"] = peers
    with Flow(site, "ann", "flow.py", **settings) as flow:
        report = flow.finish()
        assert (report["wrong"], report["right"]) == ({}, TASKS), report
        assert report["by_tcp"] == 0
        assert flow.packets_to_its_port() == 0
        return report


@pytest.fixture(scope="module")
def seconds_on_one_machine(site: Site) -> float:
    """Return how long it takes with as many workers beside the manager."""
    return float(run(site, ["", ""])["seconds"])


@pytest.mark.parametrize("transport", ["shim", "relay"])
@pytest.mark.parametrize("places", PLACES)
def test_cached_file_and_temporary_files_reach_all_workers(
    site: Site, places: str, transport: str, seconds_on_one_machine: float
) -> None:
    report = run(site, PLACES[places], transport)
    assert set(report["hosts"]) == set(PLACES[places])
    assert report["seconds"] < 3 * seconds_on_one_machine
