"""A local port behind which stands the manager: for programs that can only do TCP.

Plain copying between two sockets, a thread for each direction; an end of stream is
passed on as such, so a half-closed connection stays half-open.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Callable

from vine_sharedport.errors import SharedPortError
from vine_sharedport.link.dial import NOBODY_THERE
from vine_sharedport.wire.gate import MAGIC

__all__ = ["Relay", "carry"]

log = logging.getLogger(__name__)

_CHUNK = 256 * 1024
_FIRST_PAUSE, _LAST_PAUSE = 0.5, 30.0


class Relay:
    """Accept on a loopback port; connect each client onward and copy both ways.

    Owns its listener, its threads and every connection until ``close()``.

    Args:
        dial: Opens one connection to the far side, the relay's from then on. May raise
            ``SharedPortError``.
    """

    def __init__(self, dial: Callable[[], socket.socket]) -> None:
        self._dial = dial
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._pause = _FIRST_PAUSE
        self._thread = threading.Thread(target=self._serve, name="relay", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The loopback port to connect to."""
        port: int = self._listener.getsockname()[1]
        return port

    def close(self) -> None:
        """Stop accepting and end every connection. Idempotent."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._thread.join()
        self._listener.close()
        with self._lock:
            for sock in self._open:
                _shut(sock, socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                if self._closing.is_set():
                    return
                time.sleep(0.1)  # out of descriptors: they come back
                continue
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        """Carry one connection from its start to its end."""
        with near:
            if not _is_ours(near):
                log.warning("refused a connection of another user of this machine")
                return
            try:
                far = self._dial()
            except SharedPortError as error:
                log.warning("%s", error)
                self._hold_back()
                return
            with far, self._registered(near, far):
                if carry(near, far, failed=self._explain):
                    self._pause = _FIRST_PAUSE

    def _explain(self, reason: str) -> None:
        """Say why no connection came about, and wait a little."""
        if not self._closing.is_set():
            log.warning("%s; trying again", reason)
            self._hold_back()

    def _hold_back(self) -> None:
        """Let some time pass before the client learns of a failure and comes again.

        TCP to a shared port always succeeds, so a client's own back-off never starts.
        """
        pause = self._pause * random.uniform(0.5, 1.0)
        self._pause = min(2 * self._pause, _LAST_PAUSE)
        self._closing.wait(pause)

    @contextlib.contextmanager
    def _registered(self, *socks: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open.update(socks)
            if self._closing.is_set():  # since before the far side was there
                for sock in socks:
                    _shut(sock, socket.SHUT_RDWR)
        try:
            yield
        finally:
            with self._lock:
                self._open.difference_update(socks)


def _is_ours(near: socket.socket) -> bool:
    """Whether the client is this user's, or root's.

    The relay's side of the gate is open: whoever gets in here is the worker. Read from
    the kernel's table (proc(5)); where there is none, nothing is known and nobody refused.
    """
    host, port = near.getpeername()
    here_host, here_port = near.getsockname()
    wanted = [_table_form(host, port), _table_form(here_host, here_port)]
    try:
        with open("/proc/self/net/tcp", encoding="ascii") as table:
            for line in table:
                fields = line.split()
                if fields[1:3] == wanted:
                    return int(fields[7]) in (os.geteuid(), 0)
    except OSError:
        return True
    return True  # it has closed already


def _table_form(host: str, port: int) -> str:
    """Return an IPv4 address as the kernel's table writes it: the number in host order."""
    return f"{struct.unpack('=I', socket.inet_aton(host))[0]:08X}:{port:04X}"


def carry(
    near: socket.socket, far: socket.socket, *, failed: Callable[[str], None] | None = None
) -> int:
    """Copy both ways until both sides have ended; an end of stream is passed on as such.

    Args:
        near: A connected, blocking socket. Stays the caller's, as does ``far``.
        far: The other one.
        failed: Called, before ``near`` learns of it, with what it means when ``far``, a
            shared port, ends without a byte, or asks for a secret that we do not have.

    Returns:
        Bytes that came from ``far``; 0 when it failed.
    """
    for sock in (near, far):
        # What comes in small pieces goes on so: the second of two would wait for the
        # first one's acknowledgement, which its receiver delays by 40 ms.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    there = threading.Thread(target=_send_on, args=(near, far), daemon=True)
    there.start()
    received = 0
    if failed is not None and (failure := _failure(far)) is not None:
        failed(failure)
        _shut(near, socket.SHUT_RDWR)
        _shut(far, socket.SHUT_RDWR)
    else:
        received, ended_well = _pump(far, near)
        _shut(near, socket.SHUT_WR if ended_well else socket.SHUT_RDWR)
        if not ended_well:
            _reset_on_close(near, far)
            _shut(far, socket.SHUT_RDWR)
    there.join()
    return received


def _failure(far: socket.socket) -> str | None:
    """Wait for the far side's first bytes, leaving them there; tell what is wrong with them."""
    try:
        first = far.recv(len(MAGIC), socket.MSG_PEEK)
    except OSError:
        first = b""
    if not first:
        return NOBODY_THERE
    if first == MAGIC:
        return (
            "the manager asks for its secret, and this worker has none: give --secret-file "
            "with a copy of the file that manager.shared_port.secret_file names"
        )
    return None


def _send_on(near: socket.socket, far: socket.socket) -> None:
    """Copy until the near side ends, then end the far side's stream."""
    _, ended_well = _pump(near, far)
    if not ended_well:
        _reset_on_close(near, far)
    # If either broke, the other direction learns of it by the far side's end. It tells
    # the near side, in its own time.
    _shut(far, socket.SHUT_WR if ended_well else socket.SHUT_RDWR)


def _pump(source: socket.socket, sink: socket.socket) -> tuple[int, bool]:
    """Copy until the source ends or either breaks; return the bytes copied, and which."""
    copied = 0
    buffer = memoryview(bytearray(_CHUNK))
    try:
        while True:
            size = source.recv_into(buffer)
            if not size:
                return copied, True
            sink.sendall(buffer[:size])
            copied += size
    except OSError:
        return copied, False


def _reset_on_close(*socks: socket.socket) -> None:
    """Pass a break on as such.

    A sender that waits for room hears nothing of a quiet end: its probes of the window
    are answered for a minute more (FIN-WAIT-2) as if there were somebody.
    """
    for sock in socks:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _shut(sock: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(how)
