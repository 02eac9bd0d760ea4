"""Pauses between attempts: they grow, are spread by chance, and end with the time limit."""

from __future__ import annotations

import time

import pytest

from vine_sharedport.dialing import backoff
from vine_sharedport.dialing.backoff import Backoff


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still."""
    at = [1000.0]
    monkeypatch.setattr(backoff.time, "monotonic", lambda: at[0])
    return at


def test_pauses_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff.random, "uniform", lambda low, high: high)
    pauses = Backoff(0.5, 5.0)
    assert [pauses.failed(0.0) for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    pauses.succeeded()
    assert pauses.failed(0.0) == 0.5


def test_of_each_pause_a_random_half_to_whole_is_waited() -> None:
    found = set()
    for _ in range(50):
        pause = Backoff(8.0, 8.0).failed(time.monotonic())
        assert pause is not None
        assert 4.0 <= pause <= 8.0
        found.add(pause)
    assert len(found) > 1


def test_the_limit_counts_from_the_start_of_the_first_failure(now: list[float]) -> None:
    pauses = Backoff(100.0, 100.0, limit=10.0)
    assert (pauses.left, pauses.is_over) == (None, False)
    assert pauses.failed(996.0) == 6.0, "never beyond the limit"
    assert pauses.left == 6.0
    now[0] += 5.0
    assert pauses.failed(1004.0) == 1.0, "a later attempt does not move it"
    now[0] += 1.0
    assert (pauses.left, pauses.is_over) == (0.0, True)
    assert pauses.failed(1005.5) is None


def test_a_connection_that_works_starts_the_limit_anew(now: list[float]) -> None:
    pauses = Backoff(1.0, 1.0, limit=10.0)
    pauses.failed(1000.0)
    now[0] += 20.0
    assert pauses.is_over
    pauses.succeeded()
    assert (pauses.left, pauses.is_over) == (None, False)
    assert pauses.failed(1020.0) is not None


def test_without_a_limit_it_goes_on_for_ever(now: list[float]) -> None:
    pauses = Backoff(1.0, 1.0)
    pauses.failed(0.0)
    now[0] += 1e9
    assert (pauses.left, pauses.is_over) == (None, False)
    assert pauses.failed(0.0) is not None
