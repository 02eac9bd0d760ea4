"""The porter as its manager sees it, and what happens when either of them dies."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vine_sharedport.errors import EndpointError, LaunchError
from vine_sharedport.link import porter, porter_handle
from vine_sharedport.link.counters import Counters, Gauge, Refusal
from vine_sharedport.link.dial import connect
from vine_sharedport.link.endpoint import Endpoint, Limits
from vine_sharedport.link.porter import Settings
from vine_sharedport.link.porter_handle import PorterHandle

from ..fake_shared_port import PASS_SOCK, FakeSharedPort
from . import helpers


class Clock:
    """Stands for the module ``time``, and stands still."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


class Manager:
    """Opens a handle as a manager does, and takes clients in its loop."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.path = str(directory / "vine_1")
        self.log_file = directory / "porter.log"
        settings.setdefault("log_file", str(self.log_file))
        self.handle = PorterHandle(Settings("vine_1", str(directory), **settings))

    @property
    def pid(self) -> int:
        """The porter's."""
        assert self.handle.pid is not None
        return self.handle.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def counters(self) -> Counters:
        return self.handle.counters

    def turn(self) -> socket.socket | None:
        """Do what the manager's loop does when it comes by."""
        if not select.select([self.handle], [], [], 0)[0]:
            return None
        fd = self.handle.receive()
        return None if fd is None else socket.socket(fileno=fd)

    def take(self) -> socket.socket:
        """Turn until a client comes."""
        return helpers.wait_until(self.turn)

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End the porter, wait until another one serves, and return the old pid."""
        before, starts = self.pid, self.counters[Gauge.STARTS]
        os.kill(before, number)
        helpers.wait_until(lambda: self.turn() or self.counters[Gauge.STARTS] > starts)
        helpers.wait_until(self.is_served)
        return before

    def is_served(self) -> bool:
        try:
            helpers.connect_unix(self.path).close()
        except OSError:
            return False
        return True


@pytest.fixture
def manager(short_directory: Path) -> Iterator[Manager]:
    made = Manager(short_directory)
    yield made
    made.handle.close()


# ---- hand-offs ----


def test_client_of_the_shared_port_comes_to_the_manager(manager: Manager) -> None:
    with FakeSharedPort(str(manager.directory)) as fake:
        client = connect(fake.address("vine_1"))
        with client:
            client.sendall(b"hello")
            with manager.take() as server:
                assert not os.get_blocking(server.fileno())
                assert not os.get_inheritable(server.fileno())
                assert server.getpeername() == client.getsockname()
                assert server.recv(9) == b"hello"
                server.setblocking(True)
                server.sendall(b"welcome")
                assert client.recv(9) == b"welcome"
            # No process has kept a copy.
            assert client.recv(1) == b""
    assert manager.counters[Gauge.HANDED_OVER] == 1
    assert manager.counters.refused() == {}


def test_silent_client_waits_with_the_porter(manager: Manager) -> None:
    with helpers.handed_off(manager.path) as client:
        helpers.wait_until(lambda: manager.counters[Gauge.PENDING] == 1)
        assert manager.turn() is None
        client.sendall(b"x")
        manager.take().close()
    helpers.wait_until(lambda: manager.counters[Gauge.PENDING] == 0)


def test_refusals_are_counted_and_logged(manager: Manager) -> None:
    with helpers.connect_unix(manager.path) as conn:
        conn.sendall(b"GET / HTTP/1.1\r\n")
        assert helpers.is_closed(conn)
    helpers.wait_until(lambda: manager.counters[Refusal.NOT_A_HAND_OFF])
    assert manager.counters.refused() == {"no hand-off message": 1}
    assert "WARNING refused 1: no hand-off message" in manager.log


def test_limits_of_the_settings_are_the_porters(short_directory: Path) -> None:
    manager = Manager(short_directory, limits=Limits(hand_off=0.05, first_bytes=0.1))
    try:
        with helpers.handed_off(manager.path) as client, helpers.connect_unix(manager.path):
            assert helpers.is_closed(client)
            helpers.wait_until(lambda: len(manager.counters.refused()) == 2)
        assert set(manager.counters.refused()) == {Refusal.SILENT.value, Refusal.STALLED.value}
    finally:
        manager.handle.close()


def test_clients_wait_for_a_manager_that_is_away_and_none_is_lost(manager: Manager) -> None:
    count = 3000
    with helpers.descriptors(1000):
        for number in range(count):
            client, server = helpers.tcp_pair()
            client.sendall(b"%d" % number)
            client.close()
            helpers.hand_off(manager.path, server).close()
        counters = manager.counters
        # All have left the backlog, though nobody takes them.
        helpers.wait_until(lambda: counters[Gauge.HANDED_OVER] + counters[Gauge.READY] == count)
        assert counters[Gauge.READY] > 0
        assert counters[Gauge.PENDING] == 0
        said = set()
        for _ in range(count):
            with manager.take() as server:
                said.add(int(server.recv(9)))
        assert said == set(range(count))
    assert counters[Gauge.HANDED_OVER] == count
    helpers.wait_until(lambda: counters[Gauge.READY] == 0)
    assert counters.refused() == {}


_FEW_DESCRIPTORS = """
import os, resource, select, socket, sys
from vine_sharedport.link.porter import Settings
from vine_sharedport.link.porter_handle import PorterHandle
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
handle = PorterHandle(Settings("vine_1", sys.argv[1], log_file=sys.argv[1] + "/porter.log"))
print("ready", flush=True)
sys.stdin.readline()
said = set()
while len(said) < 400:
    assert select.select([handle], [], [], 10)[0], (len(said), handle.counters.refused())
    fd = handle.receive()
    if fd is not None:
        with socket.socket(fileno=fd) as client:
            said.add(int(client.recv(9)))
