"""The Unix socket named by a sock id, on which the shared port hands clients over.

Each connection from the shared port goes through the same states, and none of them
ever waits for another:

    HEADER       13 bytes, exactly SHARED_PORT_PASS_SOCK
    DESCRIPTOR   one byte that carries the client's TCP connection
    GATE         both sides prove that they hold the secret (``wire.gate``)
    HELD         until the client's first bytes are there
    ready        returned by ``poll()``

An ``Endpoint`` is driven by its owner's calls of ``poll()``; it has no thread. Its
``fileno()`` is readable whenever ``poll()`` has work, so it fits into another loop.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import stat
import time
from collections import Counter
from dataclasses import dataclass
from typing import Callable

from vine_sharedport import fdpass
from vine_sharedport.errors import (
    CedarError,
    EndpointError,
    GateError,
    HandOffError,
    HandOffTimeout,
)
from vine_sharedport.events import Crowded, Journal, SocketRemade
from vine_sharedport.keepalive import chosen_keepalive
from vine_sharedport.serving.counters import Refusal
from vine_sharedport.wire.gate import NONCE_SIZE, GateServer, GateState
from vine_sharedport.wire.handoff import PASS_SOCK_SIZE, decode_pass_sock
from vine_sharedport.wire.reserved_ids import check_own_sock_id

__all__ = ["MAX_DIRECTORY", "MAX_PATH", "Endpoint", "Limits", "is_served"]

log = logging.getLogger(__name__)

MAX_PATH = 107
"""Bytes of a Unix socket's path: sun_path has 108 with its NUL (unix(7))."""

MAX_DIRECTORY = 89
"""Bytes of DAEMON_SOCKET_DIR; HTCondor drops file sockets silently beyond
(``GetDaemonSocketDir`` in ``shared_port_endpoint.cpp``)."""

# Connections taken from the backlog between two looks at the others.
_BATCH = 256


@dataclass(frozen=True)
class Limits:
    """How long, in seconds, and how many an endpoint lets wait.

    Attributes:
        hand_off: From the shared port's connection to the descriptor it passes. Both
            come in one burst from a healthy daemon on this machine.
        gate: From the descriptor to the client's answer at the gate.
        first_bytes: From there to the client's first byte.
        pending: Connections that have not become ready; beyond, the oldest goes.
        backlog: Connections that have not been accepted; condor_shared_port does not wait
            and resets what comes beyond.
    """

    hand_off: float = 10.0
    gate: float = 30.0
    first_bytes: float = 30.0
    pending: int = 8192
    backlog: int = 4096


class _Arrival:
    """A connection of the shared port that has not yet passed its descriptor."""

    __slots__ = ("conn", "deadline", "header")

    def __init__(self, conn: socket.socket, deadline: float) -> None:
        self.conn = conn
        self.deadline = deadline
        self.header = b""


class _Held:
    """A client that has not yet proven itself, or has not yet said anything."""

    __slots__ = ("client", "deadline", "gate")

    def __init__(self, client: socket.socket, deadline: float, gate: GateServer | None) -> None:
        self.client = client
        self.deadline = deadline
        self.gate = gate


