"""The relay: what goes in at one side comes out at the other, ends and all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Callable

import pytest

from tests.unit import helpers
from vine_sharedport.dialing import backoff
from vine_sharedport.dialing import relay as relay_module
from vine_sharedport.dialing.relay import Relay
from vine_sharedport.errors import DialError, DialTimeout, SharedPortError, WrongSecretError

MEGABYTES = random.Random(2).randbytes(5_000_000)


class Far:
    """The far side: a server, and the ``dial`` that connects to it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.listener.settimeout(10)

    def dial(self) -> socket.socket:
        try:
            return socket.create_connection(self.listener.getsockname())
        except OSError as error:
            raise DialError(f"the test has ended: {error}") from error

    def accept(self) -> socket.socket:
        server, _ = self.listener.accept()
        server.settimeout(10)
        return server


@pytest.fixture
def far() -> Iterator[Far]:
    made = Far()
    yield made
    made.listener.close()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    helpers.wait_until(lambda: set(threading.enumerate()) <= before)


@pytest.fixture
def relay(far: Far) -> Iterator[Relay]:
    made = Relay(far.dial)
    yield made
    made.close()


def near_of(relay: Relay) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.port), timeout=10)


@contextlib.contextmanager
def in_background(do: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=do)
    thread.start()
    yield
    thread.join()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ---- copying ----


def test_megabytes_arrive_unchanged_in_both_directions_at_once(relay: Relay, far: Far) -> None:
    there, back = MEGABYTES, MEGABYTES[::-1]
    received: queue.Queue[bytes] = queue.Queue()
    with contextlib.ExitStack() as stack:
        near, server = stack.enter_context(near_of(relay)), stack.enter_context(far.accept())
        for do in (
            lambda: near.sendall(there),
            lambda: server.sendall(back),
            lambda: received.put(helpers.receive_exactly(server, len(there))),
        ):
            stack.enter_context(in_background(do))
        assert digest(helpers.receive_exactly(near, len(back))) == digest(back)
        assert digest(received.get(timeout=10)) == digest(there)


@pytest.mark.alone
def test_small_messages_are_not_held_up(relay: Relay, far: Far) -> None:
    """Without TCP_NODELAY the second of two small messages waits some 40 ms for an ACK."""
    with near_of(relay) as near, far.accept() as server:
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        took = []
        for _ in range(20):
            before = time.monotonic()
            server.sendall(b"1")
            time.sleep(0.001)  # so that the relay does not send both in one piece
            server.sendall(b"2")
            helpers.receive_exactly(near, 2)
            near.sendall(b"3")
            helpers.receive_exactly(server, 1)
            took.append(time.monotonic() - before)
        assert sorted(took)[10] < 0.03


def test_end_of_the_near_side_is_passed_on_and_the_far_side_goes_on(
    relay: Relay, far: Far
) -> None:
    with near_of(relay) as near, far.accept() as server:
        near.sendall(b"request")
        near.shutdown(socket.SHUT_WR)
        assert helpers.receive_all(server) == b"request"
        with in_background(lambda: (server.sendall(MEGABYTES), server.close())):
            assert digest(helpers.receive_all(near)) == digest(MEGABYTES)


def test_end_of_the_far_side_is_passed_on_and_the_near_side_goes_on(
    relay: Relay, far: Far
) -> None:
    with near_of(relay) as near, far.accept() as server:
        server.sendall(b"greeting")
        server.shutdown(socket.SHUT_WR)
        assert helpers.receive_all(near) == b"greeting"
        with in_background(lambda: (near.sendall(MEGABYTES), near.close())):
            assert digest(helpers.receive_all(server)) == digest(MEGABYTES)


@pytest.mark.parametrize("spoken", [False, True])
def test_reset_of_the_near_side_ends_the_far_side(relay: Relay, far: Far, spoken: bool) -> None:
    with near_of(relay) as near, far.accept() as server:
        if spoken:
            server.sendall(b"x")
            helpers.receive_exactly(near, 1)
        helpers.reset(near)
        assert helpers.is_closed(server)


