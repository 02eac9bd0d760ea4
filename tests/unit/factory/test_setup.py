"""What is found, checked and made before a factory's process starts; no pool is needed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport.errors import ExitStatus, LaunchError, OptionError, SettingError
from vine_sharedport.factory import control, setup
from vine_sharedport.factory.api import Factory
from vine_sharedport.factory.manager_view import lookup
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.options.stored import read_config, write_config
from vine_sharedport.factory.report import paths

ADDRESS = "<192.0.2.7:9618?sock=vine_42>"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def options(tmp_path: Path) -> Options:
    worker = tmp_path / "vine_worker"
    worker.write_text("#!/bin/sh\n")
    worker.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(32))
    return Options(address=ADDRESS, worker_binary=str(worker), secret_file=str(secret))


# --- two starts in one directory


def test_the_configuration_is_that_of_the_factory_which_has_the_directory(
    options: Options, tmp_path: Path
) -> None:
    directory = str(tmp_path / "there")
    other = Options.make({"max_workers": 7}, base=options)

    def second_start_is_refused() -> None:
        with (
            pytest.raises(LaunchError, match=r"/there.*factory stop /.*/there"),
            setup.prepare(other, directory),
        ):
            pass
        assert read_config(os.path.join(directory, paths.CONFIG)).max_workers == 100

    with setup.prepare(options, directory) as (made, lock):
        assert made.directory == directory
        second_start_is_refused()
        started = control.spawn(directory, owner=control.owner_process(), lock=lock)
    try:
        # Its Python has hardly begun: it is the descriptor that keeps others out.
        assert paths.is_running(directory)
        second_start_is_refused()
    finally:
        started.kill()
        started.wait()
    files_left = Path(directory, paths.LOG).read_text()
    assert "Traceback" not in files_left


def test_a_descriptor_that_is_no_lock_of_the_directory_is_refused(tmp_path: Path) -> None:
    lock = paths.lock_directory(str(tmp_path))
    assert lock is not None
    try:
        os.set_inheritable(lock, True)
        paths.inherit_lock(str(tmp_path), lock)
        assert not os.get_inheritable(lock)
    finally:
        os.close(lock)
    with pytest.raises(SettingError, match=naming(lock, "--lock")):
        paths.inherit_lock(str(tmp_path), lock)
    with (
        open(os.devnull) as other,
        pytest.raises(SettingError, match=naming(other.fileno(), "--lock")),
    ):
        paths.inherit_lock(str(tmp_path), other.fileno())


@pytest.mark.parametrize("number", [10**20, 10**9, -5])
def test_a_number_that_is_no_descriptor_is_told_as_such(tmp_path: Path, number: int) -> None:
    found = subprocess.run(
        control.command(str(tmp_path), lock=number), env=control.environment(),
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert found.returncode == ExitStatus.USAGE
    assert re.search(naming(number, tmp_path, "--lock"), found.stderr)
    assert "Traceback" not in found.stderr


@contextlib.contextmanager
def looking(directory: str) -> Iterator[int]:
    """Look whether a factory runs, as slowly as never."""
    fd = os.open(os.path.join(directory, paths.LOCK), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield fd
    finally:
        os.close(fd)


def test_those_who_look_whether_a_factory_runs_disturb_nobody(
    options: Options, tmp_path: Path
) -> None:
    directory = str(tmp_path / "there")
    os.mkdir(directory)
    with looking(directory) as fd:
        assert paths.is_running(directory) is False
        threading.Timer(0.05, fcntl.flock, (fd, fcntl.LOCK_UN)).start()
        with setup.prepare(options, directory):
            assert paths.is_running(directory) is True


def test_a_process_that_cannot_be_started_for_want_of_descriptors_is_told(
    tmp_path: Path,
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        os.close(taken.pop())  # for the log alone
        with pytest.raises(LaunchError, match=naming("Too many open files", "ulimit -a")):
            control.spawn(str(tmp_path), owner=None)
        taken.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(LaunchError, match="ulimit -n"):
            control.owner_process()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in taken:
            os.close(fd)


# --- the factory's id


@pytest.mark.parametrize("text", [b"", b"\n", b"0" * 31, b'" || true', b"\xff" * 32])
def test_a_damaged_id_is_refused_and_nothing_is_changed(
    options: Options, tmp_path: Path, text: bytes
) -> None:
    path = tmp_path / "factory.id"
    path.write_bytes(text)
    with pytest.raises(SettingError, match=r"factory\.id.* condor_rm -constraint '"):
        paths.factory_id(str(tmp_path))
    with (
        pytest.raises(SettingError, match=naming("condor_rm -constraint")),
        setup.prepare(options, str(tmp_path)),
    ):
        pass
    assert path.read_bytes() == text
    assert not (tmp_path / paths.CONFIG).exists()
    path.unlink()
    assert paths.factory_id(str(tmp_path)) == path.read_text().strip()


# --- a process that cannot be made again

PROGRAM = """
import sys, time
from pathlib import Path
from vine_sharedport.errors import OptionError, SettingError
from vine_sharedport.factory import loop, supervisor
from vine_sharedport.factory.report import paths as files
from vine_sharedport.factory.report.record import ManagerReport, WorkerCounts
from vine_sharedport.factory.report.snapshot import Snapshot
directory = Path(sys.argv[1])

