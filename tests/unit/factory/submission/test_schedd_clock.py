"""The schedd's times by our clock, whatever the difference."""

from __future__ import annotations

import pytest

from vine_sharedport.condor.event_log import Event
from vine_sharedport.factory.submission.schedd_clock import ScheddClock


@pytest.mark.parametrize("ahead", [3600.0, -3600.0, 86400.0, -90.0])
def test_events_and_ads_are_told_by_our_clock(ahead: float) -> None:
    clock = ScheddClock()
    clock.note(7, 1e9)
    there = 1e9 + ahead
    events = [Event("SUBMIT", 7, 0, there), Event("EXECUTE", 7, 0, there + 5)]
    assert [event.time for event in clock.events(events)] == [1e9, 1e9 + 5]
    (later,) = clock.events([Event("JOB_TERMINATED", 7, 0, there + 9)])
    assert later.time == 1e9 + 9
    waiting = {"QDate": 1e9, "EnteredCurrentStatus": 1e9}
    assert clock.ad(waiting) == waiting
    running = {
        "QDate": 1e9,
        "EnteredCurrentStatus": there + 5,
        "JobCurrentStartDate": there + 5,
    }
    assert clock.ad(running) == {
        "QDate": 1e9, "EnteredCurrentStatus": 1e9 + 5, "JobCurrentStartDate": 1e9 + 5,
    }  # fmt: skip


def test_a_log_that_is_late_is_no_other_clock() -> None:
    clock = ScheddClock()
    clock.note(7, 1e9)
    events = [Event("SUBMIT", 7, 0, 1e9 + 50), Event("SUBMIT", 6, 0, 5.0)]
    assert clock.events(events) == events
    ad = {"EnteredCurrentStatus": 5.0}
    assert clock.ad(ad) is ad
