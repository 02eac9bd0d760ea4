"""The endpoint alone: every way that a connection can take."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fake_shared_port import PASS_SOCK
from tests.unit import helpers
from tests.values import naming
from vine_sharedport import fdpass
from vine_sharedport.errors import HandOffTimeout
from vine_sharedport.serving.counters import Refusal
from vine_sharedport.serving.endpoint import Endpoint, Limits


def refusals(endpoint: Endpoint) -> dict[Refusal, int]:
    return dict(endpoint.refused)


# ---- the way of a good connection ----


def test_client_that_has_spoken_is_returned_with_its_bytes_unread(endpoint: Endpoint) -> None:
    with helpers.handed_off(endpoint.path, b"hello") as client:
        with helpers.poll_one(endpoint) as server:
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
        with helpers.poll_one(endpoint) as taken:
            assert taken.getpeername()[:2] == client.getsockname()[:2]


def test_returned_client_is_non_blocking_and_close_on_exec(endpoint: Endpoint) -> None:
    with helpers.handed_off(endpoint.path, b"x"), helpers.poll_one(endpoint) as server:
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
        with pytest.raises(HandOffTimeout, match=naming("vine_1", "0 s")):
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
        helpers.poll_one(endpoint).close()


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
    with helpers.hand_off(endpoint.path, server), helpers.poll_one(endpoint) as taken:
        assert helpers.receive_all(taken) == b"last"


def test_one_slow_connection_delays_no_other(endpoint: Endpoint) -> None:
    with helpers.connect_unix(endpoint.path) as slow:
        slow.sendall(PASS_SOCK[:7])
        with helpers.handed_off(endpoint.path, b"x"):
            helpers.poll_one(endpoint).close()
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
            helpers.poll_one(endpoint).close()
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
        helpers.poll_one(endpoint).close()


def test_header_and_descriptor_in_one_burst_are_kept_apart(endpoint: Endpoint) -> None:
    """A receive that runs on beyond the header would lose the descriptor."""
    with helpers.handed_off(endpoint.path, b"x"):
        helpers.poll_one(endpoint).close()


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
        helpers.poll_one(endpoint).close()


@pytest.mark.true_uid
def test_credentials_are_the_kernels(endpoint: Endpoint) -> None:
    left, right = socket.socketpair()
    with left, right:
        credentials = fdpass.peer_credentials(left)
    assert (credentials.pid, credentials.uid) == (os.getpid(), os.geteuid())


# ---- time ----


def test_next_deadline_is_that_of_the_oldest(endpoint: Endpoint, clock: helpers.Clock) -> None:
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
    endpoint: Endpoint, clock: helpers.Clock, sent: bytes
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
    endpoint: Endpoint, clock: helpers.Clock
) -> None:
    with helpers.connect_unix(endpoint.path) as conn:
        for byte in PASS_SOCK[:11]:
            conn.sendall(bytes([byte]))
            endpoint.poll()
            clock.now += 1
        endpoint.poll()
        assert helpers.is_closed(conn)
    assert refusals(endpoint) == {Refusal.STALLED: 1}


def test_silent_client_is_dropped_at_its_deadline(
    endpoint: Endpoint, clock: helpers.Clock
) -> None:
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
    endpoint: Endpoint, clock: helpers.Clock
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


def test_time_that_passes_after_the_look_is_not_held_against_the_clients(
    endpoint: Endpoint, clock: helpers.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        """Sees nothing yet; then the process is stopped for a while, and the client speaks."""

        def __getattr__(self, name: str) -> Any:
            return getattr(epoll, name)

        def poll(self, *args: Any) -> list[tuple[int, int]]:
            events = epoll.poll(*args)
            client.sendall(b"x")
            clock.now += 1000
            return events

    with helpers.handed_off(endpoint.path) as client:
        endpoint.poll()
        epoll = endpoint._epoll
        monkeypatch.setattr(endpoint, "_epoll", Interrupted())
        assert endpoint.poll() == []
        monkeypatch.undo()
        helpers.poll_one(endpoint).close()
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
from tests.unit import helpers
from vine_sharedport.serving.counters import Refusal
from vine_sharedport.serving.endpoint import Endpoint

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
            with helpers.poll_one(endpoint) as server:  # who is in already goes on
                assert server.recv(9) == b"held"
            assert endpoint.poll() == []
            endpoint.pause(False)
            with helpers.poll_one(endpoint) as server:
                assert server.recv(9) == b"new"
    assert refusals(endpoint) == {}


def test_fileno_of_a_paused_endpoint_is_not_readable_for_newcomers(endpoint: Endpoint) -> None:
    endpoint.pause(True)
    with helpers.connect_unix(endpoint.path), select.epoll() as outer:
        outer.register(endpoint.fileno(), select.EPOLLIN)
        assert outer.poll(0) == []
        endpoint.pause(False)
        assert outer.poll(10)
