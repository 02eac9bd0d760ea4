"""What the link's tests need: TCP pairs, a daemon's side of a hand-off, waiting."""

from __future__ import annotations

import array
import contextlib
import os
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_shared_port import PASS_SOCK
from vine_sharedport.serving.endpoint import Endpoint

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    """A clock that stands still."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def wait_until(what: Callable[[], Any], *, timeout: float = 10.0) -> Any:
    """Poll until ``what()`` is true; return its value."""
    until = time.monotonic() + timeout
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < until, f"not within {timeout} s"
        time.sleep(0.005)


def poll_one(endpoint: Endpoint) -> socket.socket:
    """Return the one client that is ready now."""
    (client,) = endpoint.poll(10)
    return client


def tcp_pair(family: int = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
    """Return a client and its server, connected."""
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.create_server((host, 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        server, _ = listener.accept()
    client.settimeout(10)
    return client, server


def probes(sock: socket.socket) -> tuple[int, int, int]:
    """Return when the kernel probes a silent connection: seconds, seconds, how often."""
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    idle, interval, count = (sock.getsockopt(socket.IPPROTO_TCP, name) for name in options)
    return idle, interval, count


def reset(sock: socket.socket) -> None:
    """Close a TCP socket so that its peer sees a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def connect_unix(path: str) -> socket.socket:
    """Connect as the shared port does."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(10)
    try:
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def send_fds(conn: socket.socket, *fds: int, data: bytes = b"\0") -> None:
    """Send descriptors with the bytes."""
    rights = array.array("i", fds)
    conn.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def hand_off(path: str, client: socket.socket | int) -> socket.socket:
    """Hand a connection over, whole; return the connection to the endpoint.

    A socket is closed here afterwards: then the receiver holds the only copy.
    """
    conn = connect_unix(path)
    conn.sendall(PASS_SOCK)
    send_fds(conn, client if isinstance(client, int) else client.fileno())
    if isinstance(client, socket.socket):
        client.close()
    return conn


@contextlib.contextmanager
def handed_off(path: str, first_bytes: bytes = b"") -> Iterator[socket.socket]:
    """Hand a new client over; yield its own end."""
    client, server = tcp_pair()
    with client, server:
        client.sendall(first_bytes)
        with hand_off(path, server):
            yield client


def is_closed(sock: socket.socket) -> bool:
    """Whether the peer has closed the connection; waits for it."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    """Receive so many bytes."""
    sock.settimeout(10)
    parts = []
    while size:
        part = sock.recv(min(size, 1 << 20))
        assert part, f"the stream ended {size} bytes early"
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def receive_all(sock: socket.socket) -> bytes:
    """Receive until the stream ends."""
    sock.settimeout(10)
    return b"".join(iter(lambda: sock.recv(1 << 20), b""))


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Let this process have so many descriptors for a while, or skip."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"the limit of descriptors is {hard}, the test needs {count}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def state_of(pid: int) -> str:
    """Return a process's state letter, Z for a zombie, "" if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_alive(pid: int) -> bool:
    """Whether the process runs: a zombie, whoever has to reap it, does not."""
    return state_of(pid) not in ("", "Z", "X")


def run_python(
    program: str, *arguments: str, **kwargs: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program of ours in a process of its own, warnings as errors; return its result."""
    return subprocess.run(
        python_command(program, *arguments),
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT, **kwargs,
    )  # fmt: skip


def python_command(program: str, *arguments: str) -> list[str]:
    """Return the command line for a program that imports the package and these helpers."""
    path = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    return [sys.executable, "-W", "error", "-c", path + program, *arguments]
