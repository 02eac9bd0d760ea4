"""One personal pool for all daemon tests, managers in it, a shared port of both families."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vine_sharedport as vine
from vine_sharedport.condor.personal_pool.config import find_installation

from . import helpers


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


@pytest.fixture
def manager(make_manager: Any) -> Any:
    """Return a manager with a shared port and nothing else of its own."""
    return make_manager()


_CONFIG = """
LIBEXEC = {libexec}
LOCAL_DIR = {dir}
LOG = {dir}
LOCK = {dir}
RUN = {dir}
SPOOL = {dir}
EXECUTE = {dir}
DAEMON_SOCKET_DIR = {dir}/sock
BIND_ALL_INTERFACES = True
ENABLE_IPV4 = True
ENABLE_IPV6 = True
USE_SHARED_PORT = True
COLLECTOR_HOST = 127.0.0.1:1
NETWORK_HOSTNAME = localhost
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_DAEMON = *
"""


@pytest.fixture
def dual(short_directory: Path) -> Iterator[tuple[int, str]]:
    """Return the port and socket directory of a real shared port of both families."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            port = probe.getsockname()[1]
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    libexec = find_installation().libexec
    config = short_directory / "config"
    config.write_text(_CONFIG.format(libexec=libexec, dir=short_directory))
    (short_directory / "sock").mkdir()
    process = subprocess.Popen(
        [f"{libexec}/condor_shared_port", "-f", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "CONDOR_CONFIG": str(config)},
    )  # fmt: skip

    def is_up() -> bool:
        assert process.poll() is None, (short_directory / "SharedPortLog").read_text()
        for host in ("127.0.0.1", "::1"):
            try:
                socket.create_connection((host, port), 1).close()
            except OSError:
                return False
        return True

    try:
        helpers.wait_until(is_up)
        yield port, str(short_directory / "sock")
    finally:
        process.send_signal(signal.SIGQUIT)  # HTCondor's fast end
        process.wait(20)
