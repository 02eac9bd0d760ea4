"""A factory's end: its jobs are removed, however its schedd answers."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.factory.fake_schedd import AbsentSchedd
from vine_sharedport.errors import ScheddError
from vine_sharedport.factory.jobs.queue import Queue
from vine_sharedport.factory.jobs.removal import Removal
from vine_sharedport.factory.submission.destination import Destination
from vine_sharedport.factory.submission.location import JobLocation


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """Return a queue at a schedd that is not there."""
    place = JobLocation("m", Destination(), "workers.log", 30)
    place.write(str(tmp_path))
    found = Queue(str(tmp_path), factory="f" * 32, place=place)
    found._schedd = AbsentSchedd()  # type: ignore[assignment]
    return found


def test_a_factory_that_has_submitted_nothing_ends_at_once(tmp_path: Path) -> None:
    place = JobLocation("m", Destination(schedd="nobody"), None, 30)
    found = Queue(str(tmp_path), factory="f" * 32, place=place)
    found._schedd = AbsentSchedd()  # type: ignore[assignment]
    removal = Removal(found, "told to end")
    assert (removal.is_over, removal.is_done) == (True, True)
    assert not removal.remark


def test_the_end_is_soon_when_htcondors_configuration_has_gone(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDOR_CONFIG", str(tmp_path / "gone"))
    monkeypatch.setattr("vine_sharedport.factory.jobs.removal._POOL_GONE_AFTER", 0.3)
    removal = Removal(queue, "told to end")
    began = time.monotonic()
    while not removal.is_over:
        removal.go_on()
    assert time.monotonic() - began < 10
    assert removal.is_done
    assert removal.remark == "HTCondor itself has ended, and its jobs with it"


def test_a_schedd_that_is_away_at_the_end_is_asked_less_and_less_and_told_of_once(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []
    now = [0.0]

    def wait(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=wait)
    monkeypatch.setattr("vine_sharedport.factory.jobs.removal.time", clock)
    monkeypatch.delenv("CONDOR_CONFIG", raising=False)
    queue.follow = lambda: None  # type: ignore[method-assign]
    removal = Removal(queue, "told to end")
    while not removal.is_over:
        removal.go_on()
    assert not removal.is_done
    assert "condor_rm -constraint 'VineSharedPortFactory =?= " in removal.remark
    assert (waits[0], waits[-1]) == (pytest.approx(0.3), 5.0)
    assert 1800 <= now[0] < 1810
    assert caplog.text.count("the schedd is not there") == 1


def test_an_end_does_not_wait_long_for_jobs_that_it_may_not_remove(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    def act(*_: object) -> int:
        raise ScheddError("denied for 2 of the jobs", denied=2)

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=wait)
    monkeypatch.setattr("vine_sharedport.factory.jobs.removal.time", clock)
    monkeypatch.delenv("CONDOR_CONFIG", raising=False)
    queue._owner = "o'neil"  # a shell reads the command
    queue._schedd = SimpleNamespace(act=act)  # type: ignore[assignment]
    queue.follow = lambda: None  # type: ignore[method-assign]
    removal = Removal(queue, "told to end")
    while not removal.is_over:
        removal.go_on()
    assert not removal.is_done
    assert "denied for 2 of the jobs" in removal.remark
    command = removal.remark.partition("remove them by ")[2]
    assert shlex.split(command) == ["condor_rm", "-constraint", queue.mine]
    assert 30 <= now[0] < 40
