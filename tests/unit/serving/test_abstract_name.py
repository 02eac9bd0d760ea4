"""The abstract name is kept from others, among as many false cookies as there may be."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit import helpers
from vine_sharedport.serving import abstract_name
from vine_sharedport.serving.abstract_name import AbstractName, find_owners, owner_of

SOCK_ID = "sweep"


def _bound(name: str, *, backlog: int | None = 8) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind("\0" + name)
    except OSError:
        sock.close()
        raise
    if backlog is not None:
        sock.listen(backlog)
    return sock


def _inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def _is_free(name: str) -> bool:
    with contextlib.suppress(OSError):
        _bound(name, backlog=None).close()
        return True
    return False


@pytest.fixture
def sock_id() -> str:
    """Return a name that no other process of the tests has."""
    return f"t_{secrets.token_hex(8)}"


@pytest.fixture
def cookie() -> str:
    return secrets.token_hex(32)


@pytest.fixture
def daemon(cookie: str) -> Iterator[socket.socket]:
    """Listen as one of HTCondor's daemons does."""
    with _bound(f"{cookie}/collector") as sock:
        yield sock


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a file in the place of the kernel's table, in which nothing stands yet."""
    path = tmp_path / "unix"
    path.write_bytes(b"")
    return path


def _line(name: str, inode: int, *, listens: bool = True) -> str:
    flags = "00010000" if listens else "00000000"
    return f"00000000d5c9dd19: 00000002 00000000 {flags} 0001 01 {inode} @{name}\n"


@contextlib.contextmanager
def _holding(sock_id: str, **kwargs: object) -> Iterator[AbstractName]:
    name = AbstractName(sock_id, **kwargs)  # type: ignore[arg-type]
    try:
        name.first_look(10)
        yield name
    finally:
        name.close()


def _step_until(name: AbstractName, what: object, *, timeout: float = 10.0) -> None:
    def reached() -> bool:
        if time.monotonic() >= name.due:
            name.step()
        return bool(what())  # type: ignore[operator]

    helpers.wait_until(reached, timeout=timeout)


def test_name_is_held_and_refuses_connections(
    cookie: str, daemon: socket.socket, sock_id: str
) -> None:
    with _holding(sock_id) as name:
        assert name.held >= 1
        assert not _is_free(f"{cookie}/{sock_id}")
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
            client.connect(f"\0{cookie}/{sock_id}")
    assert _is_free(f"{cookie}/{sock_id}")


