"""Clients that mean no good, or die at a bad moment.

Each function opens one connection to the shared port, behaves, and returns the open
socket, the caller's; None if it has closed it.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
from dataclasses import dataclass
from typing import Callable, Optional

from vine_sharedport.dialing.dial import candidates, connect
from vine_sharedport.wire.gate import ANSWER_SIZE, GREETING_SIZE, MAC_SIZE, GateClient
from vine_sharedport.wire.handoff import encode_connect
from vine_sharedport.wire.sinful import Sinful

_TIMEOUT = 20.0
_noise = random.Random(2)


@dataclass
class Target:
    """Where clients go.

    Attributes:
        address: The manager's, with its sock id.
        secret: The manager's.
        hello: A worker's first line.
        replay: An answer that once opened the gate.
    """

    address: Sinful
    secret: bytes
    hello: bytes
    replay: bytes = b""

    @property
    def sock_id(self) -> str:
        assert self.address.sock is not None
        return self.address.sock


Client = Callable[[Target], Optional[socket.socket]]


def silent(target: Target) -> socket.socket:
    """Connect and say nothing."""
    return socket.create_connection(candidates(target.address)[0], _TIMEOUT)


def one_byte(target: Target) -> socket.socket:
    """Send the first byte of a header."""
    sock = silent(target)
    sock.sendall(b"\x01")
    return sock


def noise(target: Target) -> socket.socket:
    """Send random bytes."""
    sock = silent(target)
    _send(sock, _noise.randbytes(_noise.randrange(1, 2000)))
    return sock


def header(target: Target) -> socket.socket:
    """Send the right header, then nothing."""
    sock = silent(target)
    sock.sendall(encode_connect(target.sock_id, "a client of benchmarks/faults.py"))
    return sock


def header_and_noise(target: Target) -> socket.socket:
    """Send random bytes behind the right header."""
    sock = header(target)
    _send(sock, _noise.randbytes(500))
    return sock


def wrong_id(target: Target) -> socket.socket:
    """Ask for a manager that does not exist."""
    sock = silent(target)
    sock.sendall(encode_connect("vine_nobody", "a client of benchmarks/faults.py"))
    return sock


def wrong_secret(target: Target) -> socket.socket:
    """Answer at the gate with another secret."""
    sock = header(target)
    gate = GateClient(os.urandom(32), target.sock_id, os.urandom(16))
    _send(sock, gate.feed(_read(sock, GREETING_SIZE)))
    return sock


def replay(target: Target) -> socket.socket:
    """Answer at the gate with what once was right."""
    if not target.replay:
        target.replay = _overheard_answer(target)
    sock = header(target)
    _read(sock, GREETING_SIZE)
    _send(sock, target.replay)
    return sock


def half_an_answer(target: Target) -> socket.socket:
    """Stop in the middle of the gate's exchange."""
    sock = header(target)
    _read(sock, GREETING_SIZE)
    _send(sock, os.urandom(ANSWER_SIZE // 2))
    return sock


def gate_only(target: Target) -> socket.socket:
    """Hold the secret, pass the gate, say nothing."""
    return connect(target.address, secret=target.secret, timeout=_TIMEOUT)


def half_a_line(target: Target) -> socket.socket:
    """Hold the secret, and stop in the middle of a worker's first line."""
    sock = gate_only(target)
    sock.sendall(target.hello[: len(target.hello) // 2])
    return sock


def client_hello_byte(target: Target) -> socket.socket:
    """Hold the secret, and send the first byte of a TLS handshake."""
    sock = gate_only(target)
    sock.sendall(b"\x16")
    return sock


def newcomer(target: Target) -> socket.socket:
    """Say what a worker says first."""
    sock = gate_only(target)
    sock.sendall(target.hello)
    return sock


def by_tcp(address: tuple[str, int], target: Target) -> socket.socket:
    """Say what a worker says first, to the manager's own TCP port."""
    sock = socket.create_connection(address, _TIMEOUT)
    sock.sendall(target.hello)
    return sock


def dying(client: Client, *, reset: bool) -> Client:
    """Return the client that is killed where it would have waited.

    The kernel closes a killed process's sockets; with bytes unread in them it resets the
    connection.
    """

    def die(target: Target) -> None:
        sock = client(target)
        assert sock is not None
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    return die


MIXED: list[Client] = [
    silent, one_byte, noise, header, header_and_noise, wrong_id, wrong_secret, replay,
    half_an_answer, gate_only,
]  # fmt: skip


def _overheard_answer(target: Target) -> bytes:
    sock = header(target)
    with sock:
        gate = GateClient(target.secret, target.sock_id, os.urandom(16))
        answer = gate.feed(_read(sock, GREETING_SIZE))
        sock.sendall(answer)
        gate.feed(_read(sock, MAC_SIZE))  # it was right
        return answer


def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionResetError("closed by the other side")
        data += more
    return data


def _send(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # refused already
        sock.sendall(data)
