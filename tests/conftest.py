"""What every test gets: a check that no descriptor is left open, and the real pool."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import platform
import shutil
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import settings

from . import parallel, tiers

# Stable on every machine: the same examples each time, and no verdict by the clock.
settings.register_profile("stable", derandomize=True, deadline=None)
settings.load_profile("stable")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Take what concerns the whole session from the modules beside this one."""
    parser.addoption("--long", action="store_true", help="run tests that wait for many minutes")
    pluginmanager.register(parallel)
    pluginmanager.register(tiers)


def _open_descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the listing's own descriptor
            continue
    return found


@pytest.fixture(autouse=True)
def _no_descriptor_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    if "pool" in request.fixturenames:
        request.getfixturevalue("pool")  # its own descriptors stay for the session
    gc.collect()
    before = _open_descriptors()
    yield
    gc.collect()
    # A thread or a child that is just ending may hold one for a moment.
    until = time.monotonic() + 2.0
    left = _new(before)
    while left and time.monotonic() < until:
        time.sleep(0.01)
        left = _new(before)
    assert not left, f"descriptors left open: {left}"


def _new(before: dict[int, str]) -> dict[int, str]:
    return {fd: what for fd, what in _open_descriptors().items() if fd not in before}


@pytest.fixture
def short_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a fresh directory whose path leaves room for a socket's name."""
    import tempfile

    path = Path(tempfile.mkdtemp(prefix="vsp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(autouse=True)
def _logging_is_as_before() -> Iterator[None]:
    """Take back what a command does to the logging, or later tests would see no message."""
    logger = logging.getLogger("vine_sharedport")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture
def main() -> Callable[..., int]:
    """Return the command as a function."""
    from vine_sharedport.cli import main as cli

    return lambda *arguments: cli.main(arguments)


@pytest.fixture(scope="session")
def compiler() -> str:
    """Return a C compiler for this machine, for tests of the tier shim."""
    if platform.machine() not in ("x86_64", "aarch64"):
        tiers.missing(
            "shim", f"the shim knows x86-64 and aarch64, this is {platform.machine()}"
        )
    found = next(filter(None, map(shutil.which, ("gcc", "cc", "clang"))), None)
    if found is None:
        tiers.missing("shim", "no C compiler (gcc, cc, clang) found")
    return found


def kernel_says_another_uid() -> str | None:
    """Return why other processes see another uid than we do: root's sandbox by proot."""
    ours, peer = socket.socketpair()
    with ours, peer:
        peer_ids = ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, said, _ = struct.unpack("iII", peer_ids)  # struct ucred
    return None if said == os.getuid() else f"we are {os.getuid()}, and the kernel says {said}"


def missing_for_daemon_tests() -> str | None:
    """Return what keeps the daemon tests from running here; None if nothing does."""
    if os.environ.get("VINE_SHAREDPORT_SANDBOX") == "proot" and "daemon" not in tiers.REQUIRED:
        return "proot would take hours for them; VINE_SHAREDPORT_REQUIRE=daemon runs them"
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    for program in ("condor_master", "vine_worker"):
        if shutil.which(program, path=path) is None:
            return f"{program} not found"
    if shutil.which("condor_shared_port", path=path) is None and not any(
        Path(directory, "condor_shared_port").exists()
        for directory in ("/usr/lib/condor/libexec", "/usr/libexec/condor", "/usr/sbin")
    ):
        return "condor_shared_port not found"
    for module in ("htcondor2", "ndcctools.taskvine"):
        try:
            found = importlib.util.find_spec(module) is not None
        except ImportError:
            found = False
        if not found:
            return f"Python module {module} not found"
    if os.geteuid() == 0:
        return "running as root, whose jobs HTCondor refuses"
    return None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep what is loaded by now out of the many collections of the check above."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what cannot run here, or fail it where the caller requires the tier."""
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; --long runs it"))
    reason = kernel_says_another_uid()
    for item in items:
        if reason and item.get_closest_marker("true_uid"):
            item.add_marker(pytest.mark.skip(reason=reason))
    reason = missing_for_daemon_tests()
    if reason is None:
        return
    for item in items:
        if item.get_closest_marker("daemon"):
            if "daemon" in tiers.REQUIRED:
                item.add_marker(pytest.mark.usefixtures("_required_tier_is_missing"))
            else:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def _required_tier_is_missing() -> None:
    tiers.missing("daemon", str(missing_for_daemon_tests()))
