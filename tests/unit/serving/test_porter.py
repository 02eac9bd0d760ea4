"""The porter's loop in a thread, so that its intervals can be shortened."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import socket
import stat
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit import helpers
from vine_sharedport import fdpass
from vine_sharedport.serving import abstract_name, porter
from vine_sharedport.serving.counters import Counters, Gauge, Refusal
from vine_sharedport.serving.endpoint import Endpoint, Limits
from vine_sharedport.serving.porter import Settings
from vine_sharedport.wire.handoff import PASS_SOCK_SIZE


class InsidePorter:
    """The porter's loop in a thread."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "vine_1")
        self.counters = Counters()
        self.clients, clients = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.clients.settimeout(10)
        self._theirs = (clients, control)
        for sock in self._theirs:
            sock.setblocking(False)
        self.gone: porter._ManagerGone | None = None  # for which it has ended
        self._porter = porter._Porter(
            Settings("vine_1", str(directory)), clients, control, self.counters
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.control.settimeout(10)
        self.ready = json.loads(self.control.recv(65536))["ready"]

    def _run(self) -> None:
        try:
            self._porter.run()
        except porter._ManagerGone as gone:
            self.gone = gone

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.control.send(porter.STOP)
        self.join()

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._porter._epoll.close()
        os.close(self._porter._pidfd)
        self.counters.close()
        for sock in (self.clients, self.control, *self._theirs):
            sock.close()


@pytest.fixture(autouse=True)
def _no_htcondor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the porter see none of the pools that run on this machine."""
    monkeypatch.setattr(abstract_name, "_SOCKETS", os.devnull)


@pytest.fixture
def inside(short_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InsidePorter]:
    monkeypatch.setattr(porter, "_CHECK_FILE", 0.02)
    monkeypatch.setattr(porter, "_raise_descriptor_limit", lambda: 1024)
    made = InsidePorter(short_directory)
    yield made
    if made.clients.fileno() >= 0:
        made.stop()


def test_ready_message_tells_which_file_is_served(inside: InsidePorter) -> None:
    assert inside.ready == {"path": inside.path, "inode": os.stat(inside.path).st_ino}


def test_vanished_socket_file_is_made_again(inside: InsidePorter) -> None:
    os.unlink(inside.path)
    helpers.wait_until(lambda: os.path.exists(inside.path))
    assert stat.S_IMODE(os.stat(inside.path).st_mode) == 0o600
    with helpers.handed_off(inside.path, b"x"):
        assert inside.clients.recv(9) == porter.READY_MARK


def test_porter_goes_on_when_the_socket_file_cannot_be_made_again(
    inside: InsidePorter, short_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.unlink(inside.path)
    away = short_directory.with_name(short_directory.name + ".away")
    short_directory.rename(away)
    try:
        helpers.wait_until(lambda: "No such file or directory" in caplog.text)
    finally:
        away.rename(short_directory)
    helpers.wait_until(lambda: os.path.exists(inside.path))


def test_socket_file_is_kept_young(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(porter, "_CHECK_FILE", 0.02)
    monkeypatch.setattr(porter, "_KEEP_ALIVE", 0.02)
    monkeypatch.setattr(porter, "_raise_descriptor_limit", lambda: 1024)
    inside = InsidePorter(short_directory)
    try:
        os.utime(inside.path, (0, 0))
        helpers.wait_until(lambda: os.stat(inside.path).st_mtime > 0)
    finally:
        inside.stop()


def test_porter_ends_when_only_the_clients_socket_is_closed(inside: InsidePorter) -> None:
    inside.clients.close()
    inside.join()
    assert inside.gone is not None  # nobody has said stop, and its process lives
    assert not os.path.exists(inside.path)


def test_porter_ends_when_only_the_control_socket_is_closed(inside: InsidePorter) -> None:
    inside.control.close()
    inside.join()
    assert inside.gone is not None  # nobody has said stop, and its process lives
    assert not os.path.exists(inside.path)
    inside.clients.close()


def test_silent_clients_make_room_before_the_descriptors_are_used_up(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = fdpass.peer_credentials

    def late(conn: socket.socket) -> fdpass.Credentials:
        # A daemon is faster than the porter. Met in the midst of a hand-off, it would be the
        # one that has proven least, and go in the oldest client's place.
        helpers.wait_until(lambda: _queued(conn) == PASS_SOCK_SIZE + 1)
        return credentials(conn)

    monkeypatch.setattr(fdpass, "peer_credentials", late)
    # Four may be open; three of them for clients that have said nothing.
    monkeypatch.setattr(porter, "_raise_descriptor_limit", lambda: porter._RESERVED_FDS + 4)
    inside = InsidePorter(short_directory)
    try:
        with contextlib.ExitStack() as stack:
            clients = []
            for count in range(1, 4):
                clients.append(stack.enter_context(helpers.handed_off(inside.path)))
                helpers.wait_until(lambda n=count: inside.counters[Gauge.PENDING] == n)
            newcomer = stack.enter_context(helpers.handed_off(inside.path))
            # The oldest goes for it, and only that one.
            assert helpers.is_closed(clients[0])
            helpers.wait_until(lambda: inside.counters[Refusal.TOO_MANY] == 1)
            newcomer.sendall(b"x")
            assert inside.clients.recv(9) == porter.READY_MARK
            helpers.wait_until(lambda: inside.counters[Gauge.PENDING] == 2)
            assert inside.counters.refused() == {Refusal.TOO_MANY.value: 1}
    finally:
        inside.stop()


def _queued(sock: socket.socket) -> int:
    """Return how many bytes are there to be read."""
    count = fcntl.ioctl(sock, termios.FIONREAD, bytes(4))
    return int.from_bytes(count, sys.byteorder)


def test_what_may_wait_fits_the_descriptor_limit(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full backlog and a full queue together could otherwise stop each other for good."""
    given = []

    def watched(*args: Any, limits: Limits, **kwargs: Any) -> Endpoint:
        given.append(limits)
        return Endpoint(*args, limits=limits, **kwargs)

    monkeypatch.setattr(porter, "Endpoint", watched)
    for limit in (100, 1_000_000):
        monkeypatch.setattr(
            porter, "_raise_descriptor_limit", lambda n=limit: porter._RESERVED_FDS + n
        )
        InsidePorter(short_directory).stop()
    assert [(limits.backlog, limits.pending) for limits in given] == [(50, 75), (4096, 8192)]


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Let the kernel refuse to send descriptors until the list is cleared; time each try."""
    tries = [0.0]
    send_fd = fdpass.send_fd

    def refuse(conn: socket.socket, fd: int, data: bytes) -> None:
        if not tries:
            return send_fd(conn, fd, data)
        tries.append(time.monotonic())
        raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))

    monkeypatch.setattr(porter.fdpass, "send_fd", refuse)
    yield tries
    tries.clear()


def test_client_waits_while_too_many_descriptors_of_the_user_are_under_way(
    inside: InsidePorter, crowded: list[float]
) -> None:
    with helpers.handed_off(inside.path, b"x"):
        helpers.wait_until(lambda: len(crowded) > 10)
        # It tries again now and then; it does not spin.
        assert crowded[10] - crowded[1] > 0.1
        assert inside.counters[Gauge.READY] == 1
        crowded.clear()
        assert inside.clients.recv(9) == porter.READY_MARK
    helpers.wait_until(lambda: inside.counters[Gauge.READY] == 0)
    assert inside.counters.refused() == {}


def test_porter_with_all_it_may_hold_leaves_newcomers_in_the_backlog(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch, crowded: list[float]
) -> None:
    monkeypatch.setattr(porter, "_raise_descriptor_limit", lambda: porter._RESERVED_FDS + 3)
    inside = InsidePorter(short_directory)
    try:
        with contextlib.ExitStack() as stack:
            for count in range(1, 4):
                stack.enter_context(helpers.handed_off(inside.path, b"x"))
                helpers.wait_until(lambda n=count: inside.counters[Gauge.READY] == n)
            client, server = helpers.tcp_pair()
            stack.enter_context(client).sendall(b"x")
            waiting = stack.enter_context(helpers.hand_off(inside.path, server))
            # The porter would close it as soon as it had the descriptor.
            assert not select.select([waiting], [], [], 0.1)[0]
            crowded.clear()
            assert helpers.is_closed(waiting)
            for _ in range(4):
                assert inside.clients.recv(9) == porter.READY_MARK
            assert inside.counters.refused() == {}
    finally:
        inside.stop()
