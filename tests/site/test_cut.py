"""A site that is cut off for a minute loses nothing, and keeps nobody waiting."""

from __future__ import annotations

import time

import pytest

from .site import Site
from .test_workflows import begin, check

pytestmark = [pytest.mark.site, pytest.mark.long]


@pytest.mark.parametrize("transport", ["shim", "relay"])
def test_nothing_is_lost_in_a_cut_of_a_minute(site: Site, transport: str) -> None:
    size = {"groups": 2}
    with begin(site, places=[], workers=4, limit=200, **size) as flow:
        for host in ("nat1", "nat2", "nat1", "nat2"):
            flow.start_worker(host, TRANSPORT=transport)
        assert flow.read() == {"ready": True}
        with site.routers["router2"].cut():
            time.sleep(60)
        check(flow, **size)
