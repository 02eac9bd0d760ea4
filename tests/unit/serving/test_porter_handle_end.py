"""The porter's end: with its manager, however that ends, and by ``close()``."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.unit import helpers
from vine_sharedport.serving import porter_handle
from vine_sharedport.serving.counters import Gauge
from vine_sharedport.serving.endpoint import Endpoint

from .managers import Manager, program, waits_for_events

_MANAGER = """
import os, signal, sys, time
from vine_sharedport.serving.porter import Settings
from vine_sharedport.serving.porter_handle import PorterHandle
handle = PorterHandle(Settings("vine_1", sys.argv[1]))
"""
_TELL = "print(handle.pid, flush=True)\n"


@pytest.mark.alone
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_porter_ends_with_a_manager_that_is_killed(short_directory: Path, number: int) -> None:
    with program(_MANAGER + _TELL + "signal.pause()", str(short_directory)) as process:
        pid = int(process.stdout.readline())
        with helpers.handed_off(str(short_directory / "vine_1")) as client:
            process.send_signal(number)
            before = time.monotonic()
            helpers.wait_until(lambda: not helpers.is_alive(pid))
            assert time.monotonic() - before < 3
            assert helpers.is_closed(client)
    assert list(short_directory.iterdir()) == []


def test_porter_ends_with_a_manager_that_ends_without_a_word(short_directory: Path) -> None:
    with program(_MANAGER + _TELL + "os._exit(0)", str(short_directory)) as process:
        pid = int(process.stdout.readline())
        helpers.wait_until(lambda: not helpers.is_alive(pid))
    assert list(short_directory.iterdir()) == []


def test_porter_ends_with_a_manager_that_becomes_another_program(
    short_directory: Path,
) -> None:
    script = _MANAGER + _TELL + "os.execv('/bin/sleep', ['sleep', '60'])"
    with program(script, str(short_directory)) as process:
        pid = int(process.stdout.readline())
        helpers.wait_until(lambda: not helpers.is_alive(pid))
        assert process.poll() is None


@pytest.mark.alone
def test_successor_in_its_delay_ends_with_its_manager(short_directory: Path) -> None:
    script = """
import time
for _ in range(8):  # the delay is 6.4 s or more then
    os.kill(handle.pid, signal.SIGKILL)
    starts = handle.counters[Gauge.STARTS]
    while handle.counters[Gauge.STARTS] == starts:
        handle.receive()
        time.sleep(0.001)
"""
    script = "from vine_sharedport.serving.counters import Gauge" + _MANAGER + script
    with program(script + _TELL + "signal.pause()", str(short_directory)) as process:
        pid = int(process.stdout.readline())
        helpers.wait_until(lambda: waits_for_events(pid))
        process.kill()
        before = time.monotonic()
        helpers.wait_until(lambda: not helpers.is_alive(pid))
        assert time.monotonic() - before < 3


def test_porter_ends_with_a_manager_whose_forked_child_lives_on(short_directory: Path) -> None:
    """The child, which knows nothing of us, holds copies of all our descriptors."""
    fork = "child = os.fork()\nif not child: time.sleep(60)\nprint(child, flush=True)\n"
    script = _MANAGER + fork + _TELL + "signal.pause()"
    with program(script, str(short_directory)) as process:
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
        "from vine_sharedport.serving import porter_handle as p\n"
        "command = p.isolated_command\n"
        "without = 'import os; del os.pidfd_open; import sys'\n"
        "p.isolated_command = lambda *words: [\n"
        "    word.replace('import sys', without) for word in command(*words)]\n"
    )
    # The child's copies keep the porter from seeing the manager's end by its sockets.
    fork = "child = os.fork()\nif not child: time.sleep(60)\nprint(child, flush=True)\n"
    script = without + _MANAGER + fork + _TELL + "signal.pause()"
    with program(script, str(short_directory)) as process:
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
    script = (
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
    with program(script, str(short_directory), start_new_session=True) as process:
        pid = int(process.stdout.readline())
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        with helpers.handed_off(str(short_directory / "vine_1"), b"x"):
            assert helpers.is_alive(pid)
        assert process.communicate("\n", timeout=10) == ("", "")
    assert not helpers.is_alive(pid)


def test_porter_has_a_session_of_its_own(manager: Manager) -> None:
    """Ctrl-Z, and what a shell or a batch system sends to the manager's group, is not its."""
    assert os.getsid(manager.pid) == os.getpgid(manager.pid) == manager.pid


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


@pytest.mark.alone
def test_release_does_not_wait_and_close_does(manager: Manager) -> None:
    pid = manager.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        before = time.monotonic()
        manager.handle.release()
        assert time.monotonic() - before < 2
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
    assert time.monotonic() - before < 5
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
