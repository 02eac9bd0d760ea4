"""The client's way in: from an address to a connected socket."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import Any

from vine_sharedport.errors import DialError, DialTimeout, GateError, SinfulError
from vine_sharedport.wire.gate import NONCE_SIZE, GateClient, GateState
from vine_sharedport.wire.handoff import encode_connect
from vine_sharedport.wire.sinful import Sinful

__all__ = ["NOBODY_THERE", "candidates", "connect"]

NOBODY_THERE = (
    "the shared port closed the connection without a byte: no manager serves this sock id "
    "(any more), or it is too busy"
)


def connect(
    address: Sinful | str,
    *,
    secret: bytes | None = None,
    timeout: float = 30.0,
    client_name: str | None = None,
) -> socket.socket:
    """Connect to whoever serves under the address's sock id.

    Opens TCP to the shared port, trying the address's candidates in order, and sends
    the CONNECT message. There is no reply: that nobody serves under the sock id shows
    only in the connection's being closed.

    Args:
        address: For example ``<192.0.2.7:9618?sock=vine_42>``. Without ``sock`` the
            connection is plain TCP.
        secret: What a manager with a gate asks for, 32 bytes; None for one without.
        timeout: Seconds for all candidates together, the gate included.
        client_name: How we call ourselves in the daemon's log; the process by default.

    Returns:
        The connected socket, blocking and close-on-exec, the caller's.

    Raises:
        SinfulError: The text is no address.
        DialError: No candidate could be reached; the message names each and why.
        DialTimeout: The time was over first.
        GateError: The manager has another secret, or no gate.

    Source: CEDAR 3.3; ``SharedPortClient`` in HTCondor.
    """
    sinful = Sinful.parse(address) if isinstance(address, str) else address
    name = client_name or f"vine_sharedport {os.getpid()}"
    name = "".join(c if " " <= c <= "~" else "?" for c in name[:200])  # for the daemon's log
    deadline = time.monotonic() + timeout
    left = candidates(sinful)
    if not left:
        raise SinfulError(f"the address {sinful} names no port to connect to")
    failures: list[str] = []
    while left:
        # An unreachable first candidate must leave time for the others.
        share = max(0.0, deadline - time.monotonic()) / len(left)
        host, port = left.pop(0)
        try:
            sock = _open(host, port, share)
        except OSError as error:
            failures.append(f"{host} port {port}: {_reason(error)}")
            continue
        try:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            if sinful.sock is not None:
                whole_seconds = max(1, round(deadline - time.monotonic()))
                # One write: daemons before 24.12.16 may drop a connection whose first
                # bytes arrive in pieces (HTCONDOR-3420).
                sock.sendall(encode_connect(sinful.sock, name, timeout=whole_seconds))
                if secret is not None:
                    _pass_gate(sock, secret, sinful.sock, deadline)
            sock.settimeout(None)
        except OSError as error:
            sock.close()
            failures.append(f"{host} port {port}: {_reason(error)}")
            continue
        except BaseException:
            sock.close()
            raise
        return sock
    kind = DialTimeout if time.monotonic() >= deadline else DialError
    raise kind(f"cannot reach {sinful}: " + "; ".join(failures))


def _pass_gate(sock: socket.socket, secret: bytes, sock_id: str, deadline: float) -> None:
    """Prove that we hold the secret, and let the server prove that it does."""
    gate = GateClient(secret, sock_id, os.urandom(NONCE_SIZE))
    while gate.state is GateState.WAITING:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        data = sock.recv(gate.wanted)
        if data:
            answer = gate.feed(data)
            if answer:
                sock.sendall(answer)
        elif gate.greeted:
            raise GateError(
                f"the manager {sock_id} closed the connection at its gate: it has another "
                "secret than this worker; submit new workers, or send them the present file"
            )
        else:
            raise ConnectionResetError(errno.ECONNRESET, NOBODY_THERE)


def candidates(address: Sinful) -> list[tuple[str, int]]:
    """Return the (host, port) pairs to try, the most specific first, each once."""
    pairs = list(address.addrs)
    if address.port is not None:
        pairs.append((address.host, address.port))
        if address.alias:
            pairs.append((address.alias, address.port))
    return list(dict.fromkeys(pairs))


def _open(host: str, port: int, timeout: float) -> socket.socket:
    # create_connection() would give each address of a name the whole time.
    deadline = time.monotonic() + timeout
    left = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    while True:
        share = max(0.001, (deadline - time.monotonic()) / len(left))
        family, kind, protocol, _, where = left.pop(0)
        try:
            return _open_one(socket.socket(family, kind, protocol), where, share)
        except OSError:
            if not left:
                raise


def _open_one(sock: socket.socket, where: Any, timeout: float) -> socket.socket:
    try:
        sock.settimeout(timeout)
        sock.connect(where)
        # Small messages go back and forth, and NAT boxes forget silent connections.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(error: OSError) -> str:
    if isinstance(error, socket.timeout):  # not TimeoutError before Python 3.10
        return "no answer in time"
    return error.strerror or str(error)
