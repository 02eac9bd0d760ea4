"""The porter's loop in a thread, so that its intervals can be shortened."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vine_sharedport.link import porter
from vine_sharedport.link.counters import Counters
from vine_sharedport.link.porter import Settings

from . import helpers


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
        self.reason = ""
        self._porter = porter._Porter(
            Settings("vine_1", str(directory)), clients, control, self.counters
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.control.settimeout(10)
        self.ready = json.loads(self.control.recv(65536))["ready"]

    def _run(self) -> None:
        try:
            self._porter.run()
        except porter._ManagerGone as gone:
            self.reason = str(gone)

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
    assert inside.reason == "the manager has closed its end"
    assert not os.path.exists(inside.path)


def test_porter_ends_when_only_the_control_socket_is_closed(inside: InsidePorter) -> None:
    inside.control.close()
    inside.join()
    assert inside.reason == "the manager has gone"
    assert not os.path.exists(inside.path)
    inside.clients.close()
