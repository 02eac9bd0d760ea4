"""The porter as its manager sees it: hand-offs, deaths of the porter, its start."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_shared_port import PASS_SOCK, FakeSharedPort
from tests.unit import helpers
from tests.values import naming
from vine_sharedport.dialing.dial import connect
from vine_sharedport.errors import EndpointError, LaunchError, SettingError
from vine_sharedport.serving import porter_handle
from vine_sharedport.serving.counters import Gauge, Refusal
from vine_sharedport.serving.endpoint import Limits
from vine_sharedport.serving.porter import Settings
from vine_sharedport.serving.porter_handle import PorterHandle

from .managers import Manager, program


class Clock:
    """Stands for the module ``time``, and stands still."""

    def __init__(self, now: float) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now


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


_KEEPALIVE = [None, "60/10/6", pytest.param(f"{random.randint(2, 999)}/5/7", id="drawn")]


@pytest.mark.parametrize("text", _KEEPALIVE)
def test_client_is_probed_when_it_is_silent(short_directory: Path, text: str | None) -> None:
    """Whatever its own side, or HTCondor, has set: the manager's side alone will do."""
    manager = Manager(short_directory, keepalive=text)
    try:
        with FakeSharedPort(str(short_directory)) as fake:
            client = connect(fake.address("vine_1"), keepalive="off")
            with client:
                client.sendall(b"hello")
                with manager.take() as server:
                    assert server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                    found = "/".join(map(str, helpers.probes(server)))
                    assert found == (text or "8/8/75")
    finally:
        manager.handle.close()


def test_client_is_left_as_it_came_where_probing_is_off(short_directory: Path) -> None:
    manager = Manager(short_directory, keepalive="off")
    try:
        client, server = helpers.tcp_pair()
        with client, server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 360)  # HTCondor's
            client.sendall(b"hello")
            helpers.hand_off(manager.path, server).close()
            with manager.take() as taken:
                assert helpers.probes(taken)[0] == 360
    finally:
        manager.handle.close()


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
    assert manager.counters.refused() == {"not-a-hand-off": 1}
    assert "WARNING refused 1: no hand-off message" in manager.log


def test_flood_of_strangers_leaves_a_short_log(manager: Manager) -> None:
    count = 4000
    for _ in range(count):
        with contextlib.suppress(OSError), helpers.connect_unix(manager.path) as conn:
            conn.sendall(b"GET / HTTP/1.1\r\n")
    helpers.wait_until(lambda: manager.counters[Refusal.NOT_A_HAND_OFF] >= count * 0.9)
    manager.handle.close()
    assert Path(manager.log_file).stat().st_size < 4096
    lines = [line for line in manager.log.splitlines() if "WARNING refused " in line]
    assert len(lines) <= 2, lines  # more than one only if this took more than a minute
    (closed,) = [line for line in manager.log.splitlines() if " closed sock_id=" in line]
    number = int(re.search(r"refused=(\d+) \(no hand-off message\)", closed)[1])
    assert number >= count * 0.9


def test_log_that_has_grown_is_put_aside(short_directory: Path) -> None:
    old = "an old line\n" * (1 << 17)
    (short_directory / "porter.log").write_text(old)
    manager = Manager(short_directory)
    manager.handle.close()
    assert (short_directory / "porter.log.1").read_text() == old
    assert manager.log.count("\n") == 3, "it serves, has closed and ends"


@pytest.mark.parametrize(
    ("said", "workers", "queries"),
    [
        (b"taskvine 12 host linux x86_64 7.15.8\n", 1, 0),
        (b"workqueue 10 host linux x86_64 7.15.8\n", 1, 0),
        (b"manager_status\n", 0, 1),
        (b"queue_status\n", 0, 1),
        (b"GET / HTTP/1.1\r\n", 0, 1),
        (b"auth password sha1\n", 0, 0),
        (b"\x16\x03\x01", 0, 0),
    ],
)
def test_workers_and_queries_are_counted_apart(
    manager: Manager, said: bytes, workers: int, queries: int
) -> None:
    with helpers.handed_off(manager.path) as client:
        client.sendall(said)
        with manager.take() as server:
            assert server.recv(64) == said  # nothing was read on the way
    helpers.wait_until(lambda: manager.counters[Gauge.HANDED_OVER])
    assert manager.counters[Gauge.WORKERS] == workers
    assert manager.counters[Gauge.QUERIES] == queries


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
        until = time.monotonic() + 20
        while len(said) < count:
            with manager.take() as server:
                said.add(int(server.recv(9)))
            assert time.monotonic() < until, f"{len(said)} of {count} came"
        assert said == set(range(count))
    assert counters[Gauge.HANDED_OVER] == count
    helpers.wait_until(lambda: counters[Gauge.READY] == 0)
    assert counters.refused() == {}


_FEW_DESCRIPTORS = """
import os, resource, select, socket, sys, time
from vine_sharedport.serving.counters import Gauge
from vine_sharedport.serving.endpoint import Limits
from vine_sharedport.serving.porter import Settings
from vine_sharedport.serving.porter_handle import PorterHandle
# Not fewer: what others of this user's processes have under way counts, too.
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
handle = PorterHandle(Settings("vine_1", sys.argv[1], limits=Limits(backlog=32)))
print("ready", flush=True)
while handle.counters[Gauge.READY] < 960:  # then it pauses
    time.sleep(0.005)
print("full", flush=True)
count = int(sys.stdin.readline())
said = set()
while len(said) < count:
    assert select.select([handle], [], [], 10)[0], (len(said), handle.counters.refused())
    fd = handle.receive()
    if fd is not None:
        with socket.socket(fileno=fd) as client:
            said.add(int(client.recv(9)))
assert said == set(range(count))
assert handle.counters.refused() == {}, handle.counters.refused()
handle.close()
"""


