"""A server of this host at the shared port, for a block's length, and what is left then."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_shared_port import FakeSharedPort
from tests.unit import helpers
from tests.values import naming
from vine_sharedport.dialing.dial import connect
from vine_sharedport.errors import SettingError
from vine_sharedport.manager.settings import SharedPort
from vine_sharedport.registry.run_file import running_managers
from vine_sharedport.secret_file import make_secret_file, read_secret_file
from vine_sharedport.tcp_servers import expose as module
from vine_sharedport.tcp_servers.expose import expose


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    # The directory is a test's, and no HTCondor is asked.
    monkeypatch.setattr(module, "check_socket_dir", lambda location: None)
    return tmp_path


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def place(short_directory: Path) -> Iterator[dict[str, Any]]:
    """Where a shared port is that a thread plays."""
    with FakeSharedPort(str(short_directory)) as made:
        yield {"socket_dir": str(short_directory), "address": made.address()}


def _running() -> list[str]:
    """Return what runs on this host, other tests' too."""
    return [found.sock_id for found in running_managers()]


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def test_clients_with_the_secret_get_to_the_server(
    server: socket.socket, place: dict[str, Any], here: Path
) -> None:
    with expose(port_of(server), SharedPort("flow", **place)) as link:
        server.accept()[0].close()  # the look whether it is there
        secret_file = link.secret_file
        assert secret_file == str(here / "flow.secret")
        assert "flow" in _running()
        with connect(link.address, secret=read_secret_file(secret_file)) as client:
            client.sendall(b"hello")
            taken, _ = server.accept()
            with taken:
                assert helpers.receive_exactly(taken, 5) == b"hello"
    assert not link.is_open
    assert os.listdir(here) == [], "the secret was made here, and is removed"
    assert "flow" not in _running()


def test_a_secret_that_is_there_is_taken_and_stays(
    server: socket.socket, place: dict[str, Any], here: Path
) -> None:
    make_secret_file("flow.secret")
    before = Path("flow.secret").read_bytes()
    with expose(port_of(server), SharedPort("flow", **place)):
        server.accept()[0].close()
    assert (here / "flow.secret").read_bytes() == before


def test_without_a_gate_there_is_no_secret(
    server: socket.socket, place: dict[str, Any], here: Path
) -> None:
    with expose(port_of(server), SharedPort("flow", gate=False, **place)) as link:
        server.accept()[0].close()
        assert link.secret_file is None
        assert os.listdir(here) == []


def test_where_nothing_listens_that_is_said_and_nothing_made(
    server: socket.socket, place: dict[str, Any], here: Path
) -> None:
    port = port_of(server)
    server.close()
    with pytest.raises(SettingError, match=naming(port)), expose(port, SharedPort(**place)):
        pass
    assert os.listdir(here) == []


@pytest.mark.parametrize("name", ["none/secret", "short"])
def test_a_secret_file_that_cannot_be_is_named_before_htcondor_is_asked(
    server: socket.socket, here: Path, name: str
) -> None:
    (here / "short").write_text("short")
    (here / "short").chmod(0o600)
    settings = SharedPort(socket_dir="/none", address="<192.0.2.7:1>")
    with pytest.raises(SettingError, match=naming(here / name)):
        expose(port_of(server), settings, secret_file=name).__enter__()
