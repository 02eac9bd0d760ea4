"""Which connections get no answer, with the kernel's own sockets."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.unit.helpers import wait_until
from vine_sharedport.factory.manager_view import silence
from vine_sharedport.factory.manager_view.silence import Silence, SilenceWatch, read_silences
from vine_sharedport.keepalive import Keepalive

TCP_MD5SIG = 14  # linux/tcp.h
PROBES = Keepalive(1, 1, 100)
FAMILIES = {
    "ipv4": ("127.0.0.1", "127.0.0.1"),
    "ipv6": ("::1", "::1"),
    "mapped": ("::", "127.0.0.1"),  # IPv4 at a socket of IPv6, as HTCondor has them
}


@contextlib.contextmanager
def pair(name: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A worker's end of a connection and its manager's, which is probed."""
    listen, connect = FAMILIES[name]
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(
            socket.create_server((listen, 0), family=family, dualstack_ipv6=listen == "::")
        )
        port = listener.getsockname()[1]
        worker = stack.enter_context(socket.create_connection((connect, port)))
        manager = stack.enter_context(listener.accept()[0])
        PROBES.apply(manager)
        yield worker, manager


def address_of(worker: socket.socket) -> str:
    host, port = worker.getsockname()[:2]
    return f"{host}:{port}"


@contextlib.contextmanager
def cut(worker: socket.socket) -> Iterator[None]:
    """Let the worker's kernel hear nothing: it wants signatures (RFC 2385)."""
    _want_signature(worker, b"x")
    try:
        yield
    finally:
        _want_signature(worker, b"")


def _want_signature(sock: socket.socket, key: bytes) -> None:
    where = sock.getpeername()
    port, host = struct.pack("!H", where[1]), socket.inet_pton(sock.family, where[0])
    flow = b"" if sock.family == socket.AF_INET else bytes(4)
    peer = (struct.pack("=H", sock.family) + port + flow + host).ljust(128, b"\0")
    # struct tcp_md5sig of linux/tcp.h
    signature = peer + struct.pack("=BBHi80s", 0, 0, len(key), 0, key)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, signature)
    except OSError as error:
        pytest.skip(f"the kernel has no signatures of TCP segments ({error})")


@pytest.mark.parametrize("name", ["ipv4", "ipv6", "mapped"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "with bytes under way"])
def test_a_cut_shows_while_it_lasts_and_not_after_it(name: str, busy: bool) -> None:
    watch = SilenceWatch()
    with pair(name) as (worker, manager), pair(name) as (other, _):
        address = address_of(worker)

        def look() -> dict[str, Silence]:
            return watch.look([address, address_of(other)])

        with cut(worker):
            if busy:
                manager.sendall(b"a task")
            found = wait_until(look, timeout=20)
            assert set(found) == {address}, "the other one answers"
            assert found[address].unanswered >= 1
            longer = wait_until(
                lambda: (now := look().get(address)) and now.seconds > found[address].seconds
            )
            assert longer
        wait_until(lambda: not look(), timeout=20)
        if busy:
            assert worker.recv(99) == b"a task"


def test_a_probe_that_is_answered_is_no_silence() -> None:
    """Probes every second, for a few of them: each is under way for a moment."""
    watch = SilenceWatch()
    with pair("ipv4") as (worker, manager):
        options = (socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        last: list[float] = []
        while len(last) < 3:  # probes that were answered
            assert watch.look([address_of(worker)]) == {}
            age = struct.unpack_from("I", manager.getsockopt(*options), 56)[0]
            if not last or age < last[-1]:
                last.append(age)
            last[-1] = age


CLOCK = [100.0]
PLACE = ("192.0.2.7", 40112)
SURE = silence._SURE
DRAWN = random.uniform(SURE + 0.1, 600)


def look_twice(first: Silence | None, after: float, second: Silence | None) -> bool:
    """Whether the second look finds the worker silent, so long after the first."""
    now, given = [100.0], [first]
    watch = SilenceWatch(lambda: [(PLACE, given[0])] if given[0] else [], lambda: now[0])
    assert watch.look(["192.0.2.7:40112"]) == {}, "never at once"
    now[0], given[0] = 100.0 + after, second
    return bool(watch.look(["192.0.2.7:40112"]))


@pytest.mark.parametrize(
    ("first", "after", "second", "silent"),
    [
        (Silence(25.0, 1), 5.0, Silence(30.0, 1), True),
        (Silence(25.0, 1), DRAWN, Silence(25.0 + DRAWN, 9), True),
        (Silence(0.3, 2), 5.0, Silence(5.3, 4), True),
        (Silence(25.0, 1), 5.0, None, False),
        (None, 5.0, Silence(30.0, 1), False),
        # It has answered since the first look, and was asked again just now.
        (Silence(25.0, 1), 26.0, Silence(25.0, 1), False),
        (Silence(25.0, 1), SURE / 2, Silence(25.0 + SURE / 2, 1), False),
    ],
    ids=["idle", "drawn", "busy", "answered", "just asked", "asked twice", "too soon"],
)
def test_one_question_under_way_is_no_silence(
    first: Silence | None, after: float, second: Silence | None, silent: bool
) -> None:
    assert look_twice(first, after, second) is silent


def test_where_the_kernel_does_not_tell_nobody_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(silence, "_read_family", refuse)
    assert list(read_silences()) == []
    assert SilenceWatch().look(["192.0.2.7:40112", "", "nonsense"]) == {}
