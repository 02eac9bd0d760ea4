"""The schedd's clock, which need not agree with ours: its times, by our clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vine_sharedport.condor.event_log import Event

__all__ = ["ScheddClock"]

# Seconds by which the two may differ unnoticed: a log may be late.
_SLACK = 60.0


class ScheddClock:
    """Learns by how much the schedd's clock is ahead, from its events of our submissions."""

    def __init__(self) -> None:
        self._submitted: dict[int, float] = {}  # of clusters that the log has not shown yet
        self._ahead = 0.0

    def note(self, cluster: int, now: float) -> None:
        """Take note that a cluster was submitted now, in seconds since 1970."""
        self._submitted[cluster] = now

    def events(self, events: list[Event]) -> list[Event]:
        """Return events of the jobs' log by our clock."""
        for event in events:
            ours = self._submitted.pop(event.cluster, None) if event.type == "SUBMIT" else None
            if ours is not None:
                ahead = event.time - ours
                self._ahead = ahead if abs(ahead) >= _SLACK else 0.0
        if not self._ahead:
            return events
        return [replace(event, time=event.time - self._ahead) for event in events]

    def ad(self, ad: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a job's ad by our clock; ``QDate`` is by that of whoever submitted it."""
        if not self._ahead:
            return ad
        changed = {
            name: ad[name] - self._ahead
            for name in ("JobCurrentStartDate", "EnteredCurrentStatus")
            if name in ad and ad[name] != ad.get("QDate")
        }
        return {**ad, **changed}