class Endpoint:
    """Serve under a sock id until ``close()``.

    Owns the listening socket and its file, and every connection until ``poll()``
    returns it.

    Args:
        sock_id: What stands behind ``sock=`` in the address.
        directory: HTCondor's ``DAEMON_SOCKET_DIR``.
        secret: What clients must hold, 32 bytes; None lets everybody in.
        limits: How long and how many may wait.
        keepalive: How the kernel probes a client that is silent, ``IDLE/INTERVAL/COUNT`` or
            ``off``, whoever has its socket later; None for what the environment says, else
            ``8/8/75``.
        clock: Monotonic seconds.

    Raises:
        SettingError: ``keepalive`` is none.
        EndpointError: The name or the directory cannot be used, or a living process
            serves this sock id.
    """

    def __init__(
        self,
        sock_id: str,
        directory: str,
        *,
        secret: bytes | None = None,
        limits: Limits | None = None,
        keepalive: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sock_id = check_own_sock_id(sock_id)
        self.path = _checked_path(directory, sock_id)
        self.refused: Counter[Refusal] = Counter()
        self._journal = Journal(log, clock=clock)
        self._limits = limits or Limits()
        self._keepalive = chosen_keepalive(keepalive)
        self._clock = clock
        self._arrivals: dict[int, _Arrival] = {}  # by descriptor, the oldest first
        self._secret = secret
        self._gated: dict[int, _Held] = {}
        self._held: dict[int, _Held] = {}
        self._accepting = True
        self._uids = {0, os.geteuid()}
        self._spare: int | None = None  # see _accept_batch
        try:
            self._epoll = select.epoll()
            self._listener = _listen(self.path, self._limits.backlog)
        except OSError as error:  # no descriptor is left
            raise EndpointError(
                f"cannot create the socket {self.path}: {error.strerror}"
            ) from error
        self._inode = os.stat(self.path).st_ino
        self._epoll.register(self._listener, select.EPOLLIN)

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return a descriptor that is readable when ``poll()`` has work."""
        return self._epoll.fileno()

    @property
    def pending(self) -> int:
        """Connections on their way that ``poll()`` has not returned."""
        return len(self._arrivals) + len(self._gated) + len(self._held)

    @property
    def next_deadline(self) -> float | None:
        """Monotonic time at which ``poll()`` has to drop something, if nothing comes."""
        # Each state has one length, so the oldest entry is the first to expire.
        deadlines = []
        if self._arrivals:
            deadlines.append(next(iter(self._arrivals.values())).deadline)
        if self._gated:
            deadlines.append(next(iter(self._gated.values())).deadline)
        if self._held:
            deadlines.append(next(iter(self._held.values())).deadline)
        return min(deadlines, default=None)

    def accept(self, timeout: float | None = None) -> socket.socket:
        """Wait for one client.

        Args:
            timeout: Seconds; None waits for ever.

        Returns:
            The client's TCP socket, blocking and close-on-exec, the caller's.

        Raises:
            HandOffTimeout: None became ready in time.
        """
        deadline = None if timeout is None else self._clock() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - self._clock())
            clients = self.poll(left, most=1)
            if clients:
                clients[0].setblocking(True)
                return clients[0]
            if left == 0.0:
                raise HandOffTimeout(f"no client came to {self.sock_id} within {timeout} s")

    def poll(
        self, timeout: float | None = 0.0, *, most: int | None = None
    ) -> list[socket.socket]:
        """Advance every connection by what has arrived for it.

        Args:
            timeout: Seconds to wait for anything at all; None waits for ever.
            most: Return at most this many clients; the others come with the next call.

        Returns:
            Clients whose first bytes have arrived, non-blocking and close-on-exec, the
            caller's from now on.
        """
        next_deadline = self.next_deadline
        if next_deadline is not None:
            due = max(0.0, next_deadline - self._clock())
            timeout = due if timeout is None else min(timeout, due)
        # Taken before the look, which sees all that has arrived by now: a connection is
        # judged by its own delay and never by how long its owner was away.
        now = self._clock()
        events = self._epoll.poll(timeout, self.pending + 1)
        # Newcomers last: they may cost the oldest its place, but not before it was looked at.
        listener = self._listener.fileno()
        events.sort(key=lambda event: event[0] == listener)
        ready: list[socket.socket] = []
        for fd, _ in events:
            if most is not None and len(ready) >= most:
                return ready  # epoll is level-triggered: what is left reports again
            if fd in self._arrivals:
                self._advance(self._arrivals[fd], ready)
            elif fd in self._gated:
                self._challenge(self._gated[fd], ready)
            elif fd in self._held:
                self._look(self._held[fd], ready)
            else:
                self._accept_batch(ready, most)
        self._expire(now)
        return ready

    def pause(self, paused: bool) -> None:
        """Leave new connections in the backlog, or take them again."""
        if paused == self._accepting:
            self._epoll.modify(self._listener, 0 if paused else select.EPOLLIN)
            self._accepting = not paused

    def keep_alive(self) -> None:
        """Renew the socket file's time, and make it again if it has vanished.

        ``condor_preen`` removes what is older than a day; HTCondor's own daemons touch
        theirs every 15 minutes (``SOCKET_ALIVE_TIMEOUT``).

        Raises:
            EndpointError: It has vanished and cannot be made again.
        """
        with contextlib.suppress(OSError):
            if os.stat(self.path).st_ino == self._inode:
                os.utime(self.path)
                return
        listener = _listen(self.path, self._limits.backlog)
        self._journal.record(SocketRemade(self.path))
        self._inode = os.stat(self.path).st_ino
        self._epoll.unregister(self._listener)
        self._listener.close()
        self._listener = listener
        self._epoll.register(self._listener, select.EPOLLIN if self._accepting else 0)

    def close(self) -> None:
        """Remove the socket file, if it is still ours, and drop what is pending. Idempotent."""
        if self._epoll.closed:
            return
        with contextlib.suppress(OSError):
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        self._epoll.close()
        self._listener.close()
        self._release_spare()
        for arrival in self._arrivals.values():
            arrival.conn.close()
        for held in (*self._gated.values(), *self._held.values()):
            held.client.close()
        self._arrivals.clear()
        self._gated.clear()
        self._held.clear()

    # ---- the states ----

    def _accept_batch(self, ready: list[socket.socket], most: int | None) -> None:
        for _ in range(_BATCH if most is None else most - len(ready)):
            try:
                # At the limit accept() fails and the connection waits, but the kernel drops
                # a descriptor that is handed over. So there is one to spare for each that
                # was accepted; its connection's own is free again with the next one.
                if self._spare is None:
                    self._spare = os.dup(self._listener.fileno())
                conn, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                # The oldest silent client makes room; without one the backlog holds.
                if not self._drop_oldest(Refusal.DESCRIPTORS):
                    self._journal.record(Crowded())
                return
            conn.setblocking(False)
            if fdpass.peer_credentials(conn).uid not in self._uids:
                self._refuse(conn, Refusal.FOREIGN_USER)
                continue
            arrival = _Arrival(conn, self._clock() + self._limits.hand_off)
            self._arrivals[conn.fileno()] = arrival
            self._epoll.register(conn, select.EPOLLIN)
            # A healthy daemon has sent everything by now.
            self._advance(arrival, ready)
            if self.pending > self._limits.pending:
                self._drop_oldest(Refusal.TOO_MANY)

    def _advance(self, arrival: _Arrival, ready: list[socket.socket]) -> None:
        """HEADER, DESCRIPTOR: read exactly what belongs to each."""
        conn = arrival.conn
        try:
            if len(arrival.header) < PASS_SOCK_SIZE:
                # Not one byte more: a recv() that runs on into the descriptor's byte
                # makes the kernel drop the descriptor, without any error.
                data = conn.recv(PASS_SOCK_SIZE - len(arrival.header))
                arrival.header += data
                if not data:
                    return self._end(arrival, Refusal.NOT_A_HAND_OFF)
                if len(arrival.header) < PASS_SOCK_SIZE:
                    return None
                decode_pass_sock(arrival.header)
            self._release_spare()
            data, fd = fdpass.receive_fd(conn)
        except BlockingIOError:
            return None
        except CedarError:
            return self._end(arrival, Refusal.NOT_A_HAND_OFF)
        except HandOffError:
            return self._end(arrival, Refusal.DESCRIPTORS)
        except OSError:
            return self._end(arrival, Refusal.NO_DESCRIPTOR)
        if fd is None:
            return self._end(arrival, Refusal.NO_DESCRIPTOR)
        # At once: the daemon keeps its copy of the client's connection until then, and
        # while it does, closing ours sends the client no end of stream.
        self._end(arrival, None)
        client = _as_tcp(fd)
        if client is None:
            self.refused[Refusal.NO_DESCRIPTOR] += 1
            return None
        self._epoll.register(client, select.EPOLLIN | select.EPOLLRDHUP)
        if self._secret is None:
            self._hold(client, ready)
        else:
            self._greet(client, self._secret)
        return None

    def _greet(self, client: socket.socket, secret: bytes) -> None:
        """Open the gate's exchange: the server speaks first."""
        gate = GateServer(secret, self.sock_id, os.urandom(NONCE_SIZE))
        gated = _Held(client, self._clock() + self._limits.gate, gate)
        self._gated[client.fileno()] = gated
        self._say(gated, gate.greeting())

    def _challenge(self, gated: _Held, ready: list[socket.socket]) -> None:
        """GATE: read the answer and not one byte more; the rest is the manager's."""
        assert gated.gate is not None
        client = gated.client
        try:
            while gated.gate.state is GateState.WAITING:
                data = client.recv(gated.gate.wanted)
                if not data:
                    return self._drop(gated, Refusal.CLOSED_EARLY)
                proof = gated.gate.feed(data)
        except BlockingIOError:
            return None
        except OSError:
            return self._drop(gated, Refusal.CLOSED_EARLY)
        except GateError:
            return self._drop(gated, Refusal.WRONG_SECRET)
        if self._say(gated, proof):
            del self._gated[client.fileno()]
            self._hold(client, ready)
        return None

    def _say(self, gated: _Held, data: bytes) -> bool:
        """Send the gate's few bytes, for which a new connection always has room."""
        with contextlib.suppress(OSError):
            if gated.client.send(data, socket.MSG_NOSIGNAL) == len(data):
                return True
        self._drop(gated, Refusal.CLOSED_EARLY)
        return False

    def _hold(self, client: socket.socket, ready: list[socket.socket]) -> None:
        held = _Held(client, self._clock() + self._limits.first_bytes, None)
        self._held[client.fileno()] = held
        self._look(held, ready)

    def _look(self, held: _Held, ready: list[socket.socket]) -> None:
        """HELD: let the client go once it has said something."""
        client = held.client
        try:
            said_something = bool(client.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return
        except OSError:
            said_something = False
        self._epoll.unregister(client)
        del self._held[client.fileno()]
        if said_something:
            if self._keepalive is not None:
                self._keepalive.apply(client)
            ready.append(client)
        else:
            self._refuse(client, Refusal.CLOSED_EARLY)

    def _release_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _end(self, arrival: _Arrival, reason: Refusal | None) -> None:
        """Close the shared port's connection."""
        del self._arrivals[arrival.conn.fileno()]
        self._epoll.unregister(arrival.conn)
        if reason is not None:
            self.refused[reason] += 1
        arrival.conn.close()

    def _refuse(self, sock: socket.socket, reason: Refusal) -> None:
        self.refused[reason] += 1
        log.debug("refused sock_id=%s reason=%s", self.sock_id, reason.value)
        sock.close()

    def _drop_oldest(self, reason: Refusal) -> bool:
        """Make room, at the cost of who has proven least; whether there was anybody."""
        for gated in self._gated.values():
            self._drop(gated, reason)
            return True
        for arrival in self._arrivals.values():
            self._end(arrival, reason)
            return True
        for held in self._held.values():
            self._drop(held, reason)
            return True
        return False

    def _drop(self, held: _Held, reason: Refusal) -> None:
        """Refuse a client that is gated or held."""
        fd = held.client.fileno()
        del (self._held if held.gate is None else self._gated)[fd]
        self._epoll.unregister(held.client)
        self._refuse(held.client, reason)

    def _expire(self, now: float) -> None:
        for arrival in list(self._arrivals.values()):
            if arrival.deadline > now:
                break
            self._end(arrival, Refusal.STALLED)
        for waiting, reason in (
            (self._gated, Refusal.GATE_TIMEOUT),
            (self._held, Refusal.SILENT),
        ):
            for held in list(waiting.values()):
                if held.deadline > now:
                    break
                self._drop(held, reason)


def _as_tcp(fd: int) -> socket.socket | None:
    """Return the passed descriptor as a non-blocking TCP socket; close anything else."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        return None
    is_tcp = (
        sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
    )
    if not is_tcp:
        sock.close()
        return None
    sock.setblocking(False)
    return sock


def _checked_path(directory: str, sock_id: str) -> str:
    """Return the socket's path, or say what keeps HTCondor from using it."""
    path = os.path.join(directory, sock_id)
    for what, value, limit in (
        ("directory", directory, MAX_DIRECTORY),
        ("socket path", path, MAX_PATH),
    ):
        size = len(os.fsencode(value))
        if size > limit:
            raise EndpointError(
                f"{what} is {size} bytes, the limit is {limit}: {value}; "
                "set DAEMON_SOCKET_DIR to a shorter directory"
            )
    try:
        mode = os.stat(directory).st_mode
    except OSError as error:
        raise EndpointError(f"socket directory {directory}: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise EndpointError(f"socket directory {directory} is not a directory")
    return path


def is_served(path: str) -> bool:
    """Whether a living process accepts connections on the socket file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:  # its backlog is full, so it lives
            return True
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except PermissionError as error:
            raise EndpointError(
                f"{path} belongs to another user; choose another sock id"
            ) from error
        except OSError as error:
            raise EndpointError(f"{path} is in the way: {error.strerror}; remove it") from error
        return True


def _listen(path: str, backlog: int) -> socket.socket:
    """Return a listening socket at the path, in place of one whose owner has died."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # The file takes its mode from the socket (unix(7)): there is no moment at which
        # others could connect.
        os.fchmod(sock.fileno(), 0o600)
        for attempt in (1, 2):
            try:
                sock.bind(path)
                # A umask may have taken our own rights away, too.
                os.chmod(path, 0o600)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or attempt == 2:
                    raise EndpointError(
                        f"cannot create the socket {path}: {error.strerror}"
                    ) from error
            if is_served(path):
                raise EndpointError(
                    f"sock id {os.path.basename(path)!r} is served by a living process "
                    f"({path}); close that manager or choose another name"
                )
            if not stat.S_ISSOCK(os.stat(path).st_mode):
                raise EndpointError(f"{path} exists and is no socket; remove it")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise EndpointError(f"cannot create the socket {path}: {error.strerror}") from error
    except BaseException:
        sock.close()
        raise
    return sock
