"""Workers that share one LAN behind NAT fetch from each other if their manager is told."""

from __future__ import annotations

import pytest

from .site import Site
from .test_workflows import run

pytestmark = pytest.mark.site


@pytest.mark.parametrize("transport", ["shim", "relay"])
def test_workers_behind_one_nat_fetch_from_each_other_if_told(
    site: Site, transport: str
) -> None:
    before = site.routers["router1"].packets()
    report = run(site, ["nat1", "nat1b"], transport=transport, peer_transfers="site")
    assert {*report["hosts"]} == {"nat1", "nat1b"}
    assert {*report["peers"]} == {"10.1.0.11", "10.1.0.12"}
    assert site.routers["router1"].packets()["unasked"] == before["unasked"]


def test_by_default_none_is_told_to_fetch_from_another(site: Site) -> None:
    assert run(site, ["nat1", "nat2"])["peers"] == []
