"""Connections on which nothing comes live on behind NAT that forgets.

They wait, for minutes: the kernel's clock cannot be turned.
"""

from __future__ import annotations

import pytest

from .flows import Flow
from .site import Site

pytestmark = [pytest.mark.site, pytest.mark.long]

TRANSPORTS = ("shim", "relay")


@pytest.mark.parametrize(
    ("forgets", "network"), [(60, 1), (30, 2), (10, 1), (150, 2), (320, 1)]
)
def test_tasks_after_silence_are_on_time(site: Site, forgets: int, network: int) -> None:
    router = site.routers[f"router{network}"]
    router.forget_after(forgets)
    settings = {"workers": len(TRANSPORTS), "idle": 2 * forgets}
    try:
        with (
            Flow(site, "ann", "silent.py", phases=["wait"], **settings) as waits,
            Flow(site, "ben", "silent.py", phases=["away"], **settings) as is_away,
        ):
            for flow in (waits, is_away):
                for number, transport in enumerate(TRANSPORTS):
                    flow.start_worker(
                        f"nat{network}", "--feature", f"worker-{number}", TRANSPORT=transport
                    )
            for flow in (waits, is_away):
                assert flow.read() == {"ready": True}
            for flow in (waits, is_away):
                report = flow.read()
                assert max(report["took"]) < 5, report
                assert (report["accepted"], report["by_tcp"]) == (len(TRANSPORTS), 0)
    finally:
        router.forget_after()