assert said == set(range(400))
assert handle.counters.refused() == {}, handle.counters.refused()
handle.close()
"""


def test_none_is_lost_at_the_porters_descriptor_limit(short_directory: Path) -> None:
    with _program(_FEW_DESCRIPTORS, str(short_directory)) as process:
        assert process.stdout.readline() == "ready\n"
        for number in range(400):
            client, server = helpers.tcp_pair()
            client.sendall(b"%d" % number)
            client.close()
            helpers.hand_off(str(short_directory / "vine_1"), server).close()
        _, errors = process.communicate("\n", timeout=30)
        assert (process.returncode, errors) == (0, "")


def test_client_that_the_manager_cannot_take_for_want_of_descriptors_is_counted(
    manager: Manager,
) -> None:
    with helpers.handed_off(manager.path, b"x") as client:
        helpers.wait_until(lambda: manager.counters[Gauge.HANDED_OVER])
        with _no_descriptor_left():
            assert manager.handle.receive() is None
        assert helpers.is_closed(client)
    # The porter counts the same reason on its own.
    first, second = helpers.tcp_pair(), helpers.tcp_pair()
    with contextlib.ExitStack() as stack:
        for sock in (*first, *second):
            stack.enter_context(sock)
        conn = stack.enter_context(helpers.connect_unix(manager.path))
        conn.sendall(PASS_SOCK)
        helpers.send_fds(conn, first[1].fileno(), second[1].fileno())
        assert helpers.is_closed(conn)
    helpers.wait_until(lambda: len(manager.counters.refused()) == 2)
    assert manager.counters[Refusal.MANAGER_DESCRIPTORS] == 1
    assert manager.counters[Refusal.DESCRIPTORS] == 1


@contextlib.contextmanager
def _no_descriptor_left() -> Iterator[None]:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# ---- the porter dies ----


def test_killed_porter_has_a_successor_within_a_second(manager: Manager) -> None:
    with helpers.handed_off(manager.path, b"1"):
        manager.take().close()
    before = time.monotonic()
    old = manager.kill()
    assert time.monotonic() - before < 1.0
    assert manager.pid != old
    assert not helpers.is_alive(old)
    with helpers.handed_off(manager.path, b"2"):
        manager.take().close()
    assert manager.counters[Gauge.HANDED_OVER] == 2
    assert manager.counters[Gauge.STARTS] == 2


def test_counters_go_on_after_a_porters_death(manager: Manager) -> None:
    def refuse() -> None:
        with helpers.connect_unix(manager.path) as conn:
            conn.sendall(b"GET / HTTP/1.1\r\n")
            assert helpers.is_closed(conn)

    refuse()
    helpers.wait_until(lambda: manager.counters[Refusal.NOT_A_HAND_OFF] == 1)
    with helpers.handed_off(manager.path):
        helpers.wait_until(lambda: manager.counters[Gauge.PENDING] == 1)
        os.kill(manager.pid, signal.SIGKILL)
        helpers.wait_until(lambda: manager.turn() or manager.counters[Gauge.STARTS] == 2)
        # It went with the porter.
        assert manager.counters[Gauge.PENDING] == 0
    helpers.wait_until(manager.is_served)
    helpers.wait_until(lambda: manager.counters[Refusal.NOT_A_HAND_OFF] == 2)  # is_served()
    refuse()
    helpers.wait_until(lambda: manager.counters[Refusal.NOT_A_HAND_OFF] == 3)


def test_clients_on_their_way_outlive_the_porter(manager: Manager) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(20):
            stack.enter_context(helpers.handed_off(manager.path, b"%d" % number))
        helpers.wait_until(lambda: manager.counters[Gauge.HANDED_OVER] == 20)
        os.kill(manager.pid, signal.SIGKILL)
        helpers.wait_until(lambda: not helpers.is_alive(manager.pid))
        said = set()
        for _ in range(20):
            with manager.take() as server:
                said.add(int(server.recv(9)))
        assert said == set(range(20))
        helpers.wait_until(lambda: manager.turn() or manager.counters[Gauge.STARTS] == 2)


def test_porter_that_is_killed_again_and_again_comes_back(manager: Manager) -> None:
    for _ in range(3):
        manager.kill()
    with helpers.handed_off(manager.path, b"x"):
        manager.take().close()
    assert manager.counters[Gauge.STARTS] == 4


def test_porters_that_do_not_live_long_are_restarted_later_and_later(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays = []
    start = PorterHandle._start

    def watched(self: PorterHandle, settings: Settings) -> None:
        delays.append(settings.delay)
        start(self, settings)

    monkeypatch.setattr(PorterHandle, "_start", watched)
    # A successor's own delay is no part of its life.
    clock = Clock()
    monkeypatch.setattr(porter_handle, "time", clock)
    for number in range(1, 12):
        clock.now += sum(delays[-1:]) + 4.9
        os.kill(manager.pid, signal.SIGKILL)
        helpers.wait_until(lambda n=number: manager.turn() or len(delays) == n)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
    clock.now += 35.1
    os.kill(manager.pid, signal.SIGKILL)
    helpers.wait_until(lambda: manager.turn() or len(delays) == 12)
    assert delays[-1] == 0.0


def test_successor_waits_for_its_directory(short_directory: Path) -> None:
    directory = short_directory / "sockets"
    directory.mkdir()
    log_file = short_directory / "log"
    manager = Manager(directory, log_file=str(log_file))
    away = short_directory / "away"
    try:
        directory.rename(away)
        os.kill(manager.pid, signal.SIGKILL)
        helpers.wait_until(lambda: manager.turn() or manager.counters[Gauge.STARTS] == 2)
        helpers.wait_until(lambda: "trying again in 0.5 s" in log_file.read_text())
        away.rename(directory)
        helpers.wait_until(manager.is_served)
        with helpers.handed_off(manager.path, b"x"):
            manager.take().close()
        assert manager.counters[Gauge.STARTS] == 2
    finally:
        manager.handle.close()


def test_log_that_cannot_be_written_keeps_nobody_out(short_directory: Path) -> None:
    manager = Manager(short_directory, log_file=str(short_directory / "none" / "log"))
    try:
        with helpers.handed_off(manager.path, b"x"):
            manager.take().close()
    finally:
        manager.handle.close()


def _waits_for_events(pid: int) -> bool:
    """Whether the process is well past its start."""
    with contextlib.suppress(OSError):
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
        return comm == "vine_porter" and helpers.state_of(pid) == "S"
    return False


def test_tend_starts_what_could_not_be_started_before(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nonexistent/python")
        os.kill(manager.pid, signal.SIGKILL)
        helpers.wait_until(lambda: manager.turn() or manager.handle.pid is None)
        assert "cannot start the porter" in caplog.text
        assert "workers cannot come in by the shared port for now" in caplog.text
        # A manager calls this after each task: it neither floods the log nor the machine.
        for _ in range(100):
            manager.handle.tend()
        assert caplog.text.count("cannot start the porter") < 5
        assert manager.handle.receive() is None
    helpers.wait_until(lambda: manager.handle.tend() or manager.handle.pid)
    helpers.wait_until(manager.is_served)
    with helpers.handed_off(manager.path, b"x"):
        manager.take().close()


def test_tend_reaps_the_dead(manager: Manager) -> None:
    old = manager.pid
    os.kill(old, signal.SIGKILL)
    helpers.wait_until(lambda: helpers.state_of(old) == "Z")
    helpers.wait_until(lambda: manager.turn() or manager.counters[Gauge.STARTS] == 2)
    helpers.wait_until(lambda: manager.handle.tend() or helpers.state_of(old) == "")


def test_no_process_is_left_after_replacements_and_close(manager: Manager) -> None:
    pids = [manager.kill(), manager.kill(), manager.pid]
    manager.handle.close()
    assert [helpers.state_of(pid) for pid in pids] == ["", "", ""]
    assert not os.path.exists(manager.path)


def test_terminated_porter_tidies_up_and_has_a_successor(manager: Manager) -> None:
    manager.kill(signal.SIGTERM)
    assert "closed sock_id=vine_1" in manager.log
    with helpers.handed_off(manager.path, b"x"):
        manager.take().close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_porter_ignores_the_terminals_signals(manager: Manager, number: int) -> None:
    os.kill(manager.pid, number)
    with helpers.handed_off(manager.path, b"x"):
        manager.take().close()
    assert manager.counters[Gauge.STARTS] == 1


# ---- the manager ends ----


@contextlib.contextmanager
def _program(program: str, *arguments: str, **kwargs: Any) -> Iterator[Any]:
    process = subprocess.Popen(
        helpers.python_command(program, *arguments),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **kwargs,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


_MANAGER = """
import os, signal, sys, time
from vine_sharedport.link.porter import Settings
from vine_sharedport.link.porter_handle import PorterHandle
handle = PorterHandle(Settings("vine_1", sys.argv[1]))
"""
_TELL = "print(handle.pid, flush=True)\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_porter_ends_with_a_manager_that_is_killed(short_directory: Path, number: int) -> None:
    with _program(_MANAGER + _TELL + "signal.pause()", str(short_directory)) as process:
        pid = int(process.stdout.readline())
        with helpers.handed_off(str(short_directory / "vine_1")) as client:
            process.send_signal(number)
            before = time.monotonic()
            helpers.wait_until(lambda: not helpers.is_alive(pid))
            assert time.monotonic() - before < 1.0
            assert helpers.is_closed(client)
    assert list(short_directory.iterdir()) == []


def test_porter_ends_with_a_manager_that_ends_without_a_word(short_directory: Path) -> None:
    with _program(_MANAGER + _TELL + "os._exit(0)", str(short_directory)) as process:
        pid = int(process.stdout.readline())
        helpers.wait_until(lambda: not helpers.is_alive(pid))
    assert list(short_directory.iterdir()) == []


def test_porter_ends_with_a_manager_that_becomes_another_program(
    short_directory: Path,
) -> None:
    program = _MANAGER + _TELL + "os.execv('/bin/sleep', ['sleep', '60'])"
    with _program(program, str(short_directory)) as process:
        pid = int(process.stdout.readline())
        helpers.wait_until(lambda: not helpers.is_alive(pid))
        assert process.poll() is None


def test_successor_in_its_delay_ends_with_its_manager(short_directory: Path) -> None:
    program = """