def test_reset_of_the_far_side_ends_the_near_side(relay: Relay, far: Far) -> None:
    with near_of(relay) as near, far.accept() as server:
        server.sendall(b"x")
        helpers.receive_exactly(near, 1)
        helpers.reset(server)
        assert helpers.is_closed(near)


def test_reset_in_the_middle_of_megabytes_ends_both_sides(relay: Relay, far: Far) -> None:
    for first in ("near", "far") * 5:
        with near_of(relay) as near, far.accept() as server:
            server.sendall(b"x")
            helpers.receive_exactly(near, 1)
            receiver, sender = (near, server) if first == "near" else (server, near)
            told: queue.Queue[str] = queue.Queue()

            def send(sock: socket.socket = sender, told: queue.Queue[str] = told) -> None:
                try:
                    for _ in range(20):
                        sock.sendall(MEGABYTES)
                except OSError as error:
                    told.put(type(error).__name__)

            with in_background(send):
                helpers.receive_exactly(receiver, 100_000)
                helpers.reset(receiver)
            assert told.get(timeout=10) in ("ConnectionResetError", "BrokenPipeError")


@pytest.mark.parametrize("broken", ["near", "far"])
def test_break_of_one_side_resets_the_other(broken: str) -> None:
    """After a quiet end a sender whose window is closed would go on asking for a minute."""
    client, near = helpers.tcp_pair()
    server, far = helpers.tcp_pair()
    with client, near, server, far:
        helpers.reset(client if broken == "near" else server)
        # The other one ends, too, so that everything can come to an end.
        (server if broken == "near" else client).shutdown(socket.SHUT_WR)
        relay_module.carry(near, far)
        for sock in (near, far):
            linger = sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
            assert struct.unpack("ii", linger) == (1, 0)


@pytest.mark.parametrize("first", ["near", "far"])
def test_quiet_end_stays_a_quiet_end(first: str) -> None:
    client, near = helpers.tcp_pair()
    server, far = helpers.tcp_pair()
    with client, near, server, far:
        for sock in (client, server) if first == "near" else (server, client):
            sock.sendall(b"x")
            sock.shutdown(socket.SHUT_WR)
        assert relay_module.carry(near, far) == 1
        for sock in (near, far):
            linger = sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
            assert struct.unpack("ii", linger)[0] == 0


def test_many_connections_at_once_are_kept_apart(relay: Relay, far: Far) -> None:
    with contextlib.ExitStack() as stack:
        pairs = {}
        nears = [stack.enter_context(near_of(relay)) for _ in range(50)]
        for number, near in enumerate(nears):
            near.sendall(b"%02d" % number)
        for _ in nears:
            server = stack.enter_context(far.accept())
            pairs[int(helpers.receive_exactly(server, 2))] = server
        assert set(pairs) == set(range(50))
        for number, server in pairs.items():
            server.sendall(b"%02d" % number)
        for number, near in enumerate(nears):
            assert int(helpers.receive_exactly(near, 2)) == number


def test_port_is_on_the_loopback_only(relay: Relay) -> None:
    assert relay._listener.getsockname() == ("127.0.0.1", relay.port)
    with near_of(relay) as near:
        assert near.getpeername() == ("127.0.0.1", relay.port)


