"""One personal pool for all daemon tests, and a manager in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import vine_sharedport as vine


@pytest.fixture(scope="session")
def pool() -> Iterator[vine.PersonalPool]:
    """Return a running pool of real daemons, the present process's HTCondor."""
    with vine.PersonalPool() as running:
        yield running


@pytest.fixture
def make_manager(pool: vine.PersonalPool, tmp_path: Any) -> Iterator[Any]:
    """Return a function that makes managers, which end with the test."""
    managers = []

    def make(*args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("run_info_path", str(tmp_path / "run-info"))
        kwargs.setdefault("shared_port", True)
        args = args or (0,)
        manager = vine.Manager(*args, **kwargs)
        managers.append(manager)
        return manager

    yield make
    for manager in managers:
        manager._free()
