"""The client's way in: which addresses are tried, for how long, and what is sent."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator

import pytest

from vine_sharedport.errors import (
    DialError,
    DialTimeout,
    EndpointError,
    SinfulError,
)
from vine_sharedport.link.dial import candidates, connect
from vine_sharedport.wire.sinful import Sinful

from . import helpers


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
    """A port that answers nothing at all, as behind a firewall: its backlog is full."""
    with contextlib.ExitStack() as stack:
        mute = stack.enter_context(socket.socket())
        mute.bind(("127.0.0.1", 0))
        mute.listen(0)
        stack.enter_context(socket.create_connection(mute.getsockname()))
        with socket.socket() as probe:
            probe.settimeout(0.1)
            with pytest.raises(socket.timeout):
                probe.connect(mute.getsockname())
        yield port_of(mute)


def address(*ports: int, sock: str | None = "vine_1") -> str:
    """Return an address whose candidates are these ports, in order."""
    addrs = "+".join(f"127.0.0.1-{port}" for port in ports)
    return f"<127.0.0.1:{ports[0]}?addrs={addrs}{'' if sock is None else f'&sock={sock}'}>"


# ---- candidates ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<192.0.2.7:9618>", [("192.0.2.7", 9618)]),
        ("<192.0.2.7:9618?sock=a>", [("192.0.2.7", 9618)]),
        ("<[2001:db8::7]:9618?sock=a>", [("2001:db8::7", 9618)]),
        (
            "<192.0.2.7:9618?addrs=192.0.2.7-9618+[2001-db8--7]-9618&alias=ap.example.org>",
            [("192.0.2.7", 9618), ("2001:db8::7", 9618), ("ap.example.org", 9618)],
        ),
        (  # a forwarder's public address comes after what the host has itself
            "<203.0.113.1:9618?addrs=10.0.0.1-9619>",
            [("10.0.0.1", 9619), ("203.0.113.1", 9618)],
        ),
        ("<192.0.2.7?addrs=10.0.0.1-9619>", [("10.0.0.1", 9619)]),
        ("<192.0.2.7>", []),
    ],
)
def test_candidates_are_the_literal_addresses_then_the_host_then_the_alias(
    text: str, expected: list[tuple[str, int]]
) -> None:
    assert candidates(Sinful.parse(text)) == expected


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


def test_candidate_without_an_answer_leaves_time_for_the_others(
    listener: socket.socket, mute_port: int
) -> None:
    before = time.monotonic()
    with connect(address(mute_port, port_of(listener)), timeout=1.0), listener.accept()[0]:
        assert 0.4 < time.monotonic() - before < 0.9


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


def test_one_deadline_is_shared_by_all_candidates(mute_port: int) -> None:
    # Another address that leads to the same host.
    text = f"<127.0.0.1:{mute_port}?addrs=127.0.0.1-{mute_port}&alias=localhost&sock=vine_1>"
    before = time.monotonic()
    with pytest.raises(DialTimeout) as caught:
        connect(text, timeout=0.4)
    assert 0.35 < time.monotonic() - before < 1
    assert str(caught.value).count("no answer in time") == 2


def test_one_deadline_is_shared_by_all_addresses_of_a_name(
    mute_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = socket.getaddrinfo("127.0.0.1", mute_port, type=socket.SOCK_STREAM)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found * 5)
    before = time.monotonic()
    with pytest.raises(TimeoutError):
        connect(f"<many.example.org:{mute_port}?sock=vine_1>", timeout=0.5)
    assert 0.4 < time.monotonic() - before < 1


def test_first_address_of_a_name_may_be_mute(
    mute_port: int, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def both(host: str, port: int, *args: object, **kwargs: object) -> list[object]:
        ports = (mute_port, port_of(listener))
        return [resolve("127.0.0.1", port, type=socket.SOCK_STREAM)[0] for port in ports]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with connect("<two.example.org:9618?sock=vine_1>", timeout=0.6), listener.accept()[0]:
        pass


# ---- failures ----


def test_failure_names_each_candidate_and_its_reason(closed_port: int, mute_port: int) -> None:
    text = f"<127.0.0.1:{closed_port}?addrs=127.0.0.1-{mute_port}&sock=vine_1>"
    with pytest.raises(DialError) as caught:
        connect(text, timeout=0.4)
    assert not isinstance(caught.value, DialTimeout)
    assert str(caught.value) == (
        f"cannot reach {text}: 127.0.0.1 port {mute_port}: no answer in time; "
        f"127.0.0.1 port {closed_port}: Connection refused"
    )


def test_name_that_does_not_resolve_is_a_dial_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    wanted = "gone.example.org port 9618: Name or service not known"
    with pytest.raises(DialError, match=wanted):
        connect("<gone.example.org:9618?sock=vine_1>")


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
    with pytest.raises(EndpointError, match="'a b'"):
        connect(text)
    _expect_nothing(listener)


def _expect_nothing(listener: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        listener.settimeout(0)
        with listener.accept()[0] as server:
            server.settimeout(10)
            assert server.recv(1) == b""


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


def test_nobody_behind_the_sock_id_shows_as_the_end_of_the_stream(
    listener: socket.socket,
) -> None:
    with connect(address(port_of(listener))) as client:
        listener.accept()[0].close()
        client.settimeout(10)
        assert helpers.is_closed(client)
