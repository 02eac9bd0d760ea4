"""A local port behind which stands the manager: for programs that can only do TCP.

Plain copying between two sockets, a thread for each direction; an end of stream is
passed on as such, so a half-closed connection stays half-open.

While the manager cannot be reached, its client is kept: the relay dials again behind a
connection that stands, and what the client has said already waits there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Callable

from vine_sharedport.dialing.backoff import Backoff
from vine_sharedport.dialing.dial import failure_of
from vine_sharedport.dialing.race import verdict_of
from vine_sharedport.errors import (
    DialError,
    DialTimeout,
    HandOffError,
    LaunchError,
    SharedPortError,
    Verdict,
    WrongSecretError,
)
from vine_sharedport.wire.gate import MAGIC

__all__ = ["Relay", "carry", "no_thread"]

log = logging.getLogger(__name__)

_CHUNK = 1024 * 1024
_FIRST_PAUSE, _LAST_PAUSE = 0.5, 30.0
_SECOND_LOOK = 1.0  # at a manager that has refused our secret
# Connections in a row that the manager ends without a byte until that is no accident, such as
# its own end.
_TURNED_AWAY = 3
# How the kernel's table writes the first 12 bytes of ::ffff:a.b.c.d: words in host order.
_MAPPED = "".join(f"{word:08X}" for word in struct.unpack("=3I", bytes(10) + b"\xff\xff"))


class Relay:
    """Accept on a loopback port; connect each client onward and copy both ways.

    Owns its listener, its threads and every connection until ``close()``.

    Args:
        dial: Opens one connection to the far side, the relay's from then on. May raise
            ``SharedPortError``.
        time_limit: Seconds of failures in a row until the relay gives up; None for never.
            Only with ``gave_up``.
        proven: A connection that ``dial`` returns is one to the manager, as with a gate.
            Otherwise only its first bytes tell.
        gave_up: Called once, from a thread, with what no patience helps against:
            ``WrongSecretError`` (of a secret that was refused, the second);
            ``DialTimeout`` when the time limit is over, or ``HandOffError`` if the
            manager was there and took no connection.
            The client stays connected until ``close()``. None to go on for ever.
        turned_away: What to say, once, when the manager has closed several connections in
            a row without a byte: managers begin with some, to workers of their kind. Only
            with ``proven``.

    Raises:
        LaunchError: There is no thread to be had.
    """

    def __init__(
        self,
        dial: Callable[[], socket.socket],
        *,
        time_limit: float | None = None,
        proven: bool = False,
        gave_up: Callable[[SharedPortError], None] | None = None,
        turned_away: str | None = None,
    ) -> None:
        self._turned_away_says = turned_away
        self._turned_away = 0
        self._dial = dial
        self._proven = proven
        self._gave_up = gave_up
        self._backoff = Backoff(_FIRST_PAUSE, _LAST_PAUSE, time_limit)
        self._told: str | None = None  # why no connection came about, the last time
        self._was_reached = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._closing = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._serve, name="relay", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._listener.close()
            raise no_thread(error) from error

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
                _shut(sock, socket.SHUT_RDWR)  # wakes pauses, too

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                if self._closing.is_set():
                    return
                time.sleep(0.1)  # out of descriptors: they come back
                continue
            try:
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()
            except RuntimeError as error:
                log.warning("a connection is refused: %s", no_thread(error))
                near.close()

    def _carry(self, near: socket.socket) -> None:
        """Carry one connection from its start to its end."""
        with near:
            if not _is_ours(near):
                log.warning("refused a connection of another user of this machine")
                return
            with self._registered(near), _told():
                far = self._reach(near)
                if far is None:
                    return
                began = time.monotonic()
                with far, self._registered(far):
                    if self._proven and self._turned_away_says is None:
                        self._succeeded()
                        carry(near, far)
                    elif carry(near, far, failed=lambda why: self._lost(near, began, why)):
                        self._succeeded()

    def _lost(self, near: socket.socket, began: float, error: SharedPortError) -> None:
        """Say that a connection was of no use; of a manager's for sure, that it ended it."""
        if not self._proven:
            self._fail(near, began, error)
        elif not _has_left(near):  # by itself, having heard nothing yet
            self._turned_away += 1
            if self._turned_away == _TURNED_AWAY:
                log.warning("%s", self._turned_away_says)
            what = "the manager took the connection and closed it without a byte"
            self._fail(near, began, DialError(what, Verdict.UNANSWERED))

    def _reach(self, near: socket.socket) -> socket.socket | None:
        """Dial until somebody is there; None when ``near`` or our patience ends first."""
        wrong_secrets = 0
        while not (self._closing.is_set() or self._ended.is_set()):
            began = time.monotonic()
            try:
                return self._dial()
            except WrongSecretError as error:
                wrong_secrets += 1
                if self._gave_up is None:
                    self._fail(near, began, error)
                elif self._proven and wrong_secrets == 1:
                    # The manager may just be restarting, secret and all.
                    log.debug("%s; looking once more", error)
                    self._wait(near, _SECOND_LOOK)
                else:
                    self._give_up(error, near)
            except SharedPortError as error:
                wrong_secrets = 0
                self._fail(near, began, error)
            if _has_left(near):
                break
        return None

    def _fail(self, near: socket.socket, began: float, failure: SharedPortError) -> None:
        """Say why no connection came about, and let some time pass; or give up."""
        if self._closing.is_set() or self._ended.is_set():
            return
        pause, reason = self._backoff.failed(began), str(failure)
        with self._lock:
            is_new, self._told = reason != self._told, reason
        if pause is not None:
            left = self._backoff.left
            log.warning(
                "%s; trying again %s", reason if is_new else "still so",
                f"in {pause:.1f} s" if left is None else f"for {left:.0f} s more",
            )  # fmt: skip
            self._wait(near, pause)
        if pause is None or self._backoff.is_over:
            limit = self._backoff.limit
            # What the last attempt met was told then.
            at_last = f"; at last: {reason}" if pause is None and is_new else ""
            again = " again, and has most likely ended" if self._was_reached else ""
            what = f"the manager was not reached within {limit:g} s{again}{at_last}"
            verdict = verdict_of(failure)
            error: SharedPortError = DialTimeout(what, verdict)
            if verdict is Verdict.UNANSWERED:
                error = HandOffError(f"the manager took no connection for {limit:g} s")
            self._give_up(error, near)

    def _succeeded(self) -> None:
        self._backoff.succeeded()
        self._was_reached = True
        self._turned_away = 0
        with self._lock:
            self._told = None

    def _wait(self, near: socket.socket, seconds: float | None) -> None:
        """Wait so long, or until the client has gone or ``close()`` has ended it."""
        poll = select.poll()
        poll.register(near, select.POLLRDHUP)
        poll.poll(None if seconds is None else seconds * 1000)

    def _give_up(self, error: SharedPortError, near: socket.socket) -> None:
        """Tell of it, once, and keep the client until the relay is closed."""
        with self._lock:
            first = not self._ended.is_set() and not self._closing.is_set()
            self._ended.set()
        if first and self._gave_up is not None:
            self._gave_up(error)
            self._wait(near, None)

    @contextlib.contextmanager
    def _registered(self, sock: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open.add(sock)
            if self._closing.is_set():  # since before it was there
                _shut(sock, socket.SHUT_RDWR)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(sock)


def no_thread(error: RuntimeError) -> LaunchError:
    """Return what it means that a thread could not be started."""
    return LaunchError(
        f"{error}: this process has reached a limit of its memory or processes "
        "(ulimit -v, ulimit -u, or the job's memory); raise it"
    )


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Log what has ended a connection that could not be carried."""
    try:
        yield
    except LaunchError as error:
        log.warning("a connection is lost: %s", error)


def _has_left(near: socket.socket) -> bool:
    """Whether the client has ended its stream, be it behind bytes that nobody has read."""
    poll = select.poll()
    poll.register(near, select.POLLRDHUP)
    return bool(poll.poll(0))


def _is_ours(near: socket.socket) -> bool:
    """Whether the client is this user's, or root's.

    The relay's side of the gate is open: whoever gets in here is the worker. Read from
    the kernel's tables (proc(5)); where there are none, nothing is known and nobody
    refused.
    """
    host, port = near.getpeername()
    here_host, here_port = near.getsockname()
    wanted = [_table_form(host, port), _table_form(here_host, here_port)]
    # A worker with CCTOOLS_IP_MODE=IPV6 comes from an IPv6 socket (RFC 4291, 2.5.5.2).
    mapped = [_MAPPED + end for end in wanted]
    try:
        for name in ("tcp", "tcp6"):
            with open(f"/proc/self/net/{name}", encoding="ascii") as table:
                for line in table:
                    fields = line.split()
                    if fields[1:3] in (wanted, mapped):
                        return int(fields[7]) in (os.geteuid(), 0)
    except OSError:
        return True
    return True  # it has closed already


def _table_form(host: str, port: int) -> str:
    """Return an IPv4 address as the kernel's table writes it: the number in host order."""
    return f"{struct.unpack('=I', socket.inet_aton(host))[0]:08X}:{port:04X}"


def carry(
    near: socket.socket,
    far: socket.socket,
    *,
    failed: Callable[[SharedPortError], None] | None = None,
) -> int:
    """Copy both ways until both sides have ended; an end of stream is passed on as such.

    Args:
        near: A connected, blocking socket. Stays the caller's, as does ``far``.
        far: The other one.
        failed: Called, before ``near`` learns of it, with what it means when ``far``, a
            shared port, ends without a byte, or asks for a secret that we do not have.

    Returns:
        Bytes that came from ``far``; 0 when it failed.

    Raises:
        LaunchError: There is no thread to be had.
    """
    for sock in (near, far):
        # What comes in small pieces goes on so: the second of two would wait for the
        # first one's acknowledgement, which its receiver delays by 40 ms.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    there = threading.Thread(target=_send_on, args=(near, far), daemon=True)
    try:
        there.start()
    except RuntimeError as error:
        raise no_thread(error) from error
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


def _failure(far: socket.socket) -> SharedPortError | None:
    """Wait for the far side's first bytes, leaving them there; tell what is wrong with them."""
    try:
        first = far.recv(len(MAGIC), socket.MSG_PEEK)
    except OSError:
        first = b""
    return failure_of(first) if first in (b"", MAGIC) else None


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
