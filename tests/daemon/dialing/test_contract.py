"""What we rely on in condor_shared_port: the same tests for the daemon and for our fake."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fake_shared_port import PASS_SOCK, FakeSharedPort
from tests.unit import helpers
from tests.values import naming
from vine_sharedport import fdpass
from vine_sharedport.condor.own_pool import discover
from vine_sharedport.condor.personal import PersonalPool
from vine_sharedport.dialing.dial import connect
from vine_sharedport.errors import SettingError
from vine_sharedport.serving.endpoint import Endpoint
from vine_sharedport.wire.sinful import Sinful

SOCK_ID = f"contract_{os.getpid()}"


@dataclass
class SharedPort:
    """A shared port and the directory in which it looks."""

    address: Sinful
    directory: str

    def connect(self, sock_id: str = SOCK_ID) -> socket.socket:
        """Connect to an endpoint; answers come within 10 s."""
        client = connect(self.address.with_sock(sock_id), timeout=10)
        client.settimeout(10)
        return client

    def endpoint(self, sock_id: str = SOCK_ID) -> Endpoint:
        return Endpoint(sock_id, self.directory)


class Contract:
    """The tests; what they are about comes from the fixture ``shared_port``."""

    def test_client_is_handed_over_with_its_own_address(self, shared_port: SharedPort) -> None:
        with shared_port.endpoint() as endpoint, shared_port.connect() as client:
            client.sendall(b"hello")
            with endpoint.accept(10) as server:
                assert server.getpeername() == client.getsockname()
                assert server.getsockname() == client.getpeername()
                assert server.recv(100) == b"hello"
                server.sendall(b"welcome")
                assert client.recv(100) == b"welcome"
            assert endpoint.refused == {}

    def test_bytes_that_follow_the_header_at_once_arrive_unchanged(
        self, shared_port: SharedPort
    ) -> None:
        sent = random.Random(1).randbytes(4_000_000)
        with shared_port.endpoint() as endpoint:

            def send() -> None:
                with shared_port.connect() as client:
                    client.sendall(sent)

            for _ in range(5):
                sender = threading.Thread(target=send)
                sender.start()
                received = hashlib.sha256()
                with endpoint.accept(10) as server:
                    server.settimeout(10)
                    for part in iter(lambda: server.recv(1 << 20), b""):
                        received.update(part)
                sender.join()
                assert received.digest() == hashlib.sha256(sent).digest()

    def test_handed_over_descriptor_is_non_blocking_and_close_on_exec(
        self, shared_port: SharedPort
    ) -> None:
        with shared_port.endpoint() as endpoint, shared_port.connect() as client:
            client.sendall(b"x")
            (server,) = helpers.wait_until(endpoint.poll)
            with server:
                assert not os.get_blocking(server.fileno())
                assert not os.get_inheritable(server.fileno())

    def test_client_sees_the_end_at_once_when_we_close(self, shared_port: SharedPort) -> None:
        with shared_port.endpoint() as endpoint, shared_port.connect() as client:
            client.sendall(b"x")
            with endpoint.accept(10) as server:
                server.recv(1)
            # The endpoint is open and was not asked again: no copy is left anywhere.
            client.settimeout(1)
            assert client.recv(1) == b""

    def test_shared_port_keeps_its_copy_until_the_unix_connection_is_closed(
        self, shared_port: SharedPort
    ) -> None:
        with _raw_endpoint(shared_port.directory) as listener, shared_port.connect() as client:
            conn, _ = listener.accept()
            with conn:
                assert conn.recv(len(PASS_SOCK)) == PASS_SOCK
                select.select([conn], [], [], 10)
                data, fd = fdpass.receive_fd(conn)
                assert data == b"\0"
                assert fd is not None
                os.close(fd)
                client.settimeout(0.2)
                with pytest.raises(socket.timeout):
                    client.recv(1)
            client.settimeout(10)
            assert client.recv(1) == b""

    def test_client_of_an_unknown_sock_id_is_closed(self, shared_port: SharedPort) -> None:
        with shared_port.connect(f"{SOCK_ID}_unknown") as client:
            assert _is_closed(client)

    def test_client_of_a_dead_endpoint_is_closed(self, shared_port: SharedPort) -> None:
        with _raw_endpoint(shared_port.directory) as listener:
            listener.close()
            with shared_port.connect() as client:
                assert _is_closed(client)

    def test_clients_beyond_the_receivers_backlog_are_closed_at_once(
        self, shared_port: SharedPort
    ) -> None:
        backlog = 1
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(
                _raw_endpoint(shared_port.directory, backlog=backlog)
            )
            clients = [stack.enter_context(shared_port.connect()) for _ in range(6)]
            with select.epoll() as closed:
                for client in clients:
                    closed.register(client, select.EPOLLIN)
                helpers.wait_until(lambda: len(closed.poll(0)) >= 4)
                for _ in range(backlog + 1):
                    listener.accept()[0].close()
                helpers.wait_until(lambda: len(closed.poll(0)) == 6)
                listener.settimeout(0)
                with pytest.raises(BlockingIOError):
                    listener.accept()

    def test_sock_id_of_41_characters_works(self, shared_port: SharedPort) -> None:
        sock_id = (SOCK_ID + "_" + "x" * 41)[:41]
        with shared_port.endpoint(sock_id) as endpoint, shared_port.connect(sock_id) as client:
            client.sendall(b"x")
            endpoint.accept(10).close()

    def test_sock_id_of_42_characters_is_refused_by_us_and_by_the_shared_port(
        self, shared_port: SharedPort
    ) -> None:
        sock_id = (SOCK_ID + "_" + "x" * 42)[:42]
        with pytest.raises(SettingError, match=naming(42, 41)):
            shared_port.connect(sock_id)
        with pytest.raises(SettingError, match=naming(42, 41)):
            shared_port.endpoint(sock_id)
        with _raw_endpoint(shared_port.directory, sock_id) as listener:
            client = socket.create_connection(
                (shared_port.address.host, shared_port.address.port), 10
            )
            with client:
                text = b"\0".join((sock_id.encode(), b"test", b""))
                payload = _int(75) + text + _int(-1) + _int(0)
                client.sendall(b"\1" + len(payload).to_bytes(4, "big") + payload)
                assert _is_closed(client)
            listener.settimeout(0)
            with pytest.raises(BlockingIOError):
                listener.accept()

    def test_500_clients_at_once_all_come_in(self, shared_port: SharedPort) -> None:
        with shared_port.endpoint() as endpoint, contextlib.ExitStack() as stack:
            stack.enter_context(helpers.descriptors(3000))
            for number in range(500):
                client = stack.enter_context(shared_port.connect())
                client.sendall(b"%d" % number)
            said: list[int] = []
            while len(said) < 500:
                for server in helpers.wait_until(endpoint.poll):
                    with server:
                        said.append(int(server.recv(9)))
            assert sorted(said) == list(range(500))
            assert endpoint.refused == {}


class TestFakeSharedPort(Contract):
    @pytest.fixture
    def shared_port(self, short_directory: Path) -> Iterator[SharedPort]:
        with FakeSharedPort(str(short_directory)) as fake:
            yield SharedPort(Sinful.parse(fake.address()), str(short_directory))


@pytest.mark.daemon
class TestCondorSharedPort(Contract):
    @pytest.fixture
    def shared_port(self, pool: PersonalPool) -> SharedPort:
        found = discover()
        return SharedPort(found.address, found.socket_dir)


@contextlib.contextmanager
def _raw_endpoint(
    directory: str, sock_id: str = SOCK_ID, *, backlog: int = 10
) -> Iterator[socket.socket]:
    """Listen where an endpoint would, without being one."""
    path = os.path.join(directory, sock_id)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(10)
        listener.bind(path)
        try:
            listener.listen(backlog)
            yield listener
        finally:
            os.unlink(path)


def _is_closed(client: socket.socket) -> bool:
    """Whether the client is told the end; waits for it."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def _int(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)