import time
for _ in range(8):  # the delay is 6.4 s or more then
    os.kill(handle.pid, signal.SIGKILL)
    starts = handle.counters[Gauge.STARTS]
    while handle.counters[Gauge.STARTS] == starts:
        handle.receive()
        time.sleep(0.001)
"""
    program = "from vine_sharedport.link.counters import Gauge" + _MANAGER + program
    with _program(program + _TELL + "signal.pause()", str(short_directory)) as process:
        pid = int(process.stdout.readline())
        helpers.wait_until(lambda: _waits_for_events(pid))
        process.kill()
        before = time.monotonic()
        helpers.wait_until(lambda: not helpers.is_alive(pid))
        assert time.monotonic() - before < 1.0


def test_porter_ends_with_a_manager_whose_forked_child_lives_on(short_directory: Path) -> None:
    """The child, which knows nothing of us, holds copies of all our descriptors."""
    fork = "child = os.fork()\nif not child: time.sleep(60)\nprint(child, flush=True)\n"
    program = _MANAGER + fork + _TELL + "signal.pause()"
    with _program(program, str(short_directory)) as process:
        child, pid = int(process.stdout.readline()), int(process.stdout.readline())
        try:
            process.kill()
            helpers.wait_until(lambda: not helpers.is_alive(pid))
            assert helpers.is_alive(child)
        finally:
            os.kill(child, signal.SIGKILL)
    assert list(short_directory.iterdir()) == []


def test_porter_ends_on_a_kernel_without_pidfd_too(short_directory: Path) -> None:
    without = (
        "from vine_sharedport.link import porter_handle as p\np._PROGRAM = ("
        + repr("import os; del os.pidfd_open\n")
        + "+ p._PROGRAM.replace('; ', chr(10)))\n"
    )
    # The child's copies keep the porter from seeing the manager's end by its sockets.
    fork = "child = os.fork()\nif not child: time.sleep(60)\nprint(child, flush=True)\n"
    program = without + _MANAGER + fork + _TELL + "signal.pause()"
    with _program(program, str(short_directory)) as process:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        child, pid = int(line), int(process.stdout.readline())
        try:
            process.kill()
            process.wait()
            helpers.wait_until(lambda: not helpers.is_alive(pid))
        finally:
            os.kill(child, signal.SIGKILL)
    assert list(short_directory.iterdir()) == []


def test_ctrl_c_in_the_terminal_does_not_end_the_porter(short_directory: Path) -> None:
    program = (
        _MANAGER
        + """
