"""A factory's loop: when it ends with its manager."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from vine_sharedport.condor.event_log import Event
from vine_sharedport.factory.control import owner_process
from vine_sharedport.factory.jobs.table import JobTable
from vine_sharedport.factory.loop import Loop
from vine_sharedport.factory.manager_view.monitor import ManagerView
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.report.phase import Phase


@pytest.mark.parametrize(
    ("answered", "gone", "error", "owner", "factory_timeout", "end"),
    [
        (1, None, None, False, 5, None),
        (50, None, "busy", False, 0, None),
        (50, None, "busy", False, 40, Phase.NO_MANAGER),
        (50, 10, "nobody", False, 0, None),
        (50, 25, "nobody", False, 0, Phase.MANAGER_ENDED),
        (150, 100, "nobody", True, 0, None),
        (150, 125, "nobody", True, 0, Phase.MANAGER_ENDED),
        (None, 500, "nobody", False, 0, None),  # not begun yet
        (None, 500, "nobody", False, 400, Phase.NO_MANAGER),
    ],
)
def test_it_ends_with_its_manager_and_not_while_that_is_busy(
    answered: float | None,
    gone: float | None,
    error: str | None,
    owner: bool,
    factory_timeout: int,
    end: Phase | None,
) -> None:
    now = time.monotonic()
    loop = Loop.__new__(Loop)
    loop._stop, loop._began = None, now - 600
    table = JobTable()
    table.apply([Event("SUBMIT", 1, 0, 1.0), Event("JOB_ABORTED", 1, 0, 2.0)])
    loop._queue = SimpleNamespace(table=table)  # type: ignore[assignment]
    loop._owner = owner_process() if owner else None
    options = Options.make({"factory_timeout": factory_timeout})
    loop._live = SimpleNamespace(now=options)  # type: ignore[assignment]
    view = ManagerView(
        answered=None if answered is None else now - answered,
        gone_since=None if gone is None else now - gone,
        error=error,
    )
    loop._monitor = SimpleNamespace(view=view)  # type: ignore[assignment]
    reason = loop._reason_to_end()
    assert (reason and reason.phase) is end
    if end is Phase.NO_MANAGER:
        assert reason is not None
        assert f" {factory_timeout} s" in reason.message
    if answered is None and gone == 500 and not factory_timeout:
        table.apply([Event("SUBMIT", 2, 0, 3.0)])  # of a factory that was killed
        again = loop._reason_to_end()
        assert again is not None
        assert again.phase is Phase.MANAGER_ENDED
