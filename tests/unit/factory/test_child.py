"""The thread that sees to a factory's process."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable

import pytest

from vine_sharedport.errors import LaunchError
from vine_sharedport.factory import child
from vine_sharedport.factory.child import keep


class Kept:
    """Something that was killed once, in a machine where nothing can be started at first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def revive(self) -> bool:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return False


@pytest.fixture(autouse=True)
def _swift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_INTERVAL", 0.01)


def keepers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "keep-factory"]


def wait_for(condition: Callable[[], bool], *, timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(0.01)


def test_it_goes_on_after_whatever_goes_wrong_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    full = [OSError(24, "Too many open files") for _ in range(3)]
    kept = Kept(*full, LaunchError("no more processes"), AssertionError("a bug"))
    with caplog.at_level(logging.WARNING):
        over = keep(kept.revive)
        wait_for(lambda: kept.calls > 6)
    said = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert said == ["[Errno 24] Too many open files", "no more processes", "a bug"]
    over.set()
    wait_for(lambda: not keepers())


def test_it_ends_when_it_is_told_and_with_what_it_keeps() -> None:
    kept = Kept()
    keep(kept.revive).set()
    wait_for(lambda: not keepers())
    things = [Kept()]
    keep(things[0].revive)
    wait_for(lambda: things[0].calls > 2)
    assert len(keepers()) == 1
    things.clear()
    gc.collect()
    wait_for(lambda: not keepers())
