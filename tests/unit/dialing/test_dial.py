"""The client's way in: which addresses are tried, for how long, and what is sent."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from tests.loopback import mute
from tests.unit import helpers
from tests.values import naming
from vine_sharedport.dialing import dial, race
from vine_sharedport.dialing.dial import connect
from vine_sharedport.dialing.race import DialEvent
from vine_sharedport.errors import (
    DialError,
    DialTimeout,
    GateError,
    SettingError,
    SinfulError,
    Verdict,
    WrongSecretError,
)
from vine_sharedport.wire.gate import MAGIC, GateServer, GateState
from vine_sharedport.wire.sinful import Sinful


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(10)
        yield made


def port_of(sock: socket.socket) -> int:
    return sock.getsockname()[1]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which connections are refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield port_of(bound)


@pytest.fixture
def mute_port() -> Iterator[int]:
    with mute() as port:
        yield port


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A name service: the addresses of each name, or a function that gives them."""
    known: dict[str, Any] = {}

    def look_up(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        found = known[host]
        found = found() if callable(found) else found
        return [
            (socket.AF_INET6 if ":" in text else socket.AF_INET, 1, 6, "", (text, port))
            for text in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


def address(*ports: int, sock: str | None = "vine_1") -> str:
    """Return an address whose candidates are these ports, in order."""
    addrs = "+".join(f"127.0.0.1-{port}" for port in ports)
    return f"<127.0.0.1:{ports[0]}?addrs={addrs}{'' if sock is None else f'&sock={sock}'}>"


# ---- candidates ----


def test_candidates_are_tried_in_order_and_none_after_the_first_that_answers(
    listener: socket.socket, closed_port: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as second:
        text = address(closed_port, port_of(listener), port_of(second))
        with connect(text) as client, listener.accept()[0]:
            assert client.getpeername() == listener.getsockname()
        second.settimeout(0)
        with pytest.raises(BlockingIOError):
            second.accept()


def test_next_candidate_starts_250_ms_after_one_without_an_answer(
    listener: socket.socket, mute_port: int
) -> None:
    text = address(mute_port, port_of(listener))
    events: list[DialEvent] = []
    with connect(text, on_event=events.append), listener.accept()[0]:
        pass
    steps = [(event.what, event.candidate.port) for event in events]
    assert steps == [
        ("started", mute_port),
        ("started", port_of(listener)),
        ("connected", port_of(listener)),
        ("left", mute_port),
        ("sent", port_of(listener)),
    ]
    assert 0.24 < events[1].at < 0.5


def test_attempts_are_250_ms_apart_and_go_on_together() -> None:
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(mute(f"127.0.0.{n}")) for n in range(1, 5)]
        addrs = "+".join(f"127.0.0.{n}-{port}" for n, port in enumerate(ports, 1))
        events: list[DialEvent] = []
        with pytest.raises(DialTimeout):
            connect(
                f"<127.0.0.1:{ports[0]}?addrs={addrs}>", timeout=1.2, on_event=events.append
            )
    started = [event.at for event in events if event.what == "started"]
    assert len(started) == 4
    for number, at in enumerate(started):
        assert 0 <= at - 0.25 * number < 0.3
    failed = [event.at for event in events if event.what == "failed"]
    assert len(failed) == 4
    assert all(1.2 <= at < 2 for at in failed)


def test_next_candidate_starts_at_once_when_one_fails(
    listener: socket.socket, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "STAGGER", 20)
    before = time.monotonic()
    with connect(address(closed_port, port_of(listener))), listener.accept()[0]:
        assert time.monotonic() - before < 5


def test_failure_starts_the_next_at_once_beside_one_without_an_answer(
    listener: socket.socket, closed_port: int, mute_port: int
) -> None:
    events: list[DialEvent] = []
    text = address(mute_port, closed_port, port_of(listener))
    with connect(text, on_event=events.append), listener.accept()[0]:
        pass
    steps = [event.what for event in events[:5]]
    assert steps == ["started", "started", "failed", "started", "connected"]
    assert events[3].at - events[2].at < 0.2


def test_name_that_is_resolved_late_still_counts(
    listener: socket.socket, names: dict[str, Any]
) -> None:
    port = port_of(listener)

    def slowly() -> list[str]:
        time.sleep(0.5)
        return ["127.0.0.1"]

    names["slow.example.org"] = slowly
    with mute("127.0.0.2", port):
        names["mute.example.org"] = ["127.0.0.2"]
        text = f"<slow.example.org:{port}?alias=mute.example.org>"
        with connect(text) as client, listener.accept()[0]:
            assert client.getpeername() == ("127.0.0.1", port)


def test_both_families_are_tried_by_turns() -> None:
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(mute("127.0.0.1"))
        stack.enter_context(mute("127.0.0.2", port))
        try:
            listener = stack.enter_context(
                socket.create_server(("::1", port), family=socket.AF_INET6)
            )
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
        addrs = f"127.0.0.1-{port}+127.0.0.2-{port}+[--1]-{port}"
        events: list[DialEvent] = []
        with connect(
            f"<127.0.0.1:{port}?addrs={addrs}&sock=a>", on_event=events.append
        ) as client:
            assert client.getpeername()[:2] == ("::1", port)
            listener.accept()[0].close()
        started = [event.host for event in events if event.what == "started"]
        assert started == ["127.0.0.1", "::1"]


def test_only_the_winner_hears_from_us(listener: socket.socket) -> None:
    """The first one's SYN waits for room in a backlog, which comes too late."""
    with socket.socket() as slow, contextlib.ExitStack() as stack:
        slow.bind(("127.0.0.1", 0))
        slow.listen(0)
        stack.enter_context(socket.create_connection(slow.getsockname()))
        text = address(port_of(slow), port_of(listener))
        with connect(text), listener.accept()[0] as server:
            server.settimeout(10)
            assert server.recv(1) == b"\1"
            slow.accept()[0].close()
            slow.settimeout(1.5)  # the kernel would have repeated the SYN within 1 s
            with pytest.raises(socket.timeout):
                slow.accept()


def test_address_that_closes_at_once_leaves_the_rest_to_the_others(
    listener: socket.socket,
) -> None:
    """Another site's machine has that address, and a shared port that knows no such id."""
    secret = bytes(32)
    with contextlib.ExitStack() as stack:
        for end in (socket.socket.close, helpers.reset):
            other = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            text = address(port_of(other), port_of(listener))
            answers = [
                threading.Thread(target=lambda end=end, other=other: end(other.accept()[0])),
                threading.Thread(target=lambda: _serve_gate(listener, secret)),
            ]
            for thread in answers:
                thread.start()
            with connect(text, secret=secret) as client:
                assert client.getpeername() == listener.getsockname()
            for thread in answers:
                thread.join()


def test_candidates_that_a_useless_winner_left_behind_are_tried_again(
    listener: socket.socket,
) -> None:
    with contextlib.ExitStack() as stack:
        slow = stack.enter_context(socket.socket())
        slow.bind(("127.0.0.1", 0))
        slow.listen(0)
        slow.settimeout(10)
        stack.enter_context(socket.create_connection(slow.getsockname()))

        def make_room() -> None:
            """Let the second one win, and be of no use; then have room at the first."""
            server, _ = listener.accept()
            slow.accept()[0].close()
            server.close()
            _serve_gate(slow, bytes(32))

        thread = threading.Thread(target=make_room)
        thread.start()
        text = address(port_of(slow), port_of(listener))
        with connect(text, secret=bytes(32), timeout=10) as client:
            assert client.getpeername() == slow.getsockname()
        thread.join()


def test_something_else_at_an_address_leaves_the_rest_to_the_others(
    listener: socket.socket,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def talk() -> None:
            with other.accept()[0] as server:
                server.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                server.recv(1000)

        threads = [
            threading.Thread(target=talk),
            threading.Thread(target=lambda: _serve_gate(listener, bytes(32))),
        ]
        for thread in threads:
            thread.start()
        text = address(port_of(other), port_of(listener))
        with connect(text, secret=bytes(32)) as client:
            assert client.getpeername() == listener.getsockname()
        for thread in threads:
            thread.join()


def test_mute_gate_leaves_time_for_the_others(listener: socket.socket) -> None:
    """A proxy that takes every connection, and has nobody behind it."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        thread = threading.Thread(target=lambda: _serve_gate(listener, bytes(32)))
        thread.start()
        text = address(port_of(proxy), port_of(listener))
        with connect(text, secret=bytes(32), timeout=2) as client:
            assert client.getpeername() == listener.getsockname()
        thread.join()


def test_refused_secret_ends_all_attempts(listener: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        thread = threading.Thread(target=lambda: _serve_gate(listener, bytes(32)))
        thread.start()
        with pytest.raises(WrongSecretError) as caught:
            connect(address(port_of(listener), port_of(other)), secret=b"\1" * 32)
        assert caught.value.verdict is Verdict.WRONG_SECRET
        thread.join()
        other.settimeout(0)
        with pytest.raises(BlockingIOError):
            other.accept()


def test_who_cannot_prove_the_secret_is_like_one_with_another(
    listener: socket.socket,
) -> None:
    """Else it would be asked again for the whole of the time limit."""

    def serve() -> None:
        with listener.accept()[0] as server:
            header = helpers.receive_exactly(server, 5)
            helpers.receive_exactly(server, int.from_bytes(header[1:], "big"))
            server.sendall(MAGIC + bytes(16))
            helpers.receive_exactly(server, 48)
            server.sendall(bytes(32))

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(WrongSecretError, match=naming("vine_1")):
        connect(address(port_of(listener)), secret=bytes(32))
    thread.join()


def _serve_gate(listener: socket.socket, secret: bytes) -> None:
    """Read a CONNECT message, and be the gate of a manager."""
    with listener.accept()[0] as server:
        header = helpers.receive_exactly(server, 5)
        helpers.receive_exactly(server, int.from_bytes(header[1:], "big"))
        gate = GateServer(secret, "vine_1", bytes(16))
        server.sendall(gate.greeting())
        with contextlib.suppress(GateError, OSError):
            while gate.state is GateState.WAITING:
                server.sendall(gate.feed(server.recv(gate.wanted)))


def test_alias_is_tried_last(listener: socket.socket, closed_port: int) -> None:
    port = port_of(listener)
    # Nothing of ours listens at 127.0.0.2.
    text = f"<127.0.0.2:{port}?addrs=127.0.0.1-{closed_port}&alias=localhost&sock=vine_1>"
    with connect(text) as client, listener.accept()[0]:
        assert client.getpeername() == ("127.0.0.1", port)


def test_ipv6_candidate_is_reached() -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with listener, connect(f"<[::1]:{port_of(listener)}?sock=vine_1>"):
        listener.accept()[0].close()


# ---- time ----


@pytest.mark.alone
def test_one_deadline_is_shared_by_all_candidates(mute_port: int) -> None:
    with mute("127.0.0.2") as second:
        text = f"<127.0.0.2:{second}?addrs=127.0.0.1-{mute_port}&sock=vine_1>"
        before = time.monotonic()
        with pytest.raises(DialTimeout) as caught:
            connect(text, timeout=1)
        assert 0.95 < time.monotonic() - before < 1.9
        assert str(caught.value).count("no answer in time") == 2


def test_candidates_for_which_there_was_no_time_are_named(mute_port: int) -> None:
    with pytest.raises(DialTimeout, match=naming(9618)) as caught:
        connect(f"<127.0.0.9:9618?addrs=127.0.0.1-{mute_port}>", timeout=0.1)
    assert [a.verdict for a in caught.value.attempts] == [Verdict.TIMED_OUT, Verdict.NOT_TRIED]
    assert caught.value.verdict is Verdict.TIMED_OUT


def test_first_address_of_a_name_may_be_mute(
    listener: socket.socket, names: dict[str, Any]
) -> None:
    port = port_of(listener)
    names["two.example.org"] = ["127.0.0.2", "127.0.0.1"]
    text = f"<two.example.org:{port}?sock=vine_1>"
    with mute("127.0.0.2", port), connect(text), listener.accept()[0]:
        pass


def test_families_of_a_name_take_turns(names: dict[str, Any]) -> None:
    names["many.example.org"] = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "::1", "::1"]
    events: list[DialEvent] = []
    with pytest.raises(DialError):
        connect("<many.example.org:1?sock=vine_1>", on_event=events.append)
    started = [event.host for event in events if event.what == "started"]
    assert started == ["127.0.0.1", "::1", "127.0.0.2", "127.0.0.3"]


def test_name_service_is_asked_only_when_all_literals_have_been_started(
    names: dict[str, Any], listener: socket.socket
) -> None:
    names["host.example.org"] = ["127.0.0.1"]
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(mute(f"127.0.0.{n}")) for n in (2, 3)]
        addrs = "+".join(f"127.0.0.{n}-{port}" for n, port in zip((2, 3), ports))
        network = f"PrivNet=n&PrivAddr=%3chost.example.org:{port_of(listener)}%3e"
        text = f"<127.0.0.2:{ports[0]}?{network}&addrs={addrs}>"
        events: list[DialEvent] = []
        with connect(text, private_network="n", on_event=events.append), listener.accept()[0]:
            pass
    steps = [event.what for event in events if event.what in ("started", "resolving")]
    assert steps == ["started", "started", "resolving", "started"]


def test_resolver_that_hangs_does_not_hold_back_an_address_that_works(
    names: dict[str, Any], listener: socket.socket
) -> None:
    go_on = threading.Event()

    def hang() -> list[str]:
        go_on.wait(10)
        return ["127.0.0.9"]

    names["hangs.example.org"] = hang
    names["works.example.org"] = ["127.0.0.1"]
    text = f"<hangs.example.org:{port_of(listener)}?alias=works.example.org>"
    try:
        before = time.monotonic()
        with connect(text), listener.accept()[0]:
            assert 0.2 < time.monotonic() - before < 5
    finally:
        go_on.set()
        helpers.wait_until(lambda: threading.active_count() == 1)


def test_resolver_that_hangs_keeps_the_deadline(names: dict[str, Any]) -> None:
    go_on = threading.Event()
    names["hangs.example.org"] = lambda: go_on.wait(10) and []
    before = time.monotonic()
    try:
        with pytest.raises(DialTimeout, match=naming("hangs.example.org")):
            connect("<hangs.example.org:9618?sock=vine_1>", timeout=0.3)
        assert time.monotonic() - before < 5
    finally:
        go_on.set()
        helpers.wait_until(lambda: threading.active_count() == 1)


def test_name_that_leads_where_we_have_been_is_not_tried_again(
    names: dict[str, Any], closed_port: int
) -> None:
    names["same.example.org"] = ["127.0.0.1"]
    events: list[DialEvent] = []
    with pytest.raises(DialError, match=naming("same.example.org", "127.0.0.1")):
        connect(f"<127.0.0.1:{closed_port}?alias=same.example.org>", on_event=events.append)
    assert [event.what for event in events].count("started") == 1


@pytest.mark.alone
def test_mute_candidates_get_little_time_when_a_shared_port_has_nobody(
    listener: socket.socket, mute_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "_LAST_CHANCE", 0.3)

    def drop() -> None:
        with listener.accept()[0] as server:
            server.recv(1000)

    thread = threading.Thread(target=drop)
    thread.start()
    before = time.monotonic()
    with pytest.raises(DialError) as caught:
        connect(address(mute_port, port_of(listener)), secret=bytes(32))
    assert caught.value.verdict is Verdict.NOBODY_THERE
    assert 0.5 < time.monotonic() - before < 3
    thread.join()


# ---- an address without a secret ----


@pytest.mark.parametrize("end", [socket.socket.close, helpers.reset])
def test_confirming_sees_that_nobody_is_there(
    listener: socket.socket, end: Callable[..., None]
) -> None:
    def drop() -> None:
        server, _ = listener.accept()
        server.recv(1000)
        end(server)

    thread = threading.Thread(target=drop)
    thread.start()
    with pytest.raises(DialError) as caught:
        connect(address(port_of(listener)), check=True)
    assert caught.value.verdict is Verdict.NOBODY_THERE
    thread.join()


@pytest.mark.alone
def test_confirming_takes_50_ms_where_somebody_is_there(listener: socket.socket) -> None:
    before = time.monotonic()
    with connect(address(port_of(listener)), check=True), listener.accept()[0]:
        assert 0.045 < time.monotonic() - before < 1


def test_confirming_leaves_what_has_come_to_be_read(listener: socket.socket) -> None:
    def greet() -> None:
        with listener.accept()[0] as server:
            server.sendall(b"220 ready")
            server.recv(1000)

    thread = threading.Thread(target=greet)
    thread.start()
    with connect(address(port_of(listener)), check=True) as client:
        assert helpers.receive_exactly(client, 9) == b"220 ready"
        thread.join()


def test_confirming_sees_that_a_secret_is_wanted(listener: socket.socket) -> None:
    thread = threading.Thread(target=lambda: _serve_gate(listener, bytes(32)))
    thread.start()
    with pytest.raises(WrongSecretError) as caught:
        connect(address(port_of(listener)), check=True)
    assert caught.value.verdict is Verdict.SECRET_NEEDED
    thread.join()


# ---- failures ----


def test_failure_names_each_candidate_in_order_and_its_reason(
    closed_port: int, mute_port: int, names: dict[str, Any]
) -> None:
    names["ap.example.org"] = ["127.0.0.7"]
    text = (
        f"<127.0.0.1:{closed_port}?addrs=127.0.0.1-{mute_port}&alias=ap.example.org"
        "&sock=vine_1>"
    )
    with pytest.raises(DialTimeout) as caught:
        connect(text, timeout=0.4)
    assert str(caught.value) == (
        f"cannot reach {text}: 127.0.0.1 port {mute_port}: no answer in time; "
        f"127.0.0.1 port {closed_port}: Connection refused; "
        f"ap.example.org (127.0.0.7) port {closed_port}: Connection refused"
    )
    refused, silent = Verdict.CONNECTION_REFUSED, Verdict.TIMED_OUT
    assert [attempt.verdict for attempt in caught.value.attempts] == [silent, refused, refused]
    assert caught.value.attempts[0].candidate == f"127.0.0.1 port {mute_port}"
    assert caught.value.verdict is refused, "it got further than no answer"


def test_want_of_descriptors_or_threads_is_a_dial_error(
    monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(DialError, match=naming(9618, "can't start new thread")):
            connect("<name.example.org:9618?sock=vine_1>")
    for what in (race.selectors, "DefaultSelector"), (race.socket, "socket"):
        with monkeypatch.context() as patch:
            patch.setattr(*what, _no_descriptor)
            with pytest.raises(DialError, match="Too many open files"):
                connect(address(closed_port))


def _no_descriptor(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_failure_before_the_deadline_is_no_timeout(closed_port: int) -> None:
    with pytest.raises(DialError) as caught:
        connect(address(closed_port))
    assert not isinstance(caught.value, DialTimeout)


def test_name_that_does_not_resolve_is_a_dial_error(names: dict[str, Any]) -> None:
    def fail() -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    names["gone.example.org"] = fail
    wanted = naming("gone.example.org", 9618, "Name or service not known")
    with pytest.raises(DialError, match=wanted) as caught:
        connect("<gone.example.org:9618?sock=vine_1>")
    assert caught.value.verdict is Verdict.NAME_UNKNOWN
    assert caught.value.verdict is Verdict.NAME_UNKNOWN
    assert caught.value.verdict is Verdict.NAME_UNKNOWN


@pytest.mark.parametrize(
    "text", ["", "192.0.2.7:9618", "<192.0.2.7:9618", "<192.0.2.7?sock=a>"]
)
def test_text_that_cannot_be_dialled_is_a_sinful_error(text: str) -> None:
    with pytest.raises(SinfulError):
        connect(text)


def test_sock_id_that_is_none_is_refused_before_anything_is_sent(
    listener: socket.socket,
) -> None:
    text = Sinful("127.0.0.1", port_of(listener), (("sock", "a b"),))
    with pytest.raises(SettingError, match="'a b'"):
        connect(text)
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()


# ---- what is sent ----


def _connect_message(sock_id: bytes, name: bytes, timeout: int) -> bytes:
    payload = (75).to_bytes(8, "big") + sock_id + b"\0" + name + b"\0"
    payload += timeout.to_bytes(8, "big") + (0).to_bytes(8, "big")
    return b"\x01" + len(payload).to_bytes(4, "big") + payload


def test_connect_message_comes_in_one_piece(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = []

    class Recorded(socket.socket):
        def sendall(self, data: bytes, *args: int) -> None:
            writes.append(bytes(data))
            super().sendall(data, *args)

        def send(self, data: bytes, *args: int) -> int:
            raise AssertionError("a piece")

    sock_id = "i" * 41
    text = address(port_of(listener), sock=sock_id)
    monkeypatch.setattr(socket, "socket", Recorded)
    with connect(text, timeout=7.2, client_name="n" * 1000) as client:
        monkeypatch.undo()
        with listener.accept()[0] as server:
            # What the first write brought is all there; it fits one segment.
            expected = _connect_message(sock_id.encode(), b"n" * 200, 7)
            assert server.recv(1 << 16) == expected
            assert writes == [expected]
            client.sendall(b"mine")
            assert server.recv(9) == b"mine"


def test_client_name_tells_the_process_by_default(listener: socket.socket) -> None:
    with connect(address(port_of(listener))), listener.accept()[0] as server:
        name = f"vine_sharedport {os.getpid()}".encode()
        assert server.recv(1 << 16) == _connect_message(b"vine_1", name, 30)


def test_client_name_is_made_fit_for_the_daemons_log(listener: socket.socket) -> None:
    text = address(port_of(listener))
    with connect(text, client_name="vïne\n"), listener.accept()[0] as server:
        assert server.recv(1 << 16) == _connect_message(b"vine_1", b"v?ne?", 30)


def test_address_without_a_sock_id_is_plain_tcp(listener: socket.socket) -> None:
    text = address(port_of(listener), sock=None)
    with connect(text) as client, listener.accept()[0] as server:
        client.sendall(b"mine")
        assert server.recv(1 << 16) == b"mine"


def test_socket_is_blocking_close_on_exec_undelayed_and_kept_alive(
    listener: socket.socket,
) -> None:
    with connect(Sinful.parse(address(port_of(listener)))) as client, listener.accept()[0]:
        assert client.gettimeout() is None
        assert os.get_blocking(client.fileno())
        assert not os.get_inheritable(client.fileno())
        assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert helpers.probes(client) == (8, 8, 75)


@pytest.mark.parametrize(
    "text", ["60/10/6", "1/2/3", pytest.param(f"{random.randint(2, 999)}/5/7", id="drawn")]
)
def test_silent_connection_is_probed_as_asked(listener: socket.socket, text: str) -> None:
    where = address(port_of(listener))
    with connect(where, keepalive=text) as client, listener.accept()[0]:
        assert "/".join(map(str, helpers.probes(client))) == text
    with connect(where, keepalive="off") as client, listener.accept()[0]:
        assert not client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_nobody_behind_the_sock_id_shows_as_the_end_of_the_stream(
    listener: socket.socket,
) -> None:
    with connect(address(port_of(listener))) as client:
        listener.accept()[0].close()
        client.settimeout(10)
        assert helpers.is_closed(client)