class Loop:
    made = 0
    def __init__(self, path, *, pid, **_):
        with open(directory / "made", "a+") as file:
            file.write("x")
            file.seek(0)
            Loop.made = len(file.read())
        if Loop.made in {refused!r}:
            raise SettingError("cannot be described")
        self.pid = pid
    def run(self, *, check, ending):
        with open(directory / "runs", "a") as file:
            print(ending, file=file)
        state = "ended" if ending else "running"
        files.write_status(str(directory), Snapshot(
            time=time.time(), factory="f" * 32, pid=self.pid, state=state, message="",
            directory=str(directory), manager=ManagerReport(address=None), min_workers=0,
            max_workers=1, needed=0, submitted=0, workers=WorkerCounts(),
        ))
        if not ending:
            raise OSError("crash")

loop.Loop = Loop
sys.exit(supervisor.run(str(directory)))
"""


@pytest.mark.parametrize(
    ("refused", "made", "runs"),
    [
        ({1}, 1, []),  # nothing was there before
        ({2}, 3, ["False", "True"]),
        ({2, 3}, 3, ["False"]),
    ],
)
def test_one_that_cannot_go_on_removes_its_jobs_before_it_ends(
    tmp_path: Path, refused: set[int], made: int, runs: list[str]
) -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(refused=refused), str(tmp_path)],
        env=control.environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert found.returncode == control.REFUSED, found.stderr
    assert (tmp_path / "made").read_text() == "x" * made
    ran = (tmp_path / "runs").read_text().split() if (tmp_path / "runs").exists() else []
    assert ran == runs


# --- the lock of a manager


def test_a_machine_without_room_for_a_process_is_waited_for(tmp_path: Path) -> None:
    program = """
import os, sys
from vine_sharedport.factory import supervisor
fork, failures = os.fork, [11, 12]
def full():
    if failures:
        raise OSError(failures.pop(), "no room")
    return fork()
