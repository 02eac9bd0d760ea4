"""The endpoint alone: its socket file, and every way a connection can take."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vine_sharedport.errors import EndpointError, HandOffTimeout
from vine_sharedport.link import endpoint as endpoint_module
from vine_sharedport.link import fdpass
from vine_sharedport.link.counters import Refusal
from vine_sharedport.link.endpoint import MAX_DIRECTORY, MAX_PATH, Endpoint, Limits

from ..fake_shared_port import PASS_SOCK
from . import helpers


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def endpoint(short_directory: Path, clock: Clock) -> Iterator[Endpoint]:
    with Endpoint("vine_1", str(short_directory), clock=clock) as made:
        yield made


@pytest.fixture
def small(short_directory: Path, clock: Clock) -> Iterator[Endpoint]:
    """An endpoint that lets three connections wait."""
    limits = Limits(hand_off=10, first_bytes=30, pending=3)
    with Endpoint("vine_1", str(short_directory), limits=limits, clock=clock) as made:
        yield made


def refusals(endpoint: Endpoint) -> dict[Refusal, int]:
    return dict(endpoint.refused)


def poll_one(endpoint: Endpoint) -> socket.socket:
    (client,) = endpoint.poll(10)
    return client


# ---- the way of a good connection ----


def test_client_that_has_spoken_is_returned_with_its_bytes_unread(endpoint: Endpoint) -> None:
    with helpers.handed_off(endpoint.path, b"hello") as client:
        with poll_one(endpoint) as server:
            assert server.recv(10) == b"hello"
            assert server.getpeername() == client.getsockname()
            server.sendall(b"welcome")
            assert client.recv(10) == b"welcome"
        assert client.recv(1) == b""
    assert refusals(endpoint) == {}
    assert endpoint.pending == 0


def test_client_by_ipv6_is_returned(endpoint: Endpoint) -> None:
    try:
        client, server = helpers.tcp_pair(socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with client, helpers.hand_off(endpoint.path, server):
        client.sendall(b"6")
        with poll_one(endpoint) as taken:
            assert taken.getpeername()[:2] == client.getsockname()[:2]


def test_returned_client_is_non_blocking_and_close_on_exec(endpoint: Endpoint) -> None:
    with helpers.handed_off(endpoint.path, b"x"), poll_one(endpoint) as server:
        assert not server.getblocking()
        assert not os.get_blocking(server.fileno())
        assert not os.get_inheritable(server.fileno())


def test_every_descriptor_on_the_way_is_close_on_exec(endpoint: Endpoint) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with helpers.handed_off(endpoint.path), helpers.connect_unix(endpoint.path) as conn:
        conn.sendall(PASS_SOCK[:5])
        endpoint.poll()
        assert endpoint.pending == 2
        new = [int(name) for name in set(os.listdir("/proc/self/fd")) - before]
        assert len(new) >= 5
        for fd in new:
            with contextlib.suppress(OSError):  # the listing's own
                assert not os.get_inheritable(fd)


def test_accept_waits_for_the_client_and_returns_it_blocking(endpoint: Endpoint) -> None:
    with helpers.handed_off(endpoint.path) as client:
        with pytest.raises(HandOffTimeout, match=r"no client came to vine_1 within 0 s"):
            endpoint.accept(0)
        client.sendall(b"x")
        with endpoint.accept() as server:
            assert os.get_blocking(server.fileno())
            assert server.gettimeout() is None
            assert server.recv(1) == b"x"


def test_accept_takes_one_and_leaves_the_others_for_the_next_call(endpoint: Endpoint) -> None:
    with contextlib.ExitStack() as stack:
        # One half is held when it speaks, the other half arrives speaking.
        held = [stack.enter_context(helpers.handed_off(endpoint.path)) for _ in range(10)]
        assert endpoint.poll() == []
        for number, client in enumerate(held):
            client.sendall(b"%d" % number)
        for number in range(10, 20):
            stack.enter_context(helpers.handed_off(endpoint.path, b"%d" % number))
        said = set()
        for _ in range(20):
            with endpoint.accept(10) as server:
                said.add(int(server.recv(9)))
        with pytest.raises(HandOffTimeout):
            endpoint.accept(0)
    assert said == set(range(20))
    assert refusals(endpoint) == {}


def test_accept_times_out_on_the_clock_of_its_endpoint(short_directory: Path) -> None:
    with Endpoint("vine_1", str(short_directory)) as endpoint:
        before = time.monotonic()
        with pytest.raises(TimeoutError):
            endpoint.accept(0.05)
        assert 0.05 <= time.monotonic() - before < 5


def test_many_clients_come_in_one_poll_each_once(endpoint: Endpoint) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(200):
            stack.enter_context(helpers.handed_off(endpoint.path, b"%d" % number))
        ready = endpoint.poll()
        said = [int(server.recv(9)) for server in ready]
        for server in ready:
            server.close()
        assert sorted(said) == list(range(200))
        assert endpoint.poll() == []


def test_most_bounds_a_poll_and_loses_nobody(endpoint: Endpoint) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(helpers.handed_off(endpoint.path, b"x"))
        sizes = []
        for _ in range(4):
            ready = endpoint.poll(most=3)
            sizes.append(len(ready))
            for server in ready:
                server.close()
    assert sizes == [3, 3, 3, 1]


def test_silent_client_is_held_until_it_speaks(endpoint: Endpoint) -> None:
    with helpers.handed_off(endpoint.path) as client:
        assert endpoint.poll() == []
        assert endpoint.pending == 1
        client.sendall(b"x")
        poll_one(endpoint).close()


def test_connection_of_the_shared_port_is_closed_while_the_client_is_silent(
    endpoint: Endpoint,
) -> None:
    client, server = helpers.tcp_pair()
    with client, helpers.hand_off(endpoint.path, server) as conn:
        assert endpoint.poll() == []
        assert conn.recv(1) == b""


def test_last_bytes_of_a_client_that_has_gone_are_not_lost(endpoint: Endpoint) -> None:
    client, server = helpers.tcp_pair()
    client.sendall(b"last")
    client.close()
    with helpers.hand_off(endpoint.path, server), poll_one(endpoint) as taken:
        assert helpers.receive_all(taken) == b"last"


def test_one_slow_connection_delays_no_other(endpoint: Endpoint) -> None:
    with helpers.connect_unix(endpoint.path) as slow:
        slow.sendall(PASS_SOCK[:7])
        with helpers.handed_off(endpoint.path, b"x"):
            poll_one(endpoint).close()
        assert endpoint.pending == 1


def test_fileno_is_readable_exactly_while_poll_has_work(endpoint: Endpoint) -> None:
    with select.epoll() as outer:
        outer.register(endpoint.fileno(), select.EPOLLIN)
        assert outer.poll(0) == []
        with helpers.handed_off(endpoint.path) as client:
            assert outer.poll(10)
            endpoint.poll()
            assert outer.poll(0) == []
            client.sendall(b"x")
            assert outer.poll(10)
            poll_one(endpoint).close()
            assert outer.poll(0) == []


# ---- how the bytes arrive ----


@pytest.mark.parametrize("step", [1, 5, 12])
def test_header_in_pieces_is_the_same_header(endpoint: Endpoint, step: int) -> None:
    client, server = helpers.tcp_pair()
    with client, server, helpers.connect_unix(endpoint.path) as conn:
        client.sendall(b"x")
        for start in range(0, len(PASS_SOCK), step):
            conn.sendall(PASS_SOCK[start : start + step])
            assert endpoint.poll() == []
        assert endpoint.pending == 1
        helpers.send_fds(conn, server.fileno())
        poll_one(endpoint).close()


def test_header_and_descriptor_in_one_burst_are_kept_apart(endpoint: Endpoint) -> None:
    """A receive that runs on beyond the header would lose the descriptor."""
    with helpers.handed_off(endpoint.path, b"x"):
        poll_one(endpoint).close()


def test_descriptor_in_one_write_with_the_header_is_refused(endpoint: Endpoint) -> None:
    client, server = helpers.tcp_pair()
    with client, helpers.connect_unix(endpoint.path) as conn:
        helpers.send_fds(conn, server.fileno(), data=PASS_SOCK + b"\0")
        server.close()
        assert endpoint.poll() == []
        # The kernel has dropped the descriptor with the header's bytes: none leaks.
        assert helpers.is_closed(client)
    assert refusals(endpoint) == {Refusal.NO_DESCRIPTOR: 1}


# ---- refusals ----


@pytest.mark.parametrize(
    "header",
    [
        PASS_SOCK[:-1] + b"\x4b",  # SHARED_PORT_CONNECT
        b"\0" + PASS_SOCK[1:],  # not the last frame
        b"GET / HTTP/1.1",
        b"\0" * 13,
    ],
)
def test_other_message_is_no_hand_off(endpoint: Endpoint, header: bytes) -> None:
    client, server = helpers.tcp_pair()
    with client, server, helpers.connect_unix(endpoint.path) as conn:
        conn.sendall(header)
        helpers.send_fds(conn, server.fileno())
        assert endpoint.poll() == []
        assert helpers.is_closed(conn)
    assert refusals(endpoint) == {Refusal.NOT_A_HAND_OFF: 1}


@pytest.mark.parametrize("size", range(13))
def test_connection_that_ends_within_the_header_is_no_hand_off(
    endpoint: Endpoint, size: int
) -> None:
    with helpers.connect_unix(endpoint.path) as conn:
        conn.sendall(PASS_SOCK[:size])
    endpoint.poll()
    assert endpoint.poll() == []
    assert endpoint.pending == 0
    assert refusals(endpoint) == {Refusal.NOT_A_HAND_OFF: 1}


def test_connection_that_ends_after_the_header_brings_no_descriptor(
    endpoint: Endpoint,
) -> None:
    with helpers.connect_unix(endpoint.path) as conn:
        conn.sendall(PASS_SOCK)
    assert endpoint.poll() == []
    assert refusals(endpoint) == {Refusal.NO_DESCRIPTOR: 1}


def test_byte_without_a_descriptor_is_refused(endpoint: Endpoint) -> None:
    with helpers.connect_unix(endpoint.path) as conn:
        conn.sendall(PASS_SOCK + b"\0")
        assert endpoint.poll() == []
        assert helpers.is_closed(conn)
    assert refusals(endpoint) == {Refusal.NO_DESCRIPTOR: 1}


def test_two_descriptors_are_refused_and_closed(endpoint: Endpoint) -> None:
    first, second = helpers.tcp_pair(), helpers.tcp_pair()
    with first[0], second[0], helpers.connect_unix(endpoint.path) as conn:
        conn.sendall(PASS_SOCK)
        helpers.send_fds(conn, first[1].fileno(), second[1].fileno())
        first[1].close()
        second[1].close()
        first[0].sendall(b"x")
        assert endpoint.poll() == []
        assert helpers.is_closed(first[0])
        assert helpers.is_closed(second[0])
    assert endpoint.pending == 0
    assert sum(endpoint.refused.values()) == 1


def _pipe() -> tuple[int, int]:
    return os.pipe()


def _file() -> tuple[int, int]:
    return os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)


def _unix() -> tuple[int, int]:
    a, b = socket.socketpair()
    return a.detach(), b.detach()


def _udp() -> tuple[int, int]:
    return tuple(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach() for _ in "ab")


def _epoll() -> tuple[int, int]:
    with select.epoll() as epoll:
        return os.dup(epoll.fileno()), os.dup(epoll.fileno())


@pytest.mark.parametrize("make", [_pipe, _file, _unix, _udp, _epoll])
def test_descriptor_that_is_no_tcp_connection_is_closed(endpoint: Endpoint, make) -> None:
    passed, other = make()
    target = os.stat(passed).st_ino
    with helpers.hand_off(endpoint.path, passed) as conn:
        os.close(passed)
        os.close(other)
        assert endpoint.poll() == []
        assert helpers.is_closed(conn)
    assert refusals(endpoint) == {Refusal.NO_DESCRIPTOR: 1}
    assert endpoint.pending == 0
    if make is not _file and make is not _epoll:
        links = [os.readlink(f"/proc/self/fd/{fd}") for fd in _open_descriptors()]
        assert not [link for link in links if f"[{target}]" in link]


def _open_descriptors() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            os.stat(f"/proc/self/fd/{name}")
            found.append(int(name))
    return found


@pytest.mark.parametrize("listening", [False, True])
def test_tcp_socket_that_is_not_connected_is_closed(
    endpoint: Endpoint, listening: bool
) -> None:
    sock = socket.socket()
    if listening:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
    with helpers.hand_off(endpoint.path, sock):
        assert endpoint.poll() == []
    assert endpoint.pending == 0
    assert refusals(endpoint) == {Refusal.CLOSED_EARLY: 1}


@pytest.mark.parametrize("end", [socket.socket.close, helpers.reset])
@pytest.mark.parametrize("held", [False, True])
def test_client_that_ends_before_its_first_byte_is_dropped(
    endpoint: Endpoint, end, held: bool
) -> None:
    client, server = helpers.tcp_pair()
    if not held:
        end(client)
    with helpers.hand_off(endpoint.path, server):
        if held:
            assert endpoint.poll() == []
            assert endpoint.pending == 1
            end(client)
            endpoint.poll(10)
        else:
            assert endpoint.poll() == []
    assert endpoint.pending == 0
    assert refusals(endpoint) == {Refusal.CLOSED_EARLY: 1}


def test_client_that_only_ends_its_sending_is_told_so(endpoint: Endpoint) -> None:
    with helpers.handed_off(endpoint.path) as client:
        endpoint.poll()
        client.shutdown(socket.SHUT_WR)
        assert endpoint.poll(10) == []
        assert helpers.is_closed(client)


def _connect_as(uid: int, path: str) -> None:
    """Connect from a process of another user, and wait for the end of the connection."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.setuid(uid)
            with helpers.connect_unix(path) as conn:
                conn.sendall(PASS_SOCK)
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_other_user_is_refused(
    endpoint: Endpoint, short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:
        # The file's mode alone keeps it out; this is what stands behind.
        short_directory.chmod(0o711)
        os.chmod(endpoint.path, 0o666)
        _connect_as(65534, endpoint.path)
    else:
        foreign = fdpass.Credentials(1, os.geteuid() + 1)
        monkeypatch.setattr(fdpass, "peer_credentials", lambda conn: foreign)
        with helpers.connect_unix(endpoint.path) as conn:
            conn.sendall(PASS_SOCK)
            endpoint.poll()
            assert helpers.is_closed(conn)
    assert endpoint.poll() == []
    assert endpoint.pending == 0
    assert refusals(endpoint) == {Refusal.FOREIGN_USER: 1}


@pytest.mark.parametrize("uid", [0, os.geteuid()])
def test_root_and_our_own_user_are_let_in(
    endpoint: Endpoint, uid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fdpass, "peer_credentials", lambda conn: fdpass.Credentials(1, uid))
    with helpers.handed_off(endpoint.path, b"x"):
        poll_one(endpoint).close()


def test_credentials_are_the_kernels(endpoint: Endpoint) -> None:
    left, right = socket.socketpair()
    with left, right:
        credentials = fdpass.peer_credentials(left)
    assert (credentials.pid, credentials.uid) == (os.getpid(), os.geteuid())


# ---- time ----


def test_next_deadline_is_that_of_the_oldest(endpoint: Endpoint, clock: Clock) -> None:
    assert endpoint.next_deadline is None
    with helpers.handed_off(endpoint.path), helpers.connect_unix(endpoint.path):
        endpoint.poll()
        assert endpoint.next_deadline == 1010
        clock.now = 1010
        endpoint.poll()
        assert endpoint.next_deadline == 1030
        clock.now = 1030
        endpoint.poll()
    assert endpoint.next_deadline is None
    assert refusals(endpoint) == {Refusal.STALLED: 1, Refusal.SILENT: 1}


@pytest.mark.parametrize("sent", [b"", PASS_SOCK[:6], PASS_SOCK])
def test_hand_off_that_stalls_is_dropped_at_its_deadline(
    endpoint: Endpoint, clock: Clock, sent: bytes
) -> None:
    with helpers.connect_unix(endpoint.path) as conn:
        conn.sendall(sent)
        endpoint.poll()
        clock.now += 9.9
        endpoint.poll()
        assert endpoint.pending == 1
        clock.now += 0.2
        endpoint.poll()
        assert helpers.is_closed(conn)
    assert refusals(endpoint) == {Refusal.STALLED: 1}


def test_bytes_that_trickle_do_not_put_the_deadline_off(
    endpoint: Endpoint, clock: Clock
) -> None:
    with helpers.connect_unix(endpoint.path) as conn:
        for byte in PASS_SOCK[:11]:
            conn.sendall(bytes([byte]))
            endpoint.poll()
            clock.now += 1
        endpoint.poll()
        assert helpers.is_closed(conn)
    assert refusals(endpoint) == {Refusal.STALLED: 1}


def test_silent_client_is_dropped_at_its_deadline(endpoint: Endpoint, clock: Clock) -> None:
    with helpers.handed_off(endpoint.path) as client:
        endpoint.poll()
        clock.now += 29.9
        endpoint.poll()
        assert endpoint.pending == 1
        clock.now += 0.2
        endpoint.poll()
        assert helpers.is_closed(client)
    assert refusals(endpoint) == {Refusal.SILENT: 1}


def test_clients_that_came_in_time_are_kept_however_long_the_owner_was_away(
    endpoint: Endpoint, clock: Clock
) -> None:
    with helpers.handed_off(endpoint.path) as held, helpers.connect_unix(endpoint.path) as conn:
        endpoint.poll()
        held.sendall(b"held")
        client, server = helpers.tcp_pair()
        with client, server, helpers.handed_off(endpoint.path, b"new"):
            client.sendall(b"late")
            conn.sendall(PASS_SOCK)
            helpers.send_fds(conn, server.fileno())
            clock.now += 10_000
            said = set()
            for server in endpoint.poll():
                said.add(server.recv(9))
                server.close()
    assert said == {b"held", b"new", b"late"}
    assert refusals(endpoint) == {}


def test_poll_wakes_by_itself_for_a_deadline(short_directory: Path) -> None:
    limits = Limits(hand_off=0.05, first_bytes=0.05)
    with (
        Endpoint("vine_1", str(short_directory), limits=limits) as endpoint,
        helpers.connect_unix(endpoint.path),
    ):
        endpoint.poll(10)
        assert endpoint.pending == 1
        # None would wait for ever.
        helpers.wait_until(lambda: endpoint.poll(None) or not endpoint.pending)
        assert refusals(endpoint) == {Refusal.STALLED: 1}


# ---- limits ----


def test_beyond_the_limit_the_oldest_silent_client_goes(small: Endpoint) -> None:
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(5):
            clients.append(stack.enter_context(helpers.handed_off(small.path)))
            small.poll()
        assert small.pending == 3
        assert helpers.is_closed(clients[0])
        assert helpers.is_closed(clients[1])
        for client in clients[2:]:
            client.sendall(b"x")
        ready = small.poll()
        assert len(ready) == 3
        for server in ready:
            server.close()
    assert refusals(small) == {Refusal.TOO_MANY: 2}


def test_beyond_the_limit_the_oldest_hand_off_goes_if_no_client_is_held(
    small: Endpoint,
) -> None:
    with contextlib.ExitStack() as stack:
        conns = []
        for _ in range(4):
            conns.append(stack.enter_context(helpers.connect_unix(small.path)))
            small.poll()
        assert helpers.is_closed(conns[0])
    assert refusals(small) == {Refusal.TOO_MANY: 1}


def test_clients_that_speak_at_once_are_not_bounded_by_the_limit(small: Endpoint) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(helpers.handed_off(small.path, b"x"))
        ready = small.poll()
        assert len(ready) == 20
        for server in ready:
            server.close()
    assert refusals(small) == {}


def test_client_whose_bytes_are_there_does_not_have_to_make_room(small: Endpoint) -> None:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(helpers.handed_off(small.path)) for _ in range(3)]
        small.poll()
        # The newcomers knock first, then the held ones speak, and only then we look.
        for _ in range(3):
            stack.enter_context(helpers.handed_off(small.path))
        for client in held:
            client.sendall(b"x")
        ready = small.poll()
        assert len(ready) == 3
        for server in ready:
            server.close()
    assert refusals(small) == {}
    assert small.pending == 3


