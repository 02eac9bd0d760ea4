"""Faults that clients inflict."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from pathlib import Path
from typing import Any

from _faults import clients
from _faults.clients import Client
from _faults.registry import Scale, fault
from _faults.stage import Row, Stage, say
from vine_sharedport.condor.personal_pool import guardian

_BETWEEN = 0.02
_LINGER = 2.0


def close_all(socks: list[Any]) -> None:
    """Close what is open."""
    for sock in socks:
        if isinstance(sock, socket.socket):
            sock.close()


def _one_after_another(stage: Stage, row: Row, scale: Scale, client: Client) -> None:
    """Open the connections one by one, and hold all while a new worker comes in."""
    target = stage.target()
    held = []
    try:
        for _ in range(scale.times):
            with contextlib.suppress(ConnectionError):
                held.append(client(target))
            row.tried += 1
            time.sleep(_BETWEEN)
        stage.let_in_newcomer(row)
        time.sleep(0 if scale.quick else _LINGER)
    finally:
        close_all(held)


@fault("none", "none, for comparison", times=1)
def nothing(stage: Stage, row: Row, scale: Scale) -> None:
    row.tried = scale.times
    stage.let_in_newcomer(row)
    time.sleep(1 if scale.quick else 8)


@fault("silent", "client connects and is silent", times=20, quick=3)
def silent(stage: Stage, row: Row, scale: Scale) -> None:
    _one_after_another(stage, row, scale, clients.silent)


@fault("one-byte", "one byte, then silence", times=20, quick=3)
def one_byte(stage: Stage, row: Row, scale: Scale) -> None:
    _one_after_another(stage, row, scale, clients.one_byte)


@fault("noise", "random bytes", times=50, quick=5)
def noise(stage: Stage, row: Row, scale: Scale) -> None:
    _one_after_another(stage, row, scale, clients.noise)


@fault("header", "right header, then silence", times=20, quick=3)
def header(stage: Stage, row: Row, scale: Scale) -> None:
    _one_after_another(stage, row, scale, clients.header)


@fault("header-noise", "right header, then random bytes", times=50, quick=5)
def header_and_noise(stage: Stage, row: Row, scale: Scale) -> None:
    _one_after_another(stage, row, scale, clients.header_and_noise)


@fault("wrong-secret", "right header, wrong secret", times=50, quick=5)
def wrong_secret(stage: Stage, row: Row, scale: Scale) -> None:
    _one_after_another(stage, row, scale, clients.wrong_secret)


@fault("replay", "right header, replayed answer", times=50, quick=5)
def replay(stage: Stage, row: Row, scale: Scale) -> None:
    _one_after_another(stage, row, scale, clients.replay)


@fault("gate-silent", "passes the gate, then silence", times=20, quick=3)
def gate_only(stage: Stage, row: Row, scale: Scale) -> None:
    _one_after_another(stage, row, scale, clients.gate_only)


@fault("crowd", "{crowd} of all these at once", times=3)
def crowd(stage: Stage, row: Row, scale: Scale) -> None:
    size = 100 if scale.quick else 500
    row.title = row.title.format(crowd=size)
    for _ in range(scale.times):
        many = [clients.MIXED[number % len(clients.MIXED)] for number in range(size)]
        held = stage.crowd(many)
        try:
            row.tried += 1
            stage.let_in_newcomer(row)
        finally:
            close_all(held)


@fault("half-line", "holds the secret, stops in the middle of a line for {seconds} s", times=1)
def half_a_line(stage: Stage, row: Row, scale: Scale) -> None:
    seconds = 1 if scale.quick else 5
    row.title = row.title.format(seconds=seconds)
    target = stage.target()
    for _ in range(scale.times):
        with clients.half_a_line(target):
            row.tried += 1
            time.sleep(seconds)
    stage.let_in_newcomer(row)


@fault("other-user", "another user connects to the socket", times=20, quick=3)
def other_user(stage: Stage, row: Row, scale: Scale) -> None:
    lock_dir = guardian.read_state(stage.pool.directory)["lock_dir"]
    path = Path(lock_dir, "daemon_sock", stage.target().sock_id)
    for _ in range(scale.times):
        pid = os.fork()
        if pid == 0:
            os._exit(_knock_as_another(str(path)))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == errno.EPERM:
            row.skipped = "not tried here: needs root, to become another user"
            return
        if code == 0:
            row.failures.append("another user could connect")
        row.tried += 1


def _knock_as_another(path: str) -> int:
    """Connect in a child process; return an exit status, EPERM if there is no other user."""
    try:
        os.setuid(65534)
    except OSError:
        return errno.EPERM
    with socket.socket(socket.AF_UNIX) as sock:
        return 1 if sock.connect_ex(path) else 0


@fault(
    "died", "client killed: before header, gate, in it, after it, connected", times=40, quick=2
)
def died(stage: Stage, row: Row, scale: Scale) -> None:
    target = stage.target()
    states: list[Client] = [
        clients.silent, clients.header, clients.half_an_answer, clients.gate_only,
        clients.newcomer,
    ]  # fmt: skip
    for number in range(scale.times):
        for client in states:
            with contextlib.suppress(ConnectionError):
                clients.dying(client, reset=number % 2 == 0)(target)
            row.tried += 1
        time.sleep(_BETWEEN)
    stage.let_in_newcomer(row)


@fault(
    "tls-stall", "TLS: holds the secret, stalls in the handshake", times=5, quick=1, tls=True
)
def tls_stall(stage: Stage, row: Row, scale: Scale) -> None:
    target = stage.target()
    for _ in range(scale.times):
        with clients.client_hello_byte(target) as sock:
            row.tried += 1
            sock.settimeout(10)
            with contextlib.suppress(OSError):
                sock.recv(1000)  # until the manager gives up
        time.sleep(0.5)  # or two of them make one long hold
    stage.let_in_newcomer(row)


@fault(
    "tls-stalls",
    "TLS: 5 who hold the secret stall in the handshake at once",
    times=1,
    quick=0,
    tls=True,
)
def tls_stalls(stage: Stage, row: Row, scale: Scale) -> None:
    for _ in range(scale.times):
        held = stage.crowd([clients.client_hello_byte] * 5)
        try:
            row.tried += 1
            stage.let_in_newcomer(row)
        finally:
            close_all(held)


@fault("tls-noise", "TLS: holds the secret, speaks no TLS", times=20, quick=3, tls=True)
def tls_noise(stage: Stage, row: Row, scale: Scale) -> None:
    _one_after_another(stage, row, scale, clients.newcomer)


@fault("tls-crowd", "TLS: {crowd} bad clients at once", times=1, quick=0, tls=True)
def tls_crowd(stage: Stage, row: Row, scale: Scale) -> None:
    crowd(stage, row, scale)


def report_errors(row: Row, results: list[Any]) -> None:
    """Tell of clients that could not do what they were to do."""
    errors = [str(result) for result in results if isinstance(result, OSError)]
    if errors:
        say(f"    {len(errors)} clients failed, the first: {errors[0]}")
        row.remarks.append(f"{len(errors)} clients failed: {errors[0]}")