os.fork = full
supervisor._FORK_PAUSE = 0.01
supervisor._Supervisor._work = lambda *_, **__: os._exit(0)
before = len(os.listdir("/proc/self/fd"))
print(supervisor.run(sys.argv[1]), len(os.listdir("/proc/self/fd")) - before)
"""
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=control.environment(), capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert found.stdout == "0 0\n", found.stderr
    assert len(found.stderr.splitlines()) == 2


def holding(manager: str, temporary: Path) -> subprocess.Popen[str]:
    """Start a process that tells whether it has the lock, and keeps it until a line comes."""
    temporary.mkdir()
    program = (
        "import sys; from vine_sharedport.factory.report import paths as files\n"
        f"with files.manager_lock({manager!r}) as mine: print(mine, flush=True); input()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program], text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, cwd=temporary,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.true_uid
def test_one_factory_of_a_manager_submits_wherever_its_temporary_files_are(
    tmp_path: Path,
) -> None:
    manager = f"test_{os.getpid()}"
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(holding(manager, tmp_path / "a"))
        stack.callback(first.kill)
        assert first.stdout is not None
        assert first.stdout.readline() == "True\n"
        second = stack.enter_context(holding(manager, tmp_path / "b"))
        assert second.communicate("\n")[0] == "False\n"
        first.kill()  # nobody cleans up after it
        first.wait()
        third = stack.enter_context(holding(manager, tmp_path / "c"))
        assert third.communicate("\n")[0] == "True\n"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "c"]


@pytest.fixture
def secret(tmp_path: Path) -> str:
    path = tmp_path / "secret-of-manager"
    path.write_bytes(os.urandom(32))
    return str(path)


@pytest.mark.true_uid
def test_the_name_of_a_managers_lock_cannot_be_told_without_its_secret(
    secret: str, tmp_path: Path
) -> None:
    manager = f"test_{os.getpid()}"
    copy = tmp_path / "copy"
    copy.write_bytes(Path(secret).read_bytes())
    with paths.manager_lock(manager, secret) as mine:
        assert mine is True
        with paths.manager_lock(manager, str(copy)) as other:
            assert other is False
        with paths.manager_lock(manager) as other:
            assert other is True
        shown = Path("/proc/net/unix").read_text()
    assert "@vine_sharedport-" in shown
    found = Path(secret).read_bytes().hex()
    assert not any(found[start : start + 8] in shown for start in range(0, 64, 8))
    copy.write_bytes(bytes(32))
    assert paths._lock_name(manager, secret) != paths._lock_name(manager, str(copy))


@contextlib.contextmanager
def squatting(name: str, *, backlog: int | None) -> Iterator[socket.socket]:
    """Have a lock's name; listen, unless the backlog is None, and accept nobody."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(name)
        if backlog is not None:
            other.listen(backlog)
        yield other


@pytest.mark.true_uid
def test_a_name_whose_holder_tells_nothing_stops_nobody_for_long(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = f"test_{os.getpid()}"
    name = paths._lock_name(manager, secret)
    monkeypatch.setattr(paths, "_BIND_TIMEOUT", 0.05)

    def may_submit() -> bool:
        with paths.manager_lock(manager, secret) as mine:
            return mine

    with squatting(name, backlog=None):
        assert may_submit()
    monkeypatch.setattr(paths, "_FULL_TIMEOUT", 0.2)
    with squatting(name, backlog=0):
        began = time.monotonic()
        assert not may_submit()  # it looks like ours, and takes the place in the queue
        assert not may_submit()  # it is full
        while not may_submit():
            assert time.monotonic() < began + 5
        assert time.monotonic() > began + 0.2
        assert may_submit()
    # When it has gone, the next one has its time again.
    assert may_submit()
    with squatting(name, backlog=0), socket.socket(socket.AF_UNIX) as first:
        first.connect(name)
        assert not may_submit()


@pytest.mark.true_uid
def test_what_another_user_has_taken_keeps_nobody_from_submitting(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = f"test_{os.getpid()}"
    # There is one user here: so it is we who are another one than whom the kernel names.
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    name = paths._lock_name(manager, secret)
    with squatting(name, backlog=0):
        for _ in range(3):  # also when its queue is full
            with paths.manager_lock(manager, secret) as mine:
                assert mine is True
    with squatting(name, backlog=0):
        assert paths._owner_of(name) == user


# --- the file of options


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"max-workers": 10, "memory": 500}))
    return path


def test_an_attribute_tells_what_the_configuration_file_says(config: Path) -> None:
    workers = Factory("condor", address=ADDRESS, max_workers=50, config_file=str(config))
    assert (workers.max_workers, workers.memory, workers.min_workers) == (10, 500, 5)
    assert setup.resolve(workers._given).max_workers == workers.max_workers
    config.write_text(json.dumps({"max-workers": 11}))
    assert (workers.max_workers, workers.memory) == (11, None)
    config.write_text("{")  # start() says what is wrong with it
    assert workers.max_workers == 50


def test_an_attribute_that_the_file_fixes_cannot_be_set(config: Path) -> None:
    workers = Factory("condor", address=ADDRESS, config_file=str(config))
    with pytest.raises(OptionError, match=naming("max_workers", 10, config, 50)):
        workers.max_workers = 50
    assert workers.max_workers == 10
    workers.max_workers = 10  # as it is
    workers.cores = 4
    assert workers.cores == 4
    config.write_text("{}")
    workers.max_workers = 50
    assert setup.resolve(workers._given).max_workers == 50