_DESCRIPTOR_LIMIT = """
import contextlib, os, resource, sys
from tests.link import helpers
from vine_sharedport.link.counters import Refusal
from vine_sharedport.link.endpoint import Endpoint

def leave(count):
    "Let this process open so many descriptors more."
    top = max(int(name) for name in os.listdir("/proc/self/fd"))
    for fd in range(3, top):  # no gaps
        with contextlib.suppress(OSError):
            os.fstat(fd)
            continue
        os.dup2(0, fd)
    used = len(os.listdir("/proc/self/fd")) - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + count, 4096))
"""


def _at_the_limit(directory: Path, program: str) -> None:
    program = _DESCRIPTOR_LIMIT + textwrap.dedent(program)
    result = helpers.run_python(program, str(directory))
    assert result.returncode == 0, result.stderr


def test_at_the_descriptor_limit_silent_clients_make_room(short_directory: Path) -> None:
    _at_the_limit(
        short_directory,
        """
        with Endpoint("vine_1", sys.argv[1]) as endpoint, contextlib.ExitStack() as stack:
            silent = [stack.enter_context(helpers.handed_off(endpoint.path)) for _ in range(3)]
            endpoint.poll()
            speaking = [
                stack.enter_context(helpers.handed_off(endpoint.path, b"x")) for _ in range(3)
            ]
            leave(0)
            ready = []
            for _ in range(10):
                ready += endpoint.poll()
            assert len(ready) == 3, endpoint.refused
            assert helpers.is_closed(silent[0])
            assert set(endpoint.refused) == {Refusal.DESCRIPTORS}, endpoint.refused
            for server in ready:
                server.close()
        """,
    )


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_at_the_descriptor_limit_the_others_wait_in_the_backlog(
    short_directory: Path, spare: int
) -> None:
    _at_the_limit(
        short_directory,
        f"""
        with Endpoint("vine_1", sys.argv[1]) as endpoint, contextlib.ExitStack() as stack:
            for number in range(5):
                stack.enter_context(helpers.handed_off(endpoint.path, b"%d" % number))
            leave({spare})
            first = endpoint.poll()
            assert len(first) <= {spare}
            endpoint.poll()
            assert not endpoint.refused, endpoint.refused
            said = set()
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
            for server in first + endpoint.poll():
                said.add(int(server.recv(9)))
                server.close()
            assert said == set(range(5)), said
            assert not endpoint.refused, endpoint.refused
        """,
    )