# ---- failures are held back ----


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make pauses of 0.1 s, 0.2 s and so on without jitter; return those that were made."""
    made: list[float] = []

    def whole(low: float, high: float) -> float:
        assert (low, high) == (0.5, 1.0)
        return 1.0

    monkeypatch.setattr(backoff.random, "uniform", whole)
    monkeypatch.setattr(relay_module, "_FIRST_PAUSE", 0.1)
    monkeypatch.setattr(relay_module, "_LAST_PAUSE", 0.3)
    wait = Relay._wait

    def watched(self: Relay, near: socket.socket, seconds: float | None) -> None:
        before = time.monotonic()
        wait(self, near, seconds)
        made.append(time.monotonic() - before)

    monkeypatch.setattr(Relay, "_wait", watched)
    return made


def _seconds_until_closed(near: socket.socket) -> float:
    before = time.monotonic()
    assert helpers.is_closed(near)
    return time.monotonic() - before


class Flaky:
    """A ``dial`` that fails so many times, and then leads to the far side."""

    def __init__(self, far: Far, *failures: Exception) -> None:
        self.far = far
        self.failures = list(failures)
        self.times: list[float] = []

    def __call__(self) -> socket.socket:
        self.times.append(time.monotonic())
        if self.failures:
            raise self.failures.pop(0)
        return self.far.dial()


def nobody() -> DialError:
    return DialError("cannot reach <192.0.2.7:9618?sock=vine_1>: nobody there")


@pytest.mark.alone
def test_failure_to_dial_is_tried_again_behind_the_same_connection(
    pauses: list[float], far: Far, caplog: pytest.LogCaptureFixture
) -> None:
    dial = Flaky(far, *(nobody() for _ in range(4)))
    relay = Relay(dial)
    try:
        with near_of(relay) as near:
            near.sendall(b"said at once")
            with far.accept() as server:
                assert helpers.receive_exactly(server, 12) == b"said at once"
                server.sendall(b"welcome")
                assert helpers.receive_exactly(near, 7) == b"welcome"
    finally:
        relay.close()
    assert [round(pause, 1) for pause in pauses] == [0.1, 0.2, 0.3, 0.3]
    assert len(dial.times) == 5
    assert "<192.0.2.7:9618?sock=vine_1>: nobody there" in caplog.text


@pytest.mark.parametrize("said", [b"", b"hello"])
@pytest.mark.parametrize("end", [socket.socket.close, helpers.reset])
def test_client_that_leaves_ends_the_attempts(
    far: Far, monkeypatch: pytest.MonkeyPatch, end: Callable[..., None], said: bytes
) -> None:
    """Though what it has said is still there to be read."""
    monkeypatch.setattr(relay_module, "_FIRST_PAUSE", 60.0)
    dial = Flaky(far, nobody())
    relay = Relay(dial)
    try:
        near = near_of(relay)
        near.sendall(said)
        helpers.wait_until(lambda: dial.times)
        time.sleep(0.05)
        end(near)
        helpers.wait_until(lambda: not relay._open)
        assert len(dial.times) == 1
    finally:
        relay.close()


# ---- giving up ----


class GaveUp:
    """What a relay is told to call when it gives up."""

    def __init__(self) -> None:
        self.reasons: queue.Queue[SharedPortError] = queue.Queue()
        self.at = 0.0

    def __call__(self, reason: SharedPortError) -> None:
        self.at = time.monotonic()
        self.reasons.put(reason)


def test_a_manager_that_was_there_has_most_likely_ended(far: Far) -> None:
    dial, gave_up = Flaky(far), GaveUp()
    relay = Relay(dial, time_limit=1.0, gave_up=gave_up)
    try:
        with near_of(relay) as near:
            near.sendall(b"said")
            with far.accept() as server:
                server.sendall(b"answered")
                assert near.recv(8) == b"answered"
        dial.failures = [nobody() for _ in range(99)]
        with near_of(relay):
            reason = gave_up.reasons.get(timeout=10)
    finally:
        relay.close()
    assert isinstance(reason, DialTimeout)
    assert str(reason) == (
        "the manager was not reached within 1 s again, and has most likely ended"
    )


def test_time_limit_counts_from_the_first_failure(far: Far) -> None:
    dial, gave_up = Flaky(far, *(nobody() for _ in range(99))), GaveUp()
    relay = Relay(dial, time_limit=1.0, gave_up=gave_up)
    try:
        with near_of(relay) as near:
            reason = gave_up.reasons.get(timeout=10)
            assert isinstance(reason, DialTimeout)
            assert str(reason) == "the manager was not reached within 1 s"  # why was told
            assert 0.95 < gave_up.at - dial.times[0] < 1.5
            near.settimeout(0.2)
            with pytest.raises(socket.timeout):  # whoever gave up decides about its end
                near.recv(1)
            relay.close()
            near.settimeout(10)
            assert helpers.is_closed(near)
    finally:
        relay.close()
    assert gave_up.reasons.empty()


@pytest.mark.parametrize("proven", [False, True])
def test_success_starts_the_time_limit_anew(
    pauses: list[float], far: Far, proven: bool
) -> None:
    gave_up = GaveUp()
    dial = Flaky(far, nobody(), nobody())
    relay = Relay(dial, time_limit=0.6, gave_up=gave_up, proven=proven)
    try:
        for _ in range(4):  # 0.3 s of failures each
            with near_of(relay) as near, far.accept() as server:
                if not proven:
                    server.sendall(b"x")
                    helpers.receive_exactly(near, 1)
            helpers.wait_until(lambda: not relay._open)
            dial.failures += [nobody(), nobody()]
        assert gave_up.reasons.empty()
    finally:
        relay.close()


def test_refused_secret_is_looked_at_twice(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_SECOND_LOOK", 0.2)
    dial, gave_up = (
        Flaky(far, *(WrongSecretError("another secret") for _ in range(9))),
        GaveUp(),
    )
    relay = Relay(dial, time_limit=60, gave_up=gave_up, proven=True)
    try:
        with near_of(relay):
            assert isinstance(gave_up.reasons.get(timeout=10), WrongSecretError)
            assert len(dial.times) == 2
            assert 0.15 < dial.times[1] - dial.times[0] < 1
            with near_of(relay) as another:  # there is no use for more
                assert helpers.is_closed(another)
            assert len(dial.times) == 2
    finally:
        relay.close()


def test_secret_that_is_refused_once_may_be_right_the_next_time(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manager was being restarted."""
    monkeypatch.setattr(relay_module, "_SECOND_LOOK", 0.01)
    monkeypatch.setattr(relay_module, "_FIRST_PAUSE", 0.01)
    dial, gave_up = (
        Flaky(far, *(WrongSecretError("x"), nobody(), WrongSecretError("x"))),
        GaveUp(),
    )
    relay = Relay(dial, time_limit=60, gave_up=gave_up, proven=True)
    try:
        with near_of(relay), far.accept():
            assert len(dial.times) == 4
            assert gave_up.reasons.empty()
    finally:
        relay.close()


