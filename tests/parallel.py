"""Tests side by side: how many processes, a home for each, and tests that must be alone.

Most tests wait, so there are more processes than cores. Each has its own pool, its own home
directory and so its own notes of what runs. A test with the marker ``alone`` runs while no
other does. Without pytest-xdist, or with ``-n 0``, tests run one after the other.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

import pytest

PER_CORE = 3
MEGABYTES_EACH = 1000  # a pool, its workers and Python


def count(config: pytest.Config) -> int:
    """Return how many processes are of use: one for each file is enough."""
    most = min(PER_CORE * len(os.sched_getaffinity(0)), _megabytes_free() // MEGABYTES_EACH)
    named = {os.path.realpath(argument.split("::")[0]) for argument in config.args}
    if all(map(os.path.isfile, named)):
        most = min(most, len(named))
    return most if most > 1 else 0


def _megabytes_free() -> int:
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


def _worker_directory(config: pytest.Config) -> Path | None:
    """Return the directory of this process among several, None if there is no other."""
    return Path(config.option.basetemp) if hasattr(config, "workerinput") else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test that must be alone wait for the others, and the others for it."""
    directory = _worker_directory(item.config)
    if directory is None:
        return (yield)
    alone = item.get_closest_marker("alone") is not None
    with contextlib.ExitStack() as stack:
        # Who waits to be alone keeps the door, so that no other comes in before it.
        door, room = (
            stack.enter_context(open(directory.parent / name, "a")) for name in ("door", "room")
        )
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            return (yield)
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)  # also where a child has its descriptor