@pytest.mark.parametrize("spare", range(4))
def test_endpoint_that_cannot_be_made_for_want_of_descriptors_leaves_nothing(
    short_directory: Path, spare: int
) -> None:
    _at_the_limit(
        short_directory,
        f"""
        from vine_sharedport.errors import EndpointError
        leave({spare})
        try:
            endpoint = Endpoint("vine_1", sys.argv[1])
        except EndpointError as error:
            assert "Too many open files" in str(error), error
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
            assert os.listdir(sys.argv[1]) == []
        else:
            endpoint.close()
            assert {spare} >= 2
        """,
    )


# ---- pause ----


def test_paused_endpoint_leaves_newcomers_in_the_backlog(endpoint: Endpoint) -> None:
    with helpers.handed_off(endpoint.path) as held:
        endpoint.poll()
        endpoint.pause(True)
        endpoint.pause(True)
        with helpers.handed_off(endpoint.path, b"new"):
            assert endpoint.poll() == []
            assert endpoint.pending == 1
            held.sendall(b"held")
            with poll_one(endpoint) as server:  # who is in already goes on
                assert server.recv(9) == b"held"
            assert endpoint.poll() == []
            endpoint.pause(False)
            with poll_one(endpoint) as server:
                assert server.recv(9) == b"new"
    assert refusals(endpoint) == {}


