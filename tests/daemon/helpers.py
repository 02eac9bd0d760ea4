"""Small things that several daemon tests do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def wait_until(what: Callable[[], Any], *, timeout: float = 30.0) -> Any:
    """Poll until ``what()`` is true; return its value."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        value = what()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout} s: {what}")


def stats_now(manager: Any) -> Any:
    """Return a TaskVine manager's statistics as they are: after 7.17.1 ``stats`` is 5 s old."""
    from ndcctools.taskvine import cvine

    stats = cvine.vine_stats()
    cvine.vine_get_stats(manager._taskvine, stats)
    return stats


def run_tasks(manager: Any, tasks: list[Any], *, timeout: float = 60.0) -> list[Any]:
    """Submit the tasks and return them when all have ended well."""
    for task in tasks:
        manager.submit(task)
    done: list[Any] = []
    until = time.monotonic() + timeout
    while len(done) < len(tasks):
        task = manager.wait(1)
        if task is not None:
            assert task.successful(), task.result
            done.append(task)
        assert time.monotonic() < until, (
            f"{len(done)} of {len(tasks)} tasks ended in {timeout} s"
        )
    return done


@contextmanager
def worker_process(*command: str, **kwargs: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker for the length of the block."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **kwargs
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def relay_worker(link: Any, *options: str, worker: str = "vine_worker", **kwargs: Any) -> Any:
    """Run a real worker by ``vine_sharedport worker``."""
    secret = ["--secret-file", link.secret_file] if link.secret_file else []
    return worker_process(
        sys.executable, "-m", "vine_sharedport", "worker", "--address", str(link.address),
        *secret, "--worker", worker,
        "--", "--cores", "1", "--memory", "500", "--disk", "500", *options,
        cwd=ROOT, **kwargs,
    )  # fmt: skip


def tcp_worker(port: int, *options: str) -> Any:
    """Run a real vine_worker that connects by plain TCP."""
    return worker_process(
        "vine_worker", "--cores", "1", "--memory", "500", "--disk", "500",
        *options, "127.0.0.1", str(port),
    )  # fmt: skip


def socket_inodes(pid: int) -> set[str]:
    """Return the inodes of the sockets that a process holds."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def tcp_inode(local_port: int, remote: str) -> str:
    """Return the inode of the one established IPv4 connection local_port <- remote."""
    host, port = remote.rsplit(":", 1)
    wanted = (
        "".join(f"{int(part):02X}" for part in reversed(host.split("."))) + f":{int(port):04X}"
    )
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[2] == wanted and int(fields[1].split(":")[1], 16) == local_port:
            found.append(fields[9])
    assert len(found) == 1, f"{len(found)} connections {local_port} <- {remote}"
    return found[0]


def pids_named(*names: str) -> dict[int, str]:
    """Return the processes that came of this one and whose command name is one of these."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                name = Path(f"/proc/{entry}/comm").read_text().strip()
                if name in names and _is_ours(int(entry)):
                    found[int(entry)] = name
            except OSError:
                continue
    return found


def _is_ours(pid: int) -> bool:
    """Whether it descends from this process, or from one that left with our home directory."""
    while pid != os.getpid():
        status = Path(f"/proc/{pid}/status").read_text()
        parent = int(status.partition("PPid:")[2].split()[0])
        if parent <= 1:
            home = f"HOME={os.environ['HOME']}".encode()
            return home in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        pid = parent
    return True


def processes_with(*marks: str) -> dict[int, str]:
    """Return the commands of other processes with one of these in command or environment."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            command = Path(f"/proc/{entry}/cmdline").read_bytes()
            environment = Path(f"/proc/{entry}/environ").read_bytes()
        except OSError:
            continue
        if command and any(mark.encode() in command + environment for mark in marks):
            found[int(entry)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found
