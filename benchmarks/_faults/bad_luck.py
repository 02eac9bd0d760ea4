"""Faults of processes, files and limits."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _faults import clients
from _faults.bad_clients import close_all, report_errors
from _faults.registry import Scale, fault
from _faults.stage import Row, Stage, wait_for
from vine_sharedport.condor.personal_pool import guardian


@fault("worker-idle", "worker killed: idle", times=5)
def worker_killed_idle(stage: Stage, row: Row, scale: Scale) -> None:
    for _ in range(scale.times):
        with stage.start_newcomer() as worker:
            row.ways_in.append(worker.wait())
            worker.kill()
        row.tried += 1


@fault("worker-busy", "worker killed: running a task, which another then does", times=3)
def worker_killed_busy(stage: Stage, row: Row, scale: Scale) -> None:
    for _ in range(scale.times):
        before = stage.state()["workers"]
        with stage.start_newcomer(seconds=1.5) as worker:
            wait_for(
                lambda before=before: stage.state()["workers"] > before,
                timeout=30, why="the worker is connected",
            )  # fmt: skip
            time.sleep(0.8)  # its task has begun
            worker.kill()
            worker.start()
            worker.wait()
        row.tried += 1


# The tools come before the shared port is killed: afterwards they do not find the master
# of HTCondor 23.9.
@fault("reconfig", "condor_reconfig", times=5)
def reconfig(stage: Stage, row: Row, scale: Scale) -> None:
    for _ in range(scale.times):
        _tool("condor_reconfig")
        row.tried += 1
        stage.let_in_newcomer(row)


@fault("restart", "condor_restart", times=2)
def restart(stage: Stage, row: Row, scale: Scale) -> None:
    for _ in range(scale.times):
        before = stage.shared_port_pid
        _tool("condor_restart")
        row.tried += 1
        wait_for(
            lambda before=before: stage.shared_port_pid not in (None, before),
            timeout=60, why="condor_master has started another shared port",
        )  # fmt: skip
        stage.let_in_newcomer(row)


def _tool(name: str) -> None:
    """Run a tool, again while the daemons are not yet back from the last time."""
    until = time.monotonic() + 30.0
    while True:
        result = subprocess.run([name], capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return
        if time.monotonic() > until:
            raise RuntimeError(f"{name}: {(result.stdout + result.stderr).strip()}")
        time.sleep(0.2)


@fault("shared-port-killed", "shared port killed, same port", times=3)
def shared_port_killed(stage: Stage, row: Row, scale: Scale) -> None:
    for _ in range(scale.times):
        with stage.start_newcomer() as worker:  # on its way while there is none
            _kill_shared_port(stage)
            row.tried += 1
            row.ways_in.append(worker.wait())


def _kill_shared_port(stage: Stage) -> None:
    before = wait_for(lambda: stage.shared_port_pid, timeout=30, why="a shared port")
    os.kill(before, signal.SIGKILL)
    wait_for(
        lambda: stage.shared_port_pid not in (None, before),
        timeout=30, why="condor_master has started another shared port",
    )  # fmt: skip


@fault("socket-file", "socket file deleted", times=2)
def socket_file_deleted(stage: Stage, row: Row, scale: Scale) -> None:
    lock_dir = guardian.read_state(stage.pool.directory)["lock_dir"]
    path = Path(lock_dir, "daemon_sock", stage.target().sock_id)
    for _ in range(scale.times):
        path.unlink()
        row.tried += 1
        # The worker asks again and again until the porter has looked (every 10 s).
        stage.let_in_newcomer(row)


@fault("porter-killed", "porter killed", times=5)
def porter_killed(stage: Stage, row: Row, scale: Scale) -> None:
    for _ in range(scale.times):
        before = stage.porter_pid
        os.kill(before, signal.SIGKILL)
        row.tried += 1
        stage.let_in_newcomer(row)


@fault("porter-stopped", "porter stopped for {seconds} s", times=2)
def porter_stopped(stage: Stage, row: Row, scale: Scale) -> None:
    seconds = 1 if scale.quick else 5
    row.title = row.title.format(seconds=seconds)
    for _ in range(scale.times):
        pid = stage.porter_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            with stage.start_newcomer() as worker:
                time.sleep(seconds)
                os.kill(pid, signal.SIGCONT)
                row.ways_in.append(worker.wait())
        finally:
            os.kill(pid, signal.SIGCONT)
        row.tried += 1


@fault("manager-stopped", "manager stopped for {seconds} s while {crowd} connect", times=1)
def manager_stopped(stage: Stage, row: Row, scale: Scale) -> None:
    with _many_descriptors() as limit:
        size = 200 if scale.quick else min(5000, limit - 500)
        seconds = 2 if scale.quick else 10
        row.title = row.title.format(seconds=seconds, crowd=f"{size:,}")
        for _ in range(scale.times):
            _stop_manager(stage, row, size, seconds, clients.newcomer, "by_shared_port")


@fault(
    "manager-stopped-tcp", "{crowd} connect by TCP instead, for comparison", times=1, quick=0
)
def manager_stopped_tcp(stage: Stage, row: Row, scale: Scale) -> None:
    with _many_descriptors() as limit:
        # No more than the backlog: the others would be there only after the stop.
        size = min(4000, limit - 500)
        row.title = row.title.format(crowd=f"{size:,}")
        address = ("127.0.0.1", stage.state()["port"])
        for _ in range(scale.times):
            client = functools.partial(clients.by_tcp, address)
            _stop_manager(stage, row, size, 10, client, "by_tcp")


def _stop_manager(
    stage: Stage, row: Row, size: int, seconds: float, client: clients.Client, way: str
) -> None:
    target, before = stage.target(), stage.state()[way]
    begun = time.monotonic()
    os.kill(stage.manager.pid, signal.SIGSTOP)
    try:
        held = stage.crowd([client] * size, threads=32, target=target)
        row.remarks.append(f"{size} had connected after {time.monotonic() - begun:.1f} s")
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
    finally:
        os.kill(stage.manager.pid, signal.SIGCONT)
        go_on = time.monotonic()
        row.stops.append((begun, go_on))
    row.tried += 1
    report_errors(row, held)
    try:
        wait_for(
            lambda: stage.state()[way] >= before + size,
            timeout=60, why=f"the manager has all {size}",
        )  # fmt: skip
        row.remarks.append(f"the manager had all after {time.monotonic() - go_on:.1f} s more")
        stage.let_in_newcomer(row)
    finally:
        close_all(held)


@fault("manager-limit", "manager's descriptor limit reached", times=2)
def manager_limit(stage: Stage, row: Row, scale: Scale) -> None:
    for _ in range(scale.times):
        _reach_limit(stage, row, stage.manager.pid, [clients.newcomer] * 40, room=10)


@fault("porter-limit", "porter's descriptor limit reached", times=2)
def porter_limit(stage: Stage, row: Row, scale: Scale) -> None:
    for _ in range(scale.times):
        # With room for many: the kernel also compares the limit with all descriptors that
        # this user's processes have under way anywhere (unix(7), ETOOMANYREFS).
        _reach_limit(stage, row, stage.porter_pid, [clients.header] * 500, room=450)


def _reach_limit(
    stage: Stage, row: Row, pid: int, crowd: list[clients.Client], *, room: int
) -> None:
    """Let the crowd come in where there is room for less; then a worker."""
    target = stage.target()
    begun = time.monotonic()
    highest = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1 + room, before[1]))
    held: list[Any] = []
    try:
        held = stage.crowd(crowd, target=target)
        row.tried += 1
        if pid == stage.manager.pid:
            time.sleep(1.0)
        else:
            stage.let_in_newcomer(row)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        close_all(held)
        if pid == stage.manager.pid:
            row.deaf.append((begun, time.monotonic()))
    stage.let_in_newcomer(row)


@fault("shared-port-moved", "shared port killed, comes back on another port", times=2)
def shared_port_moved(stage: Stage, row: Row, scale: Scale) -> None:
    # The last one: the tools do not find this pool's master afterwards.
    config = Path(stage.pool.config_file)
    for _ in range(scale.times):
        text = config.read_text()
        match = re.search(r"^COLLECTOR_HOST = 127\.0\.0\.1:(\d+)$", text, re.MULTILINE)
        assert match is not None
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        config.write_text(text.replace(f":{match[1]}", f":{port}"))
        os.kill(stage.master_pid, signal.SIGHUP)  # read the configuration
        time.sleep(0.5)
        _kill_shared_port(stage)
        row.tried += 1
        wait_for(
            lambda port=port: stage.target().address.port == port,
            timeout=30, why="manager.shared_port.address has the new port",
        )  # fmt: skip
        stage.let_in_newcomer(row)


@contextlib.contextmanager
def _many_descriptors() -> Iterator[int]:
    """Lift our own limit; yield it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