def test_fileno_of_a_paused_endpoint_is_not_readable_for_newcomers(endpoint: Endpoint) -> None:
    endpoint.pause(True)
    with helpers.connect_unix(endpoint.path), select.epoll() as outer:
        outer.register(endpoint.fileno(), select.EPOLLIN)
        assert outer.poll(0) == []
        endpoint.pause(False)
        assert outer.poll(10)


# ---- the socket file ----


def test_socket_is_the_users_alone_whatever_the_umask(short_directory: Path) -> None:
    for umask in (0o000, 0o022, 0o077, 0o277, 0o777):
        before = os.umask(umask)
        try:
            endpoint = Endpoint("vine_1", str(short_directory))
        finally:
            os.umask(before)
        with endpoint:
            mode = os.stat(endpoint.path).st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600, f"umask {umask:o}"


def test_socket_is_never_open_to_others_not_even_for_a_moment(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Watched(socket.socket):
        def bind(self, address) -> None:
            super().bind(address)
            seen.append(stat.S_IMODE(os.stat(address).st_mode))

    monkeypatch.setattr(endpoint_module.socket, "socket", Watched)
    before = os.umask(0)
    try:
        with Endpoint("vine_1", str(short_directory)):
            pass
    finally:
        os.umask(before)
    assert seen
    assert all(mode & 0o077 == 0 for mode in seen)


def test_path_is_the_directory_and_the_sock_id(
    endpoint: Endpoint, short_directory: Path
) -> None:
    assert endpoint.path == f"{short_directory}/vine_1"
    assert endpoint.sock_id == "vine_1"


def test_close_removes_the_file_and_drops_what_is_pending(short_directory: Path) -> None:
    endpoint = Endpoint("vine_1", str(short_directory))
    with (
        helpers.handed_off(endpoint.path) as client,
        helpers.connect_unix(endpoint.path) as arrived,
    ):
        endpoint.poll()
        with helpers.connect_unix(endpoint.path) as queued:
            endpoint.close()
            endpoint.close()
            assert endpoint.pending == 0
            for sock in (client, arrived, queued):
                assert helpers.is_closed(sock)
    assert list(short_directory.iterdir()) == []


def test_close_leaves_a_file_that_is_not_ours(short_directory: Path) -> None:
    first = Endpoint("vine_1", str(short_directory))
    os.unlink(first.path)
    with Endpoint("vine_1", str(short_directory)) as second:
        first.close()
        with helpers.handed_off(second.path, b"x"):
            poll_one(second).close()


def test_stale_socket_of_a_dead_owner_is_replaced(short_directory: Path) -> None:
    path = short_directory / "vine_1"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    with Endpoint("vine_1", str(short_directory)) as endpoint:
        with helpers.handed_off(endpoint.path, b"x"):
            poll_one(endpoint).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_stale_link_is_replaced_and_its_target_left_alone(short_directory: Path) -> None:
    target = short_directory / "other"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(target))
    (short_directory / "vine_1").symlink_to(target)
    with Endpoint("vine_1", str(short_directory)):
        assert not (short_directory / "vine_1").is_symlink()
    assert target.exists()


