"""By which way a worker came, with the kernel's own tables."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vine_sharedport.factory.manager_view.routes import (
    SHARED_PORT,
    TCP,
    read_connections,
    routes,
)


@pytest.mark.parametrize(
    ("listen", "connect", "shown"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1:{}"),
        ("::1", "::1", "::1:{}"),
        ("::1", "::1", "[::1]:{}"),
        ("::", "127.0.0.1", "127.0.0.1:{}"),  # IPv4 at a socket of IPv6
        ("::", "127.0.0.1", "::ffff:127.0.0.1:{}"),
    ],
)
def test_a_connection_keeps_the_port_at_which_it_was_accepted(
    listen: str, connect: str, shown: str
) -> None:
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with contextlib.ExitStack() as stack:
        both = listen == "::"
        listener = stack.enter_context(
            socket.create_server((listen, 0), family=family, dualstack_ipv6=both)
        )
        port = listener.getsockname()[1]
        client = stack.enter_context(socket.create_connection((connect, port)))
        accepted, _ = listener.accept()
        stack.enter_context(accepted)
        address = shown.format(client.getsockname()[1])
        assert routes([address], port) == {address: TCP}
        assert routes([address], port + 1) == {address: SHARED_PORT}
    # What nobody has, and what is no address, has no way.
    assert routes([address, "", "localhost:1", "127.0.0.1:x", "127.0.0.1:99999"], port) == {}


def test_what_a_porter_relays_has_come_by_the_shared_port(tmp_path: Path) -> None:
    program = (
        "import socket, sys\n"
        "with open('/proc/self/comm', 'w') as comm: comm.write('vine_porter')\n"
        "sock = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "sys.stdin.read()"
    )
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        porter = subprocess.Popen([sys.executable, "-c", program, str(port)], stdin=-1)
        stack.callback(porter.communicate)
        relayed, place = listener.accept()
        stack.enter_context(relayed)
        direct = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        accepted, _ = listener.accept()
        stack.enter_context(accepted)
        by_relay = f"127.0.0.1:{place[1]}"
        by_hand = f"127.0.0.1:{direct.getsockname()[1]}"
        assert routes([by_relay, by_hand], port) == {by_relay: SHARED_PORT, by_hand: TCP}


def test_a_host_without_the_tables_has_no_connections(tmp_path: Path) -> None:
    assert list(read_connections(str(tmp_path))) == []