def test_cookie_of_another_user_is_not_held(
    cookie: str, daemon: socket.socket, sock_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    with _holding(sock_id) as name:
        assert _is_free(f"{cookie}/{sock_id}")
        assert (name.held, name.taken) == (0, 0)
    with _holding(sock_id, owners=[os.getuid()]):
        assert not _is_free(f"{cookie}/{sock_id}")


def test_new_cookie_is_found_within_five_seconds(cookie: str, sock_id: str) -> None:
    with _holding(sock_id) as name:
        assert _is_free(f"{cookie}/{sock_id}")
        with _bound(f"{cookie}/collector"):
            _step_until(name, lambda: not _is_free(f"{cookie}/{sock_id}"), timeout=5)


def test_false_names_cost_neither_time_nor_the_true_one(
    cookie: str, daemon: socket.socket, sock_id: str, table: Path
) -> None:
    false = "".join(_line(f"{number:064x}/collector", number) for number in range(10_000))
    table.write_text(false + _line(f"{cookie}/collector", _inode(daemon)))
    name = AbstractName(sock_id, sockets=str(table))
    try:
        steps = []
        while not name.held and len(steps) < 100_000:
            began = time.thread_time()
            name.step()
            steps.append(time.thread_time() - began)
        assert name.held == 1
        assert sorted(steps)[len(steps) // 2] < 0.05
        assert len(steps) > 10
        assert len(name._elsewhere) <= abstract_name._MOST_ELSEWHERE
        assert len(name._cookies) == 1
    finally:
        name.close()


def test_forged_line_does_not_hide_the_true_one(
    cookie: str, daemon: socket.socket, sock_id: str, table: Path
) -> None:
    # A name may have a line's end in it, and after it whatever its owner likes.
    forged = _line(f"{'0' * 64}/collector", _inode(daemon))
    table.write_text(forged + _line(f"{cookie}/collector", _inode(daemon)))
    with _holding(sock_id, sockets=str(table)) as name:
        assert name.held == 1
        assert not _is_free(f"{cookie}/{sock_id}")


def test_only_a_few_names_are_held(
    sock_id: str, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AbstractName, "_is_trusted", lambda *_: True)
    table.write_text(
        "".join(_line(f"{secrets.token_hex(32)}/collector", number) for number in range(100))
    )
    with _holding(sock_id, sockets=str(table)) as name:
        assert name.held == abstract_name._MOST_HELD


def test_daemons_are_not_asked_again_and_again(
    cookie: str, daemon: socket.socket, sock_id: str, table: Path
) -> None:
    clock = helpers.Clock()
    with _bound(f"{cookie}/schedd_1") as other:
        lines = [_line(f"{cookie}/collector", _inode(daemon))]
        lines.append(_line(f"{cookie}/schedd_1", _inode(other)))
        table.write_text("".join(lines))
        name = AbstractName(sock_id, clock=clock, sockets=str(table))
        try:
            for _ in range(20):
                name.step()  # to the end: the clock stands still
                table.write_text("".join(reversed(lines)))
                clock.now += 5
            asked = 0
            for sock in (daemon, other):
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sock.accept()[0].close()
                        asked += 1
            assert asked == 1
        finally:
            name.close()


def test_name_stays_when_the_daemon_that_was_seen_has_ended(
    cookie: str, daemon: socket.socket, sock_id: str, table: Path
) -> None:
    clock = helpers.Clock()
    table.write_text(_line(f"{cookie}/collector", _inode(daemon)))
    name = AbstractName(sock_id, clock=clock, sockets=str(table))
    try:
        name.step()
        assert name.held == 1
        with _bound(f"{cookie}/schedd_1") as other:
            table.write_text(_line(f"{cookie}/schedd_1", _inode(other)))
            for _ in range(40):
                clock.now += 5
                name.step()
                assert name.held == 1
        table.write_text("")
        for _ in range(20):
            clock.now += 5
            name.step()
        assert name.held == 0  # no HTCondor has this cookie any more
    finally:
        name.close()


def test_taken_name_is_told_and_got_back(
    cookie: str, daemon: socket.socket, sock_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    taker = _bound(f"{cookie}/{sock_id}")
    with taker, _holding(sock_id) as name:
        _step_until(name, lambda: name.taken == 1)
        assert name.taken_so_far == 1
        assert "name-taken" in [
            getattr(r, "event", None) and r.event.code for r in caplog.records
        ]
        taker.close()
        _step_until(name, lambda: name.taken == 0, timeout=1)
        assert not _is_free(f"{cookie}/{sock_id}")
        assert name.taken_so_far == 1


def test_taken_name_is_tried_every_tenth_of_a_second(
    cookie: str, daemon: socket.socket, sock_id: str
) -> None:
    with _bound(f"{cookie}/{sock_id}"), _holding(sock_id) as name:
        tries = []
        until = time.monotonic() + 1
        while time.monotonic() < until:
            if time.monotonic() >= name.due:
                tries.append(name._cookies[cookie.encode()].failures)
                name.step()
            time.sleep(0.005)
        assert 3 <= tries[-1] <= 12


def test_name_that_another_porter_of_this_user_holds_is_not_told(
    cookie: str, daemon: socket.socket, sock_id: str
) -> None:
    with _bound(f"{cookie}/{sock_id}", backlog=None) as other:
        if owner_of(_inode(other), f"{cookie}/{sock_id}".encode()) is None:
            pytest.skip("this kernel does not tell whose a socket is")
        with _holding(sock_id) as name:
            _step_until(name, lambda: name._cookies[cookie.encode()].failures > 5)
            assert (name.taken, name.taken_so_far) == (0, 0)


def test_name_that_another_user_holds_is_told(
    cookie: str, daemon: socket.socket, sock_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abstract_name, "owner_of", lambda *_: 4_000_000)
    with _bound(f"{cookie}/{sock_id}", backlog=None), _holding(sock_id) as name:
        _step_until(name, lambda: name.taken == 1)


def test_owner_is_not_told_for_another_name(cookie: str, daemon: socket.socket) -> None:
    own = owner_of(_inode(daemon), f"{cookie}/collector".encode())
    assert own in (os.geteuid(), None)
    assert owner_of(_inode(daemon), f"{cookie}/schedd".encode()) is None
    assert owner_of(1, f"{cookie}/collector".encode()) is None


def test_unreadable_table_is_told(
    sock_id: str, table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table.unlink()
    with _holding(sock_id, sockets=str(table)) as name:
        assert name.held == 0
        assert [record.event.code for record in caplog.records] == ["name-unknown"]
        assert name.due > time.monotonic() + 1


def test_name_is_held_as_soon_as_there_is_a_descriptor_for_it(
    cookie: str, daemon: socket.socket, sock_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded = [True]
    made = socket.socket

    def make(*args: int) -> socket.socket:
        if crowded[0]:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return made(*args)

    with _bound(f"{cookie}/{sock_id}") as taker, _holding(sock_id) as name:
        monkeypatch.setattr(abstract_name.socket, "socket", make)
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            name.step()
        monkeypatch.undo()
        taker.close()
        _step_until(name, lambda: not _is_free(f"{cookie}/{sock_id}"))


def test_ad_file_tells_who_htcondor_is(tmp_path: Path) -> None:
    ad_file = tmp_path / "shared_port_ad"
    assert os.getuid() not in find_owners(str(ad_file))
    ad_file.touch()
    assert os.getuid() in find_owners(str(ad_file))
    find_owners(None)