def test_living_endpoint_is_not_replaced(endpoint: Endpoint, short_directory: Path) -> None:
    wanted = rf"'vine_1' is served by a living process \({endpoint.path}\); close .* or choose"
    with pytest.raises(EndpointError, match=wanted):
        Endpoint("vine_1", str(short_directory))
    with helpers.handed_off(endpoint.path, b"x"):
        endpoint.accept(10).close()


def test_living_endpoint_with_a_full_backlog_is_not_replaced(short_directory: Path) -> None:
    path = str(short_directory / "vine_1")
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(path)
        busy.listen(0)
        full = False
        while not full:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            try:
                waiting.connect(path)
            except BlockingIOError:
                full = True
        with pytest.raises(EndpointError, match="served by a living process"):
            Endpoint("vine_1", str(short_directory))
        assert os.path.exists(path)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_no_socket_is_never_removed(short_directory: Path, kind: str) -> None:
    path = short_directory / "vine_1"
    if kind == "file":
        path.write_text("precious")
    else:
        path.mkdir()
    with pytest.raises(EndpointError, match=f"{path} exists and is no socket; remove it"):
        Endpoint("vine_1", str(short_directory))
    assert path.is_dir() or path.read_text() == "precious"


def test_socket_of_another_kind_is_left_alone(short_directory: Path) -> None:
    path = short_directory / "vine_1"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(EndpointError, match=f"{path} is in the way: .*; remove it"):
            Endpoint("vine_1", str(short_directory))
        assert path.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may connect to every socket")
