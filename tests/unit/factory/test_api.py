"""The object by which a program has its factory, where its process does not begin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.values import naming
from vine_sharedport.errors import LaunchError, SettingError
from vine_sharedport.factory import api, child, control, setup
from vine_sharedport.factory.manager_view import lookup
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.options.stored import read_config, write_config
from vine_sharedport.factory.report import paths
from vine_sharedport.wire.sinful import Sinful

from .test_control import HOLDER


@pytest.fixture
def workers(tmp_path: Path) -> api.Factory:
    worker = tmp_path / "vine_worker"
    worker.write_text("#!/bin/sh\n")
    worker.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(32))
    return api.Factory(
        "condor", address="<192.0.2.7:9618?sock=a>", secret_file=str(secret),
        worker_binary=str(worker), directory=str(tmp_path / "f"),
    )  # fmt: skip


def begins_as(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let another program be started instead of the factory's."""

    def spawn(directory: str, *, lock: int, **_: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", program, directory], env=control.environment(),
            pass_fds=(lock,), stdout=subprocess.DEVNULL,
        )  # fmt: skip

    monkeypatch.setattr(control, "spawn", spawn)


def test_one_that_is_killed_in_its_first_moments_is_told_with_what_to_do(
    workers: api.Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins_as(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(LaunchError, match=naming(9, "ulimit -a")) as told:
        workers.start()
    assert "it says" not in str(told.value)
    assert not paths.is_running(workers.directory)


def test_of_one_that_is_killed_in_its_first_moments_no_process_is_left(
    workers: api.Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        HOLDER
        + """
import os
if os.fork():
    os.kill(os.getpid(), 9)
hold(sys.argv[1], os.getpid())
"""
    )
    begins_as(monkeypatch, program)
    with pytest.raises(LaunchError, match=naming(9, "ulimit -a")):
        workers.start()
    assert not paths.is_running(workers.directory)


def test_one_that_ends_without_a_word_is_told_so(
    workers: api.Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins_as(monkeypatch, "raise SystemExit(3)")
    with pytest.raises(LaunchError, match=naming(3)):
        workers.start()


@pytest.fixture
def waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[api.Factory]:
    """Make a factory that waits for its manager; its process does nothing."""
    host = SimpleNamespace(address=Sinful.parse("<192.0.2.7:9618>"), socket_dir="/nowhere")
    monkeypatch.setattr(lookup, "discover", lambda: host)
    monkeypatch.setattr(lookup, "check_secret", lambda options: None)
    monkeypatch.chdir(tmp_path)
    worker = tmp_path / "vine_worker"
    worker.write_text("#!/bin/sh\n")
    worker.chmod(0o755)
    begins_as(monkeypatch, HOLDER + "import os; hold(sys.argv[1], os.getpid())")
    workers = api.Factory("condor", manager_name="sweep", worker_binary=str(worker))
    workers.start()
    try:
        yield workers
    finally:
        started, workers._child._process = workers._child._process, None
        assert started is not None
        started.kill()
        started.wait()
        workers._child.end_watch()


FOUND = {"address": "<192.0.2.7:9618?sock=vine_1>", "secret_file": "/s", "ssl": True}


def finds_its_manager(workers: api.Factory) -> None:
    config = os.path.join(workers.directory, paths.CONFIG)
    write_config(config, Options.make(FOUND, base=read_config(config)))


def test_an_option_that_is_set_leaves_the_manager_where_it_was_found(
    waiting: api.Factory,
) -> None:
    finds_its_manager(waiting)
    waiting.max_workers = 3
    assert read_config(os.path.join(waiting.directory, paths.CONFIG)) == Options.make(
        {**FOUND, "max_workers": 3}, base=waiting._options
    )
    assert waiting.address == FOUND["address"]


def test_all_that_is_told_of_the_manager_is_where_it_was_found(
    waiting: api.Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "sock=sweep" in str(waiting.address)
    finds_its_manager(waiting)
    assert {name: getattr(waiting, name) for name in FOUND} == FOUND
    assert "sock=vine_1" in repr(waiting)
    monkeypatch.setattr(setup, "describe_now", lambda options, *_: options.address)
    assert waiting.submit_description() == FOUND["address"]


def test_of_two_options_that_are_set_at_once_none_is_lost(
    waiting: api.Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = api.write_config

    def slowly(path: str, options: Options) -> None:
        time.sleep(0.1)
        write(path, options)

    monkeypatch.setattr(api, "write_config", slowly)
    values = {"max_workers": 7, "timeout": 70, "memory": 700}
    setters = [threading.Thread(target=setattr, args=(waiting, *v)) for v in values.items()]
    for setter in setters:
        setter.start()
    for setter in setters:
        setter.join(20)
    assert {name: getattr(waiting, name) for name in values} == values
    written = read_config(os.path.join(waiting.directory, paths.CONFIG))
    assert {name: getattr(written, name) for name in values} == values


def test_one_that_is_started_again_looks_for_its_manager_where_it_was_started(
    waiting: api.Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    told: list[Any] = []
    monkeypatch.setattr(paths, "lock_directory", lambda _: os.open(os.devnull, os.O_RDONLY))
    monkeypatch.setattr(control, "spawn", lambda *_, cwd, **__: told.append(cwd))
    waiting._child._spawn_again(owner=None, ending=False)
    assert told == [str(tmp_path)]


def test_a_process_that_is_suspended_ends_when_it_is_told() -> None:
    with subprocess.Popen(["sleep", "60"]) as running:
        try:
            running.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, running.pid, os.WSTOPPED | os.WNOWAIT)
            child._tell_to_end(running)
            assert running.wait(20) == -control.PROGRAM_ENDED
        finally:
            running.kill()


@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), RuntimeError("x"), SettingError("another's")]
)
def test_one_that_cannot_be_ended_leaves_the_programs_exception(
    workers: api.Factory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:  # fmt: skip
    def fail(self: object) -> None:
        raise error

    monkeypatch.setattr(api.Factory, "start", lambda self: self)
    monkeypatch.setattr(api.Factory, "stop", fail)
    with pytest.raises(KeyError, match="mine"), workers:
        raise KeyError("mine")
    assert "factory status" in caplog.text
    assert str(error) in caplog.text
