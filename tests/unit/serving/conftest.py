"""Endpoints for the link's tests, and a manager with its porter."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.helpers import Clock
from vine_sharedport.serving.endpoint import Endpoint, Limits

from .managers import Manager


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def endpoint(short_directory: Path, request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    """An endpoint, on the clock that stands still if the test asks for that, too."""
    given = "clock" in request.fixturenames
    clock = request.getfixturevalue("clock") if given else time.monotonic
    with Endpoint("vine_1", str(short_directory), clock=clock) as made:
        yield made


@pytest.fixture
def small(short_directory: Path, clock: Clock) -> Iterator[Endpoint]:
    """An endpoint that lets three connections wait."""
    limits = Limits(hand_off=10, first_bytes=30, pending=3)
    with Endpoint("vine_1", str(short_directory), limits=limits, clock=clock) as made:
        yield made


@pytest.fixture
def manager(short_directory: Path) -> Iterator[Manager]:
    made = Manager(short_directory)
    yield made
    made.handle.close()