def test_socket_that_we_may_not_use_is_left_alone(short_directory: Path) -> None:
    path = short_directory / "vine_1"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        path.chmod(0)
        with pytest.raises(EndpointError, match="belongs to another user; choose another"):
            Endpoint("vine_1", str(short_directory))
        assert path.exists()


def _directory_of(size: int, parent: Path) -> str:
    name = "d" * (size - len(str(parent)) - 1)
    (parent / name).mkdir()
    return str(parent / name)


def test_directory_above_the_limit_of_htcondor_is_refused(short_directory: Path) -> None:
    directory = _directory_of(MAX_DIRECTORY + 1, short_directory)
    with pytest.raises(EndpointError) as caught:
        Endpoint("v", directory)
    assert str(caught.value) == (
        f"directory is 90 bytes, the limit is 89: {directory}; "
        "set DAEMON_SOCKET_DIR to a shorter directory"
    )


def test_directory_is_measured_in_bytes(short_directory: Path) -> None:
    directory = str(short_directory / ("ü" * ((90 - len(str(short_directory))) // 2)))
    os.mkdir(directory)
    assert len(directory) < MAX_DIRECTORY < len(os.fsencode(directory))
    with pytest.raises(EndpointError, match=r"directory is 9\d bytes, the limit is 89"):
        Endpoint("v", directory)


def test_longest_path_that_fits_works_and_one_byte_more_is_refused(
    short_directory: Path,
) -> None:
    directory = _directory_of(MAX_DIRECTORY, short_directory)
    fits = "i" * (MAX_PATH - MAX_DIRECTORY - 1)
    with Endpoint(fits, directory) as endpoint:
        assert len(endpoint.path) == 107
        with helpers.handed_off(endpoint.path, b"x"):
            poll_one(endpoint).close()
    with pytest.raises(EndpointError) as caught:
        Endpoint(fits + "i", directory)
    assert str(caught.value).startswith(
        f"socket path is 108 bytes, the limit is 107: {directory}/{fits}i; set DAEMON_"
    )


def test_sock_id_of_41_characters_works_and_42_are_refused(short_directory: Path) -> None:
    with Endpoint("i" * 41, str(short_directory)) as endpoint:
        assert os.path.exists(endpoint.path)
    with pytest.raises(EndpointError, match=r"has 42 characters, the limit .* is 41"):
        Endpoint("i" * 42, str(short_directory))


@pytest.mark.parametrize("sock_id", ["", "a/b", "..", "a b", "ä", "self"])
def test_text_that_is_no_sock_id_is_refused(short_directory: Path, sock_id: str) -> None:
    with pytest.raises(EndpointError, match="sock id"):
        Endpoint(sock_id, str(short_directory))
    assert list(short_directory.iterdir()) == []


def test_missing_directory_is_named(short_directory: Path) -> None:
    directory = short_directory / "none"
    with pytest.raises(EndpointError, match=f"socket directory {directory}: No such file"):
        Endpoint("vine_1", str(directory))


def test_directory_that_is_none_is_named(short_directory: Path) -> None:
    path = short_directory / "file"
    path.touch()
    with pytest.raises(EndpointError, match=f"socket directory {path} is not a directory"):
        Endpoint("vine_1", str(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_directory_that_is_not_writable_is_named(short_directory: Path) -> None:
    short_directory.chmod(0o500)
    with pytest.raises(EndpointError, match=rf"{short_directory}/vine_1: Permission denied"):
        Endpoint("vine_1", str(short_directory))
    short_directory.chmod(0o700)


# ---- keep_alive ----


def test_keep_alive_renews_the_files_time(endpoint: Endpoint) -> None:
    os.utime(endpoint.path, (0, 0))
    inode = os.stat(endpoint.path).st_ino
    before = time.time()
    endpoint.keep_alive()
    found = os.stat(endpoint.path)
    assert found.st_mtime >= before - 1
    assert found.st_ino == inode


def test_vanished_file_is_made_again(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    with helpers.handed_off(endpoint.path) as held:
        endpoint.poll()
        os.unlink(endpoint.path)
        endpoint.keep_alive()
        assert stat.S_IMODE(os.stat(endpoint.path).st_mode) == 0o600
        assert f"had vanished and was made again: {endpoint.path}" in caplog.text
        with helpers.handed_off(endpoint.path, b"new"), poll_one(endpoint) as server:
            assert server.recv(9) == b"new"
        held.sendall(b"held")
        with poll_one(endpoint) as server:
            assert server.recv(9) == b"held"
    path = endpoint.path
    endpoint.close()
    assert not os.path.exists(path)


def test_pause_outlives_a_vanished_file(endpoint: Endpoint) -> None:
    endpoint.pause(True)
    os.unlink(endpoint.path)
    endpoint.keep_alive()
    with helpers.handed_off(endpoint.path, b"x"):
        assert endpoint.poll() == []
        assert endpoint.pending == 0
        endpoint.pause(False)
        poll_one(endpoint).close()


def test_keep_alive_reports_a_name_that_another_has_taken(
    endpoint: Endpoint, short_directory: Path
) -> None:
    os.unlink(endpoint.path)
    with Endpoint("vine_1", str(short_directory)) as other:
        with pytest.raises(EndpointError, match="served by a living process"):
            endpoint.keep_alive()
        with helpers.handed_off(other.path, b"x"):
            other.accept(10).close()
    # Its owner has gone: ours again.
    endpoint.keep_alive()
    with helpers.handed_off(endpoint.path, b"x"):
        poll_one(endpoint).close()


def test_keep_alive_in_a_directory_that_has_vanished_fails_and_can_be_repeated(
    short_directory: Path,
) -> None:
    directory = short_directory / "sockets"
    directory.mkdir()
    with Endpoint("vine_1", str(directory)) as endpoint:
        os.unlink(endpoint.path)
        directory.rmdir()
        with pytest.raises(EndpointError, match="No such file"):
            endpoint.keep_alive()
        directory.mkdir()
        endpoint.keep_alive()
        with helpers.handed_off(endpoint.path, b"x"):
            poll_one(endpoint).close()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_nothing_is_left_in_a_process_that_has_done_everything(short_directory: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Endpoint("vine_1", str(short_directory)) as endpoint:
            with helpers.handed_off(endpoint.path, b"x"), helpers.handed_off(endpoint.path):
                poll_one(endpoint).close()
            endpoint.poll()
        assert len(os.listdir("/proc/self/fd")) == before
    assert list(short_directory.iterdir()) == []