try:
    print(handle.pid, flush=True)
    signal.pause()
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.stdin.readline()
handle.close()
"""
    )
    with _program(program, str(short_directory), start_new_session=True) as process:
        pid = int(process.stdout.readline())
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        with helpers.handed_off(str(short_directory / "vine_1"), b"x"):
            assert helpers.is_alive(pid)
        assert process.communicate("\n", timeout=10) == ("", "")
    assert not helpers.is_alive(pid)


def test_forked_child_neither_stops_the_porter_nor_keeps_it_alive(manager: Manager) -> None:
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.close(tell)
            manager.handle.drop_in_child()
            manager.handle.close()
            os.read(told, 1)
        os._exit(0)
    os.close(told)
    try:
        with helpers.handed_off(manager.path, b"x"):
            manager.take().close()
        assert manager.counters[Gauge.STARTS] == 1
        pid = manager.pid
        manager.handle.close()
        assert not helpers.is_alive(pid)
        assert not os.path.exists(manager.path)
        assert helpers.is_alive(child)
    finally:
        os.close(tell)
        os.waitpid(child, 0)


def test_child_drops_every_copy(manager: Manager) -> None:
    report, reported = os.pipe()
    child = os.fork()
    if not child:
        before = len(os.listdir("/proc/self/fd"))
        manager.handle.drop_in_child()
        after = len(os.listdir("/proc/self/fd"))
        os.write(reported, b"%d" % (before - after))
        os._exit(0)
    os.close(reported)
    with open(report) as answer:
        # Two sockets, the epoll set, and the counters' page with the mapping's own copy.
        assert int(answer.read()) == 5
    os.waitpid(child, 0)
    with helpers.handed_off(manager.path, b"x"):
        manager.take().close()


# ---- close ----


def test_close_ends_the_porter_and_leaves_nothing(manager: Manager) -> None:
    pid = manager.pid
    manager.handle.close()
    assert helpers.state_of(pid) == ""
    assert [path.name for path in manager.directory.iterdir()] == ["porter.log"]
    manager.handle.close()
    assert manager.handle.pid is None
    assert manager.handle.receive() is None
    manager.handle.tend()
    manager.handle.release()
    assert manager.counters[Gauge.STARTS] == 0
    assert manager.counters.refused() == {}


def test_close_drops_every_client_on_its_way(short_directory: Path) -> None:
    manager = Manager(short_directory)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(helpers.handed_off(manager.path, b"x")) for _ in "123"]
        helpers.wait_until(lambda: manager.counters[Gauge.HANDED_OVER] == 3)
        clients += [stack.enter_context(helpers.handed_off(manager.path)) for _ in "123"]
        helpers.wait_until(lambda: manager.counters[Gauge.PENDING] == 3)
        manager.handle.close()
        assert all(helpers.is_closed(client) for client in clients)


def test_release_does_not_wait_and_close_does(manager: Manager) -> None:
    pid = manager.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        before = time.monotonic()
        manager.handle.release()
        assert time.monotonic() - before < 0.5
    finally:
        os.kill(pid, signal.SIGCONT)
    manager.handle.close()
    assert helpers.state_of(pid) == ""
    assert not os.path.exists(manager.path)


def test_release_does_not_wait_for_a_successor_that_hangs_at_its_start(
    manager: Manager,
) -> None:
    os.kill(manager.pid, signal.SIGKILL)
    helpers.wait_until(lambda: manager.turn() or manager.counters[Gauge.STARTS] == 2)
    os.kill(manager.pid, signal.SIGSTOP)
    waiting = threading.Thread(target=manager.handle.release, daemon=True)
    waiting.start()
    waiting.join(1)
    try:
        assert not waiting.is_alive()
    finally:
        os.kill(manager.pid, signal.SIGCONT)
        waiting.join()


@pytest.mark.parametrize("replaced", [False, True])
def test_porter_that_does_not_listen_is_killed_and_its_socket_removed(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    monkeypatch.setattr(porter_handle, "_STOP_TIMEOUT", 0.1)
    if replaced:
        manager.kill()
    pid = manager.pid
    os.kill(pid, signal.SIGSTOP)
    assert os.path.exists(manager.path)
    before = time.monotonic()
    manager.handle.close()
    assert time.monotonic() - before < 2
    assert helpers.state_of(pid) == ""
    assert not os.path.exists(manager.path)


def test_close_leaves_the_socket_of_another_that_took_the_name(manager: Manager) -> None:
    os.kill(manager.pid, signal.SIGKILL)
    helpers.wait_until(lambda: not helpers.is_alive(manager.pid))
    # Nobody has turned to the handle since.
    with Endpoint("vine_1", str(manager.directory)) as other:
        manager.handle.close()
        with helpers.handed_off(other.path, b"x"):
            other.accept(10).close()


# ---- starting ----


def test_missing_directory_is_the_constructors_error(short_directory: Path) -> None:
    directory = str(short_directory / "none")
    with pytest.raises(EndpointError, match=f"socket directory {directory}: No such file"):
        PorterHandle(Settings("vine_1", directory))


def test_name_that_is_served_is_the_constructors_error(manager: Manager) -> None:
    with pytest.raises(EndpointError, match=r"'vine_1' is served by a living process"):
        PorterHandle(Settings("vine_1", str(manager.directory)))
    with helpers.handed_off(manager.path, b"x"):
        manager.take().close()


def test_bad_name_is_the_constructors_error(short_directory: Path) -> None:
    with pytest.raises(EndpointError, match="42 characters"):
        PorterHandle(Settings("i" * 42, str(short_directory)))


def test_porter_that_ends_at_once_is_a_launch_error(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(
        LaunchError, match="the porter ended at once; set a log file to see why"
    ):
        PorterHandle(Settings("vine_1", str(short_directory)))
    with pytest.raises(LaunchError, match="the porter ended at once; see /some/log"):
        PorterHandle(Settings("vine_1", str(short_directory), log_file="/some/log"))


def test_porter_that_does_not_answer_is_a_launch_error(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(porter_handle, "_PROGRAM", "import time; time.sleep(60)")
    monkeypatch.setattr(porter_handle, "_START_TIMEOUT", 0.1)
    monkeypatch.setattr(porter_handle, "_STOP_TIMEOUT", 0.1)
    with pytest.raises(LaunchError, match=r"the porter did not answer within 0\.1 s"):
        PorterHandle(Settings("vine_1", str(short_directory)))


@pytest.mark.parametrize("executable", ["", None, "/nonexistent/python"])
def test_python_that_cannot_be_found_is_a_launch_error(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch, executable: str | None
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(LaunchError, match=r"executable is empty|cannot start the porter"):
        PorterHandle(Settings("vine_1", str(short_directory)))


@pytest.mark.parametrize("spare", range(2, 8))
def test_want_of_descriptors_is_a_launch_error(short_directory: Path, spare: int) -> None:
    used = {int(name) for name in os.listdir("/proc/self/fd")}
    filled = [os.dup(0) for _ in range(max(used) - len(used))]  # no gaps
    try:
        top = len(os.listdir("/proc/self/fd")) - 1
        with _limit(top + spare), pytest.raises(LaunchError, match="Too many open files"):
            PorterHandle(Settings("vine_1", str(short_directory)))
    finally:
        for fd in filled:
            os.close(fd)


@contextlib.contextmanager
def _limit(count: int) -> Iterator[None]:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_environment_and_place_of_the_manager_do_not_reach_the_porter(
    short_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "vine_sharedport", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    manager = Manager(short_directory)
    try:
        with helpers.handed_off(manager.path, b"x"):
            manager.take().close()
        assert os.readlink(f"/proc/{manager.pid}/cwd") == "/"
    finally:
        manager.handle.close()


def test_porter_inherits_nothing_but_its_three_descriptors(manager: Manager) -> None:
    with open(os.devnull) as held:
        os.set_inheritable(held.fileno(), True)
        manager.kill()
        links = {
            int(name): os.readlink(f"/proc/{manager.pid}/fd/{name}")
            for name in os.listdir(f"/proc/{manager.pid}/fd")
        }
    assert [links[fd] for fd in (0, 1, 2)] == ["/dev/null"] * 3
    # The rest: the inherited ones, and what a porter opens for itself.
    kinds = sorted(
        re.sub(r"[:\[(/].*", "", link) or "file" for fd, link in links.items() if fd > 2
    )
    allowed = {"anon_inode", "socket", "file", "pidfd"}
    assert set(kinds) <= allowed, links
    assert sum(link == "/dev/null" for link in links.values()) == 3


def test_command_line_tells_the_sock_id_and_no_settings(manager: Manager) -> None:
    command = Path(f"/proc/{manager.pid}/cmdline").read_text().split("\0")
    assert "vine_1" in command
    assert not [word for word in command if "porter.log" in word or "directory" in word]
    assert Path(f"/proc/{manager.pid}/comm").read_text() == "vine_porter\n"


def test_log_tells_the_porters_life(manager: Manager) -> None:
    first = manager.pid
    helpers.wait_until(lambda: "serving" in manager.log)
    manager.kill()
    second = manager.pid
    manager.handle.close()
    lines = [
        re.fullmatch(r"[\d-]+ [\d:,]+ porter\[(\d+)\] (\w+) (.*)", line).groups()
        for line in manager.log.splitlines()
        if " refused " not in line
    ]
    serving = f"serving sock_id=vine_1 path={manager.path}"
    assert lines == [
        (str(first), "INFO", serving),
        (str(second), "INFO", serving),
        (str(second), "INFO", "closed sock_id=vine_1"),
        (str(second), "INFO", "ending: asked to stop"),
    ]


def test_settings_survive_the_way_to_the_porter() -> None:
    settings = Settings(
        "vine_1", "/tmp/é", log_file="/log", delay=1.5, persist=True, limits=Limits(1, 2, 3, 4)
    )
    assert Settings.decode(settings.encode()) == settings
    json.loads(settings.encode())


# ---- a porter inside this process, so that its intervals can be shortened ----


class InsidePorter:
    """The porter's loop in a thread."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "vine_1")
        self.counters = Counters()
        self.clients, clients = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.clients.settimeout(10)
        self._theirs = (clients, control)
        for sock in self._theirs:
            sock.setblocking(False)
        self.reason = ""
        self._porter = porter._Porter(
            Settings("vine_1", str(directory)), clients, control, self.counters
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.control.settimeout(10)
        self.ready = json.loads(self.control.recv(65536))["ready"]

    def _run(self) -> None:
        try:
            self._porter.run()
        except porter._ManagerGone as gone:
            self.reason = str(gone)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.control.send(porter.STOP)
        self.join()

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._porter._epoll.close()
        os.close(self._porter._pidfd)
        self.counters.close()
        for sock in (self.clients, self.control, *self._theirs):
            sock.close()


@pytest.fixture
def inside(short_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InsidePorter]:
    monkeypatch.setattr(porter, "_CHECK_FILE", 0.02)
    monkeypatch.setattr(porter, "_raise_descriptor_limit", lambda: 1024)
    made = InsidePorter(short_directory)
    yield made
    if made.clients.fileno() >= 0:
        made.stop()


def test_ready_message_tells_which_file_is_served(inside: InsidePorter) -> None:
    assert inside.ready == {"path": inside.path, "inode": os.stat(inside.path).st_ino}


def test_vanished_socket_file_is_made_again(inside: InsidePorter) -> None:
    os.unlink(inside.path)
    helpers.wait_until(lambda: os.path.exists(inside.path))
    assert stat.S_IMODE(os.stat(inside.path).st_mode) == 0o600
    with helpers.handed_off(inside.path, b"x"):
        assert inside.clients.recv(9) == porter.READY_MARK


def test_porter_goes_on_when_the_socket_file_cannot_be_made_again(
    inside: InsidePorter, short_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.unlink(inside.path)
    away = short_directory.with_name(short_directory.name + ".away")
    short_directory.rename(away)
    try:
        helpers.wait_until(lambda: "No such file or directory" in caplog.text)
    finally:
        away.rename(short_directory)
    helpers.wait_until(lambda: os.path.exists(inside.path))


def test_socket_file_is_kept_young(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(porter, "_CHECK_FILE", 0.02)
    monkeypatch.setattr(porter, "_KEEP_ALIVE", 0.02)
    monkeypatch.setattr(porter, "_raise_descriptor_limit", lambda: 1024)
    inside = InsidePorter(short_directory)
    try:
        os.utime(inside.path, (0, 0))
        helpers.wait_until(lambda: os.stat(inside.path).st_mtime > 0)
    finally:
        inside.stop()


def test_porter_ends_when_only_the_clients_socket_is_closed(inside: InsidePorter) -> None:
    inside.clients.close()
    inside.join()
    assert inside.reason == "the manager has closed its end"
    assert not os.path.exists(inside.path)


def test_porter_ends_when_only_the_control_socket_is_closed(inside: InsidePorter) -> None:
    inside.control.close()
    inside.join()
    assert inside.reason == "the manager has gone"
    assert not os.path.exists(inside.path)
    inside.clients.close()
