"""The gate as the shim goes through it, against servers that are slow, early or false."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.hook.support import wait_until_asleep_in
from vine_sharedport.wire.cedar import MessageDecoder
from vine_sharedport.wire.gate import NONCE_SIZE, GateServer
from vine_sharedport.wire.handoff import Connect, decode_connect

from .support import CONNECT, RESERVED, SECRET, SOCK_ID, Client

ANSWER = 48


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "secret").chmod(0o600)
    return str(tmp_path / "secret")


def receive(conn: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = conn.recv(size - len(data))
        assert part, f"the client has closed the connection {size - len(data)} bytes early"
        data += part
    return data


def read_connect(conn: socket.socket) -> Connect:
    """Read the CONNECT message, and not a byte beyond."""
    decoder, found = MessageDecoder(), []
    while not found:
        found = decoder.feed(receive(conn, 1))
    return decode_connect(found[0])


@contextlib.contextmanager
def server(serve: Callable[[socket.socket], None], *, times: int = 1) -> Iterator[str]:
    """Let ``serve`` have the next connections; yield the address."""
    failures: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def run() -> None:
            try:
                for _ in range(times):
                    conn, _address = listener.accept()
                    with conn:
                        conn.settimeout(20)
                        serve(conn)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"<127.0.0.1:{listener.getsockname()[1]}?sock={SOCK_ID}>"
        thread.join()
    if failures:
        raise failures[0]


def open_gate(conn: socket.socket, send: Callable[[bytes], object]) -> bytes:
    """Go through the server's side; return its last message, unsent."""
    connect = read_connect(conn)
    assert connect.sock_id == SOCK_ID
    gate = GateServer(SECRET, SOCK_ID, os.urandom(NONCE_SIZE))
    send(gate.greeting())
    return gate.feed(receive(conn, ANSWER))


def test_what_the_manager_says_with_its_proof_is_the_workers(
    client: Client, secret_file: str
) -> None:
    def serve(conn: socket.socket) -> None:
        conn.sendall(open_gate(conn, conn.sendall) + b"early\n")
        assert conn.recv(100) == b"there\n"  # and nothing of ours before it

    with server(serve) as address:
        done = client.run(
            *CONNECT, "hear", "send", "there", address=address, secret_file=secret_file
        )
    assert done.lines("heard") == ["early"], done.stderr


def test_messages_may_come_byte_by_byte(client: Client, secret_file: str) -> None:
    def serve(conn: socket.socket) -> None:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def trickle(data: bytes) -> None:
            for byte in data:
                conn.sendall(bytes([byte]))
                time.sleep(0.002)

        trickle(open_gate(conn, trickle) + b"early\n")

    with server(serve) as address:
        done = client.run(*CONNECT, "hear", address=address, secret_file=secret_file)
    assert done.lines("heard") == ["early"], done.stderr


def test_every_nonce_is_new(glibc: Client, secret_file: str) -> None:
    seen = set()

    def serve(conn: socket.socket) -> None:
        read_connect(conn)
        conn.sendall(b"VSP1" + bytes(16))
        answer = receive(conn, ANSWER)
        seen.add(answer[:16])

    with server(serve, times=2) as address:
        glibc.run(*CONNECT, "close", *CONNECT, address=address, secret_file=secret_file)
    assert len(seen) == 2
    assert bytes(16) not in seen


@pytest.mark.parametrize("proof", ["random", "reflected"])
def test_who_does_not_hold_the_secret_is_not_taken_for_the_manager(
    client: Client, secret_file: str, proof: str
) -> None:
    def serve(conn: socket.socket) -> None:
        read_connect(conn)
        conn.sendall(b"VSP1" + bytes(16))
        answer = receive(conn, ANSWER)
        conn.sendall(os.urandom(32) if proof == "random" else answer[16:])
        with contextlib.suppress(ConnectionResetError):
            assert conn.recv(1) == b""

    with server(serve, times=2) as address:
        done = client.run("loop", *RESERVED, "20", address=address, secret_file=secret_file)
    assert done.status == 77, done.stderr
    assert done.lines("loop") == []
    assert "does not hold the manager's secret" in done.stderr


@pytest.mark.parametrize("handler", [True, False], ids=["worker's handler", "no handler"])
def test_a_signal_ends_the_waiting(glibc: Client, secret_file: str, handler: bool) -> None:
    arrived = threading.Event()
    over = threading.Event()

    def serve(conn: socket.socket) -> None:
        read_connect(conn)
        arrived.set()
        over.wait(20)

    with server(serve) as address:
        words = ["handler"] * handler + ["loop", *RESERVED, "60"]
        variables = {
            "VINE_SHAREDPORT_ADDRESS": address, "VINE_SHAREDPORT_SECRET_FILE": secret_file,
        }  # fmt: skip
        command, environment = glibc.command(words, variables, None)
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as process:  # fmt: skip
            assert arrived.wait(20)
            wait_until_asleep_in(process.pid, "poll")
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=20)
            took = time.monotonic() - started
        over.set()
    assert took < 10
    assert said == ""  # no failure, so no pause before the next attempt
    assert process.returncode == (3 if handler else -signal.SIGTERM)