def test_none_is_lost_at_the_porters_descriptor_limit(short_directory: Path) -> None:
    few = program(_FEW_DESCRIPTORS, str(short_directory))
    with helpers.descriptors(4096), few as process:
        assert process.stdout.readline() == "ready\n"

        def hand_off(number: int) -> bool:
            client, server = helpers.tcp_pair()
            with client, server:
                client.sendall(b"%d" % number)
                try:
                    helpers.hand_off(str(short_directory / "vine_1"), server).close()
                except BlockingIOError:  # here condor_shared_port gives up
                    return False
            return True

        count = 0
        while not select.select([process.stdout], [], [], 0)[0]:
            count += hand_off(count)
        while hand_off(count):
            count += 1
            assert count < 4096
        assert process.stdout.readline() == "full\n"
        assert count > 960
        _, errors = process.communicate(f"{count}\n", timeout=30)
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


@pytest.mark.alone
def test_killed_porter_has_a_successor_at_once(manager: Manager) -> None:
    with helpers.handed_off(manager.path, b"1"):
        manager.take().close()
    before = time.monotonic()
    old = manager.kill()
    assert time.monotonic() - before < 3
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
    clock = Clock(manager.handle._started)
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


def test_tend_starts_what_could_not_be_started_before(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nonexistent/python")
        os.kill(manager.pid, signal.SIGKILL)
        helpers.wait_until(lambda: manager.turn() or manager.handle.pid is None)
        errors = [record for record in caplog.records if record.levelname == "ERROR"]
        assert errors
        # A manager calls this after each task: it neither floods the log nor the machine.
        for _ in range(100):
            manager.handle.tend()
        assert sum(record.levelname == "ERROR" for record in caplog.records) < 5
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


# ---- starting ----


def test_missing_directory_is_the_constructors_error(short_directory: Path) -> None:
    directory = str(short_directory / "none")
    with pytest.raises(EndpointError, match=naming(directory, "No such file or directory")):
        PorterHandle(Settings("vine_1", directory))


def test_name_that_is_served_is_the_constructors_error(manager: Manager) -> None:
    with pytest.raises(EndpointError, match=naming("'vine_1'", manager.path)):
        PorterHandle(Settings("vine_1", str(manager.directory)))
    with helpers.handed_off(manager.path, b"x"):
        manager.take().close()


def test_bad_name_is_the_constructors_error(short_directory: Path) -> None:
    with pytest.raises(SettingError, match=naming(42, 41)):
        PorterHandle(Settings("i" * 42, str(short_directory)))


def test_porter_that_ends_at_once_is_a_launch_error(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LaunchError):
        PorterHandle(Settings("vine_1", str(short_directory)))
    with pytest.raises(LaunchError, match=naming("/some/log")):
        PorterHandle(Settings("vine_1", str(short_directory), log_file="/some/log"))


def test_porter_that_does_not_answer_is_a_launch_error(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(porter_handle, "isolated_command", lambda *_: sleep)
    monkeypatch.setattr(porter_handle, "_START_TIMEOUT", 0.1)
    monkeypatch.setattr(porter_handle, "_STOP_TIMEOUT", 0.1)
    with pytest.raises(LaunchError, match=naming("0.1 s")):
        PorterHandle(Settings("vine_1", str(short_directory)))


@pytest.mark.parametrize("executable", ["", None, "/nonexistent/python"])
def test_python_that_cannot_be_found_is_a_launch_error(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch, executable: str | None
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(LaunchError, match=r"sys\.executable|" + re.escape(str(executable))):
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


def test_porter_inherits_nothing_but_its_own_descriptors(
    manager: Manager, tmp_path: Path
) -> None:
    with open(tmp_path / "managers_file", "w") as held:
        os.set_inheritable(held.fileno(), True)
        manager.kill()
        links = {}
        for name in os.listdir(f"/proc/{manager.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                links[int(name)] = os.readlink(f"/proc/{manager.pid}/fd/{name}")
    assert [links[fd] for fd in (0, 1, 2)] == ["/dev/null"] * 3
    assert not [link for link in links.values() if "managers_file" in link]


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
    *lines, last = [
        re.fullmatch(r"[\d-]+ [\d:,]+ porter\[(\d+)\] (\w+) (.*)", line).groups()
        for line in re.sub(r" refused=.*", "", manager.log).splitlines()
        if " refused " not in line
    ]
    serving = f"serving sock_id=vine_1 path={manager.path}"
    assert lines == [
        (str(first), "INFO", serving),
        (str(second), "INFO", serving),
        (str(second), "INFO", "closed sock_id=vine_1"),
    ]
    assert last[:2] == (str(second), "INFO")


def test_settings_survive_the_way_to_the_porter() -> None:
    settings = Settings(
        "vine_1", "/tmp/é", log_file="/log", delay=1.5, persist=True, limits=Limits(1, 2, 3, 4)
    )
    assert Settings.decode(settings.encode()) == settings
    json.loads(settings.encode())
