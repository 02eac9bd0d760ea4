"""Tests side by side: how many processes, a home for each, and tests that must be alone.

Most tests wait, so there are more processes than cores. Each has its own pool, its own home
directory and so its own notes of what runs. A test with the marker ``alone`` runs while no
other does. Without pytest-xdist, or with ``-n 0``, tests run one after the other.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

PER_CORE = 3
MEGABYTES_EACH = 1000  # a pool, its workers and Python


def count(config: pytest.Config) -> int:
    """Return how many processes are of use: one for each file is enough."""
    most = min(PER_CORE * len(os.sched_getaffinity(0)), megabytes_free() // MEGABYTES_EACH)
    named = {os.path.realpath(argument.split("::")[0]) for argument in config.args}
    if all(map(os.path.isfile, named)):
        most = min(most, len(named))
    return most if most > 1 else 0


def megabytes_free() -> int:
    """Return how much memory programs can have."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, value, *_ = line.split()
        if name == "MemAvailable:":
            return int(value) // 1024
    return 0


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist's own
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Choose the number of processes, unless ``-n`` says it."""
    option = config.option
    if _worker_directory(config) or getattr(option, "numprocesses", 0) is not None:
        return
    option.numprocesses = 0 if option.usepdb or option.collectonly else count(config)
    if option.numprocesses and option.dist == "no":
        option.dist = "worksteal"


def pytest_configure(config: pytest.Config) -> None:
    """Give each process a home directory of its own."""
    directory = _worker_directory(config)
    if directory is not None:
        os.environ["HOME"] = str(directory / "home")
        (directory / "home").mkdir(parents=True)


def made_once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """Return a directory that one of this run's processes fills by ``make``, for all."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    directory = base / "once" / name
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "made", "a+") as made:
        fcntl.flock(made, fcntl.LOCK_EX)
        if made.tell() == 0:  # a+ begins at the end
            make(directory)
            made.write("yes")
    return directory


def _worker_directory(config: pytest.Config) -> Path | None:
    """Return the directory of this process among several, None if there is no other."""
    return Path(config.option.basetemp) if hasattr(config, "workerinput") else None


def _is_alone(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("alone") is not None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the tests that must be alone, so that the others wait for them once."""
    if _worker_directory(config):
        items.sort(key=lambda item: not _is_alone(item))


class _Room:
    """Where tests run: many, or one alone; of the processes of one run."""

    def __init__(self, directory: Path) -> None:
        # Both stay open for the session.
        self._door, self._room = (
            os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            for name in ("door", "room")
        )
        self._kept = False

    def enter(self, *, alone: bool) -> None:
        """Wait for the others, or for the one that is alone."""
        if self._kept:
            return
        # Who waits to be alone keeps the door, so that no other comes in before it.
        fcntl.flock(self._door, fcntl.LOCK_EX)
        fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)

    def leave(self, *, keep: bool) -> None:
        """Let others in, unless the next test is to be alone as well."""
        self._kept = keep
        if not keep:
            # Not by closing alone: a child may have the descriptor.
            fcntl.flock(self._room, fcntl.LOCK_UN)


_ROOM = pytest.StashKey[_Room]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Let a test that must be alone wait for the others, and the others for it."""
    directory = _worker_directory(item.config)
    if directory is None:
        return (yield)
    stash = item.config.stash
    if _ROOM not in stash:
        stash[_ROOM] = _Room(directory.parent)
    alone = _is_alone(item)
    stash[_ROOM].enter(alone=alone)
    try:
        return (yield)
    finally:
        stash[_ROOM].leave(keep=alone and _is_alone(nextitem))