def test_refused_secret_is_tried_for_ever_where_nobody_gives_up(
    pauses: list[float], far: Far
) -> None:
    dial = Flaky(far, *(WrongSecretError("x") for _ in range(3)))
    relay = Relay(dial)
    try:
        with near_of(relay), far.accept():
            assert len(dial.times) == 4
    finally:
        relay.close()


def test_connection_without_a_thread_is_closed_and_the_relay_goes_on(
    relay: Relay, far: Far, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    start = threading.Thread.start

    def fail_second(thread: threading.Thread) -> None:
        start(thread) if thread._target == relay._carry else fail(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with near_of(relay) as near:
            assert helpers.is_closed(near)
        patch.setattr(threading.Thread, "start", fail_second)
        with near_of(relay) as near, far.accept() as server:
            assert helpers.is_closed(near)
            assert helpers.is_closed(server)
    assert caplog.text.count("can't start new thread") == 2
    with near_of(relay) as near, far.accept() as server:
        server.sendall(b"x")
        assert helpers.receive_exactly(near, 1) == b"x"


# ---- a far side that shows only later that nobody is there ----


@pytest.mark.parametrize("end", [socket.socket.close, helpers.reset])
@pytest.mark.parametrize("said", [b"", b"hello"])
def test_far_side_that_closes_without_a_byte_is_held_back(
    pauses: list[float], far: Far, caplog: pytest.LogCaptureFixture, end, said: bytes
) -> None:
    relay = Relay(far.dial)
    try:
        for expected in (0.1, 0.2):
            with near_of(relay) as near:
                near.sendall(said)
                server = far.accept()
                helpers.receive_exactly(server, len(said))
                end(server)
                assert _seconds_until_closed(near) >= expected - 0.02
    finally:
        relay.close()
    said = [record.getMessage() for record in caplog.records]
    assert [text.rpartition(" in ")[2] for text in said] == ["0.1 s", "0.2 s"]


def test_failure_is_held_back_from_a_client_that_goes_on_talking(
    pauses: list[float], far: Far
) -> None:
    relay = Relay(far.dial)
    try:
        with near_of(relay) as near:
            helpers.reset(far.accept())
            before = time.monotonic()
            with contextlib.suppress(OSError):
                while time.monotonic() - before < 5:
                    near.sendall(b"hello")
                    time.sleep(0.001)
            assert time.monotonic() - before >= 0.08
    finally:
        relay.close()


def test_pause_starts_anew_after_a_connection_that_worked(
    pauses: list[float], far: Far
) -> None:
    before = threading.active_count()  # an earlier test's may wait for ever
    relay = Relay(far.dial)
    try:
        for works in (False, False, True, False):
            with near_of(relay) as near, far.accept() as server:
                if works:
                    server.sendall(b"x")
                    server.close()
                    assert helpers.receive_all(near) == b"x"
                else:
                    server.close()
                    helpers.is_closed(near)
            helpers.wait_until(lambda: threading.active_count() <= before + 1)
    finally:
        relay.close()
    # The second pause is the first one's double; the success between makes it short again.
    assert [round(pause, 1) for pause in pauses] == [0.1, 0.2, 0.1]


def test_one_failure_does_not_hold_the_others_back(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "_FIRST_PAUSE", 30.0)
    relay = Relay(far.dial)
    try:
        with near_of(relay):
            far.accept().close()
            with near_of(relay) as near, far.accept() as server:
                server.sendall(b"x")
                assert helpers.receive_exactly(near, 1) == b"x"
    finally:
        relay.close()


# ---- close ----


def test_close_ends_everything(far: Far) -> None:
    relay = Relay(far.dial)
    with near_of(relay) as near, far.accept() as server:
        near.sendall(b"x")
        helpers.receive_exactly(server, 1)
        port = relay.port
        relay.close()
        relay.close()
        assert helpers.is_closed(near)
        assert helpers.is_closed(server)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_close_ends_a_pause(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_FIRST_PAUSE", 60.0)
    relay = Relay(far.dial)
    with near_of(relay) as near:
        far.accept().close()
        helpers.wait_until(lambda: relay._backoff._pause != 60.0)
        relay.close()
        assert _seconds_until_closed(near) < 2


def test_close_ends_a_connection_whose_dialling_it_overtakes(far: Far) -> None:
    dialling, go_on = threading.Event(), threading.Event()

    def dial() -> socket.socket:
        dialling.set()
        go_on.wait(10)
        return far.dial()

    relay = Relay(dial)
    with near_of(relay) as near:
        assert dialling.wait(10)
        relay.close()
        go_on.set()
        assert helpers.is_closed(near)
        with far.accept() as server:
            assert helpers.is_closed(server)


def test_close_ends_a_connection_that_is_stuck_in_sending(far: Far) -> None:
    relay = Relay(far.dial)
    with near_of(relay) as near, far.accept() as server:
        near.settimeout(0.2)
        with contextlib.suppress(socket.timeout):
            while True:
                near.sendall(MEGABYTES)
        relay.close()
        near.settimeout(10)
        assert helpers.is_closed(near)
        with contextlib.suppress(ConnectionResetError):
            helpers.receive_all(server)


@pytest.mark.true_uid
@pytest.mark.parametrize("host", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_another_user_of_the_machine_is_refused(
    relay: Relay,
    far: Far,
    host: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if os.geteuid() == 0:
        pytest.skip("root is let in everywhere")
    # As another user sees it: the kernel's table has our uid, and we are somebody else.
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with _connect_by(host, relay.port) as near:
        assert near.recv(1) == b""
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_ipv6_socket_reaches_the_port_by_the_mapped_address(relay: Relay, far: Far) -> None:
    """As a worker does with CCTOOLS_IP_MODE=IPV6."""
    with _connect_by("::ffff:127.0.0.1", relay.port) as near, far.accept() as server:
        near.sendall(b"x")
        assert helpers.receive_exactly(server, 1) == b"x"


def _connect_by(host: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout=10)
    except OSError as error:
        if ":" in host:
            pytest.skip(f"no IPv6 here: {error}")
        raise