@pytest.mark.parametrize(
    ("options", "in_file"),
    [
        ({"min_workers": 9, "max_workers": 2}, {}),
        ({"min_workers": 5, "max_workers": 2}, {}),  # the default, but given
        ({"max_workers": 2}, {"min-workers": 5}),
        ({"min_workers": 12}, {"max-workers": 10}),
        ({}, {"min-workers": "101"}),  # more than the default
    ],
)
def test_a_minimum_above_the_maximum_is_refused_when_the_factory_starts(
    config: Path, options: dict[str, int], in_file: dict[str, object]
) -> None:
    config.write_text(json.dumps(in_file))
    workers = Factory("condor", address=ADDRESS, config_file=str(config))
    for name, value in options.items():
        setattr(workers, name, value)  # one after the other: nothing is wrong yet
    wanted = r"min_workers is \d+, but max_workers is (\d+); give min_workers=\1 .*workers=\d+"
    for refused in (workers.start, workers.submit_description):
        with pytest.raises(SettingError, match=wanted):
            refused()
    if "max-workers" not in in_file:
        workers.max_workers = 200
    else:
        workers.min_workers = 1
    setup.resolve(workers._given)


def test_the_default_minimum_is_none_that_somebody_gave(config: Path) -> None:
    config.write_text("{}")
    workers = Factory("condor", address=ADDRESS, max_workers=2, config_file=str(config))
    assert setup.resolve(workers._given).least_workers == 2


# --- a manager that comes later


@pytest.fixture
def waiting(options: Options, tmp_path: Path) -> str:
    """Return the directory of a factory that waits for its manager."""
    directory = tmp_path / "waiting"
    directory.mkdir()
    named = Options.make({"manager_name": "late"}, base=options)
    write_config(str(directory / paths.CONFIG), named)
    return str(directory)


def test_a_name_that_cannot_be_looked_for_is_told_and_the_factory_goes_on(
    waiting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert not setup.follow_name(waiting)

    def unreadable(_: Options) -> Options:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(lookup, "look_again", unreadable)
    with caplog.at_level(logging.WARNING):
        assert not setup.follow_name(waiting)
        assert not setup.follow_name(waiting)
    assert caplog.text.count("[Errno 2]") == 1

    def unusable(_: Options) -> Options:
        raise ValueError("embedded null byte")

    monkeypatch.setattr(lookup, "look_again", unusable)
    assert not setup.follow_name(waiting)


def test_an_option_that_is_set_while_the_manager_is_looked_for_is_kept(
    waiting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = os.path.join(waiting, paths.CONFIG)
    place = {"address": "<192.0.2.7:9618?sock=vine_43>", "secret_file": "/new", "ssl": True}

    def look(options: Options) -> Options:
        write_config(config, Options.make({"max_workers": 9}, base=read_config(config)))
        return Options.make(place, base=options)

    before = read_config(config)
    monkeypatch.setattr(lookup, "look_again", look)
    assert setup.follow_name(waiting)
    assert read_config(config) == Options.make({**place, "max_workers": 9}, base=before)


def test_one_at_a_time_changes_the_configuration(
    waiting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"address": "<192.0.2.7:9618?sock=vine_43>"}
    monkeypatch.setattr(lookup, "look_again", lambda old: Options.make(place, base=old))
    other = threading.Thread(target=setup.follow_name, args=(waiting,))
    config = os.path.join(waiting, paths.CONFIG)
    with setup.changing_config(waiting):
        read = read_config(config)
        other.start()
        other.join(0.2)
        assert other.is_alive()
        write_config(config, Options.make({"max_workers": 9}, base=read))
    other.join(20)
    found = read_config(config)
    assert (found.address, found.max_workers) == (place["address"], 9)


def test_a_process_that_is_forked_meanwhile_does_not_keep_the_configuration(
    waiting: str,
) -> None:
    program = """
import os, sys, time
from vine_sharedport.factory import setup
with setup.changing_config(sys.argv[1]):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
with setup.changing_config(sys.argv[1]):
    print("comes to this", os.waitpid(child, os.WNOHANG))
os.kill(child, 9)
"""
    found = subprocess.run(
        [sys.executable, "-c", program, waiting],
        env=control.environment(), capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert found.stdout == "comes to this (0, 0)\n", found.stderr
    with setup.changing_config("/nonexistent"):  # who writes there tells what is wrong
        pass
