"""Every other connect() goes to the kernel as it came."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from .support import CONNECT, Client, EchoManager

BADLY = {
    "null": "EFAULT",
    "wild": "EFAULT",
    "high": "EFAULT",
    "edge": "EFAULT",
    "edge6": "EFAULT",
    "short": "EINVAL",
    "zero": "EINVAL",
    "huge": "EINVAL",
    "no-fd": "EBADF",
    "file": "ENOTSOCK",
}


@pytest.mark.parametrize("how", BADLY)
def test_a_bad_call_fails_as_without_the_shim(
    client: Client, manager: EchoManager, how: str
) -> None:
    given = {"address": manager.address, "secret_file": manager.secret_file}
    done = client.run("badly", how, **given)
    if client.emulator:
        # The emulator judges pointers before the kernel does: as without the shim is enough.
        assert done.lines("badly") == client.run("badly", how, preload="").lines("badly")
    else:
        assert done.lines("badly") == [f"errno {errno.__dict__[BADLY[how]]}"], done.stderr
    assert manager.served == 0


def test_an_address_at_the_very_end_of_memory_is_read(
    client: Client, manager: EchoManager
) -> None:
    done = client.run("badly", "fits", address=manager.address, secret_file=manager.secret_file)
    assert done.lines("badly") == ["0"], done.stderr


def test_a_datagram_socket_is_passed_through(client: Client, manager: EchoManager) -> None:
    done = client.run(
        "badly", "datagram", address=manager.address, secret_file=manager.secret_file
    )
    assert done.lines("badly") == ["0"]  # as the kernel answers for loopback


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("127.86.83.80", 2),
        ("127.86.83.81", 1),
        ("::ffff:127.86.83.80", 2),
        ("::ffff:127.86.83.81", 1),
        ("127.0.0.1", 1),
    ],
)
def test_addresses_beside_the_reserved_one_are_not_ours(
    client: Client, manager: EchoManager, host: str, port: int
) -> None:
    given = {"address": manager.address, "secret_file": manager.secret_file}
    done = client.run("connect", host, str(port), **given)
    assert done.lines("connect") == [f"errno {errno.ECONNREFUSED}"]
    assert done.stderr == ""
    assert manager.served == 0


def test_the_reserved_address_is_refused_without_an_address(client: Client) -> None:
    # It leads nowhere, at once.
    done = client.run(*CONNECT)
    assert done.lines("connect") == [f"errno {errno.ECONNREFUSED}"]
    assert done.stderr == ""


@pytest.mark.parametrize("nonblock", [[], ["nonblock"]], ids=["blocking", "non-blocking"])
def test_a_plain_tcp_server_is_reached_as_ever(
    client: Client, manager: EchoManager, nonblock: list[str]
) -> None:
    given = {"address": manager.address, "secret_file": manager.secret_file}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = client.run(*nonblock, "connect", "127.0.0.1", str(port), **given)
        conn, _ = server.accept()
        with conn:
            assert conn.recv(100) == b""
    wanted = f"errno {errno.EINPROGRESS}" if nonblock else "0"
    assert done.lines("connect") == [wanted]
    assert done.stderr == ""


def test_unix_sockets_are_reached_as_ever(
    client: Client, manager: EchoManager, short_directory: Path
) -> None:
    given = {"address": manager.address, "secret_file": manager.secret_file}
    path = str(short_directory / "u")
    done = client.run("unix", path, **given)
    assert done.lines("unix") == [f"errno {errno.ENOENT}"]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        done = client.run("unix", path, **given)
    assert done.lines("unix") == ["0"]
