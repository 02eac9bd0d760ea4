"""A connection that TLS was to be spoken on is closed, however that ends."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vine_sharedport.manager_protocol import tls


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return a client's and a server's end of one TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname(), 10)
        peer, _ = server.accept()
        with client, peer:
            yield client, peer


def reset(peer: socket.socket) -> None:
    """Close a connection so that the other side is told of no end but of a reset."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def open_sockets() -> set[int]:
    """Return the inodes of all sockets that this process holds; numbers are used again."""
    found = set()
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            found.add(os.fstat(number).st_ino)
    return found


def before(client: socket.socket, peer: socket.socket) -> None:
    """Let the peer have reset the connection before TLS begins."""
    reset(peer)
    poll = select.poll()
    poll.register(client, 0)  # it has come when this says POLLERR or POLLHUP
    assert poll.poll(10_000)


def unread(client: socket.socket, peer: socket.socket) -> None:
    """The same, with a byte on the way."""
    peer.sendall(b"?")
    assert select.select([client], [], [], 10)[0]
    before(client, peer)


def at_the_hello(client: socket.socket, peer: socket.socket) -> None:
    """Let the peer reset the connection when the client's first bytes have come."""

    def wait() -> None:
        peer.recv(1)
        reset(peer)

    threading.Thread(target=wait, daemon=True).start()


def no_tls(client: socket.socket, peer: socket.socket) -> None:
    """Let the peer answer something else."""
    peer.sendall(b"taskvine 12\n" * 10)


def closed(client: socket.socket, peer: socket.socket) -> None:
    peer.close()


def silent(client: socket.socket, peer: socket.socket) -> None:
    client.settimeout(0.05)


@pytest.mark.parametrize("end", [before, unread, at_the_hello, no_tls, closed, silent])
def test_a_handshake_that_fails_leaves_no_descriptor(
    pair: tuple[socket.socket, socket.socket],
    end: Callable[[socket.socket, socket.socket], None],
) -> None:
    client, peer = pair
    own = os.fstat(client.fileno()).st_ino
    end(client, peer)
    with pytest.raises(OSError) as caught:
        tls.wrap(client)
    # The error, which has the frames, is still there: nothing was collected by chance.
    assert own not in open_sockets()
    assert client.fileno() == -1
    del caught


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interrupted_handshake_leaves_no_descriptor(
    error: type[BaseException],
    pair: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: Any) -> None:
        raise error

    monkeypatch.setattr(ssl.SSLSocket, "do_handshake", interrupted)
    client, _ = pair
    own = os.fstat(client.fileno()).st_ino
    with pytest.raises(error) as caught:
        tls.wrap(client)
    assert own not in open_sockets()
    del caught


def test_a_name_that_no_server_can_have_leaves_the_socket_to_the_caller(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, _ = pair
    with pytest.raises(ValueError):
        tls.wrap(client, ".example.org")
    client.close()
