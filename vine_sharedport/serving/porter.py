"""The porter: a small process beside the manager that takes hand-offs at any moment.

The manager's interpreter is frozen while it waits for tasks (the bindings keep the
GIL), and its loop may be away for minutes, but condor_shared_port resets whatever finds
the endpoint's backlog full. So a process of its own drains the endpoint, holds each
client back until its first bytes are there, and passes the client's TCP socket on over
a socket pair, as fast as the manager takes them. It never reads a byte of a workflow.

It ends with the manager, however that ends: by the word ``stop``, when the pair's other
end has closed, or when the manager's process is gone. It ignores the terminal's Ctrl-C.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from vine_sharedport import fdpass
from vine_sharedport.errors import EndpointError
from vine_sharedport.events import (
    Closed,
    Dropped,
    Ending,
    HandOff,
    Journal,
    Listening,
    NotListening,
    Refused,
)
from vine_sharedport.serving.abstract_name import AbstractName
from vine_sharedport.serving.counters import Counters, Gauge, Refusal, describe_refused
from vine_sharedport.serving.endpoint import Endpoint, Limits
from vine_sharedport.supervision import open_pidfd

__all__ = ["READY_MARK", "STOP", "Settings", "main"]

log = logging.getLogger("vine_sharedport.porter")
_journal = Journal(log)

STOP = b"stop"
READY_MARK = b"c"
"""The byte that carries a client to the manager."""

_KEEP_ALIVE = 15 * 60.0  # HTCondor's own interval for touching its sockets
_CHECK_FILE = 10.0  # a vanished socket file loses every new worker, so look often
_CHECK_PARENT = 1.0  # only where the kernel has no pidfd (before Linux 5.3)
_RESERVED_FDS = 64
_RETRY_CROWDED = 0.05
_MAX_LOG = 1 << 20  # then it becomes FILE.1, in the place of the one before
# How workers begin (vine_worker.c, work_queue_worker.c), and how questions do, an HTTP
# request among them (vine_manager.c, work_queue.c). With TLS or a password all begin alike.
_WORKER_WORDS = (b"taskvine ", b"workqueue ")
_QUERY_WORDS = re.compile(rb"(manager|queue|worker|task|wable|resources)_status\n|GET ")
# struct timeval of 1.5 s: more than a round trip around the earth takes, and so short
# that the manager's other workers do not feel it.
_HANDSHAKE_TIMEOUT = struct.pack("@ll", 1, 500_000)


@dataclass(frozen=True)
class Settings:
    """What the manager tells its porter at the start.

    Attributes:
        sock_id: Name of the endpoint.
        directory: ``DAEMON_SOCKET_DIR``.
        log_file: Absolute path, or None for no log.
        delay: Seconds to wait before serving (a porter that died again and again).
        persist: Go on trying when the endpoint cannot be made, instead of ending with
            the error: set for every porter but a manager's first.
        limits: Bounds of the endpoint.
        secret: What clients must hold, as hexadecimal text; None lets everybody in.
        relay_port: Loopback TCP port to which clients are relayed, for a manager that
            cannot take descriptors; None hands them over.
        keepalive: How silent clients are probed, as ``Endpoint`` takes it.
        owners: Uids of HTCondor's daemons, beside root and this user.
        manager_pid: Process to end with; the one that writes these settings.
    """

    sock_id: str
    directory: str
    log_file: str | None = None
    delay: float = 0.0
    persist: bool = False
    limits: Limits = field(default_factory=Limits)
    secret: str | None = field(default=None, repr=False)  # never in a log
    relay_port: int | None = None
    keepalive: str | None = None
    owners: list[int] = field(default_factory=list)
    manager_pid: int = field(default_factory=os.getpid)

    def encode(self) -> bytes:
        """Return the settings as one message."""
        content = dict(self.__dict__, limits=self.limits.__dict__)
        return json.dumps(content).encode()

    @classmethod
    def decode(cls, message: bytes) -> Settings:
        """Read what ``encode`` wrote."""
        content = json.loads(message)
        return cls(**dict(content, limits=Limits(**content["limits"])))


class _ManagerGone(Exception):
    """The manager has ended, or wants the porter to end."""


class _Porter:
    """Moves ready clients from the endpoint to the manager.

    Owns everything it is given, and the clients until they are sent.
    """

    def __init__(
        self,
        settings: Settings,
        clients: socket.socket,
        control: socket.socket,
        counters: Counters,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._control = control
        self._counters = counters
        self._queue: deque[socket.socket] = deque()
        self._epoll = select.epoll()
        self._epoll.register(control, select.EPOLLIN)
        try:
            self._pidfd = open_pidfd(settings.manager_pid)
        except ProcessLookupError as error:
            raise _ManagerGone("the manager's process has ended") from error
        if self._pidfd is not None:
            self._epoll.register(self._pidfd, select.EPOLLIN)
        # Nothing to read there; EPOLLHUP comes by itself when the manager closes its end.
        self._epoll.register(clients, 0)
        self._max_fds = _raise_descriptor_limit() - _RESERVED_FDS
        self._crowded = False
        self._taken_before = counters[Gauge.NAME_TAKEN_SO_FAR]  # in the porters before this one
        self._seen: dict[Refusal, int] = {reason: counters[reason] for reason in Refusal}

    def run(self) -> None:
        """Serve until the manager is gone."""
        self._sleep(self._settings.delay)
        endpoint = self._make_endpoint()
        if endpoint is None:
            return
        name = AbstractName(self._settings.sock_id, self._settings.owners)
        try:
            name.first_look()
            self._count_names(name)
            self._epoll.register(endpoint.fileno(), select.EPOLLIN)
            inode = os.stat(endpoint.path).st_ino
            self._say({"ready": {"path": endpoint.path, "inode": inode}})
            _journal.record(Listening(endpoint.sock_id, endpoint.path))
            self._serve(endpoint, name)
        finally:
            name.close()
            endpoint.close()
            refused = describe_refused(self._counters.refused())
            _journal.record(Closed(endpoint.sock_id, refused))

    def _make_endpoint(self) -> Endpoint | None:
        """Open the endpoint; None after having reported that it cannot be opened."""
        settings, pause = self._settings, 0.5
        # Descriptors in the backlog are under way, too. If this user's were as many as we
        # may have open, nothing could be sent, and with the queue full nothing accepted.
        backlog = max(1, min(settings.limits.backlog, self._max_fds // 2))
        # Below the limit at which nothing more is accepted: silent strangers are dropped
        # for those who come, and cannot keep them out.
        pending = max(1, min(settings.limits.pending, self._max_fds * 3 // 4))
        while True:
            try:
                return Endpoint(
                    settings.sock_id,
                    settings.directory,
                    secret=bytes.fromhex(settings.secret) if settings.secret else None,
                    limits=replace(settings.limits, backlog=backlog, pending=pending),
                    keepalive=settings.keepalive,
                )
            except EndpointError as error:
                if not settings.persist:
                    self._say({"error": str(error)})
                    return None
                _journal.record(NotListening(str(error), pause))
                self._sleep(pause)
                pause = min(2 * pause, 30.0)

    def _sleep(self, seconds: float) -> None:
        """Wait, but end with the manager."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for event in self._epoll.poll(
                max(0.0, min(_CHECK_PARENT, until - time.monotonic()))
            ):
                self._check_manager(*event)
            self._check_parent()

    def _serve(self, endpoint: Endpoint, name: AbstractName) -> None:
        next_touch = time.monotonic() + _KEEP_ALIVE
        next_check = time.monotonic() + _CHECK_FILE
        while True:
            for event in self._epoll.poll(self._timeout(endpoint, next_check, name.due)):
                self._check_manager(*event)
            self._queue.extend(endpoint.poll(0.0))
            if self._settings.relay_port is None:
                self._send_ready()
            else:
                self._relay_ready(self._settings.relay_port)
            self._count(endpoint)
            self._check_parent()
            now = time.monotonic()
            if now >= name.due:
                name.step()
                self._count_names(name)
            if now >= next_check:
                next_check = now + _CHECK_FILE
                if now >= next_touch or not os.path.exists(endpoint.path):
                    next_touch = now + _KEEP_ALIVE
                    try:
                        endpoint.keep_alive()
                    except EndpointError as error:
                        _journal.record(NotListening(str(error), _CHECK_FILE))

    def _timeout(self, endpoint: Endpoint, *due: float) -> float:
        deadlines = [*due]
        if endpoint.next_deadline is not None:
            deadlines.append(endpoint.next_deadline)
        timeout = max(0.0, min(deadlines) - time.monotonic())
        if self._crowded:
            timeout = min(timeout, _RETRY_CROWDED)
        if self._pidfd is None:
            timeout = min(timeout, _CHECK_PARENT)
        return timeout

    def _send_ready(self) -> None:
        """Hand on as many clients as the manager's end takes now."""
        full = self._crowded = False
        while self._queue and not full and not self._crowded:
            began = _first_bytes(self._queue[0])
            try:
                _bound_blocking(self._queue[0])
                fdpass.send_fd(self._clients, self._queue[0].fileno(), READY_MARK)
            except BlockingIOError:
                full = True
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:
                    raise _ManagerGone(error.strerror) from error
                # Too many of this user's descriptors are under way (unix(7)); no event
                # tells when there are fewer.
                self._crowded = True
            else:
                self._queue.popleft().close()
                self._count_client(began)
        self._epoll.modify(self._clients, select.EPOLLOUT if full else 0)

    def _relay_ready(self, port: int) -> None:
        """Carry clients to the manager's TCP port, each by a thread of its own."""
        while self._queue:
            client = self._queue.popleft()
            began = _first_bytes(client)
            client.setblocking(True)
            carrier = threading.Thread(target=_relay, args=(client, port), daemon=True)
            try:
                carrier.start()
            except RuntimeError as error:  # the limit of processes and threads (ulimit -u)
                _journal.record(Dropped(str(error)))
                client.close()
            else:
                self._count_client(began)

    def _count_client(self, began: bytes) -> None:
        self._counters[Gauge.HANDED_OVER] += 1
        if began.startswith(_WORKER_WORDS):
            self._counters[Gauge.WORKERS] += 1
        elif _QUERY_WORDS.match(began):
            self._counters[Gauge.QUERIES] += 1
        _journal.record(HandOff(self._settings.sock_id))

    def _count(self, endpoint: Endpoint) -> None:
        self._counters[Gauge.PENDING] = endpoint.pending
        self._counters[Gauge.READY] = len(self._queue)
        for reason, count in endpoint.refused.items():
            total = self._seen[reason] + count
            if total != self._counters[reason]:
                _journal.record(Refused(reason, total - self._counters[reason]))
                self._counters[reason] = total
        endpoint.pause(endpoint.pending + len(self._queue) >= self._max_fds)

    def _count_names(self, name: AbstractName) -> None:
        self._counters[Gauge.NAMES_HELD] = name.held
        self._counters[Gauge.NAME_TAKEN] = name.taken
        self._counters[Gauge.NAME_TAKEN_SO_FAR] = self._taken_before + name.taken_so_far

    def _check_manager(self, fd: int, mask: int) -> None:
        if fd == self._clients.fileno() and mask & ~select.EPOLLOUT:
            raise _ManagerGone("the manager has closed its end")
        if fd == self._control.fileno():
            try:
                word = self._control.recv(64)
            except BlockingIOError:
                return
            except OSError:  # closed with something of ours unread
                word = b""
            raise _ManagerGone("asked to stop" if word == STOP else "the manager has gone")
        if fd == self._pidfd:
            raise _ManagerGone("the manager's process has ended")

    def _check_parent(self) -> None:
        if self._pidfd is None and os.getppid() != self._settings.manager_pid:
            raise _ManagerGone("the manager's process has ended")

    def _say(self, content: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._control.send(json.dumps(content).encode())


def _relay(client: socket.socket, port: int) -> None:
    """Copy between a client and the manager's port until both have ended."""
    from vine_sharedport.dialing.relay import carry  # much that most porters do not need

    with client:
        try:
            manager = socket.create_connection(("127.0.0.1", port))
        except OSError as error:
            _journal.record(Dropped(f"cannot reach the manager's TCP port {port}: {error}"))
            return
        with manager:
            carry(client, manager)


def _first_bytes(client: socket.socket) -> bytes:
    """Return how a client that has said something begins; it stays unread."""
    with contextlib.suppress(OSError):
        return client.recv(32, socket.MSG_PEEK)
    return b""


def _bound_blocking(client: socket.socket) -> None:
    """Bound the time for which one read or write of the manager can block.

    With TLS the manager's handshake is blocking, and a client that stalls in it would
    hold the whole manager without limit. Non-blocking calls, all others, do not feel it.
    """
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        client.setsockopt(socket.SOL_SOCKET, option, _HANDSHAKE_TIMEOUT)


def _raise_descriptor_limit() -> int:
    """Lift the soft limit to the hard one; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 1_048_576  # fs.nr_open's default
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def main() -> None:
    """Run a porter; the last arguments are its descriptors: clients, control, counters."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # What `ps` shows; only a convenience.
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write("vine_porter")
    clients_fd, control_fd, counters_fd = (int(text) for text in sys.argv[-3:])
    clients, control = socket.socket(fileno=clients_fd), socket.socket(fileno=control_fd)
    settings = Settings.decode(control.recv(65536))
    clients.setblocking(False)
    control.setblocking(False)
    if settings.log_file:
        # Workers come in without a log, too.
        with contextlib.suppress(OSError):
            from logging.handlers import RotatingFileHandler

            logging.basicConfig(
                handlers=[RotatingFileHandler(settings.log_file, "a", _MAX_LOG, 1)],
                level=logging.INFO,
                format="%(asctime)s porter[%(process)d] %(levelname)s %(message)s",
            )
    try:
        _Porter(settings, clients, control, Counters(counters_fd)).run()
    except _ManagerGone as reason:
        _journal.record(Ending(str(reason)))
    except Exception:
        log.exception("the porter failed; the manager starts another")
        raise
