"""The object by which a program has its factory, where its process does not begin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vine_sharedport.errors import LaunchError
from vine_sharedport.factory import api, files, process, target
from vine_sharedport.factory.options import Options, read_config, write_config
from vine_sharedport.wire.sinful import Sinful

from .test_process import HOLDER


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
            [sys.executable, "-c", program, directory], env=process.environment(),
            pass_fds=(lock,), stdout=subprocess.DEVNULL,
        )  # fmt: skip

    monkeypatch.setattr(process, "spawn", spawn)


def test_one_that_is_killed_in_its_first_moments_is_told_with_what_to_do(
    workers: api.Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins_as(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(
        LaunchError, match=r"killed by signal 9 before .*start it again"
    ) as told:
        workers.start()
    assert "it says" not in str(told.value)
    assert not files.is_running(workers.directory)


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
    with pytest.raises(LaunchError, match="killed by signal 9"):
        workers.start()
    assert not files.is_running(workers.directory)


def test_one_that_ends_without_a_word_is_told_so(
    workers: api.Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins_as(monkeypatch, "raise SystemExit(3)")
    with pytest.raises(LaunchError, match=r"ended with status 3; it says:\nnothing"):
        workers.start()


def test_an_option_that_is_set_leaves_the_manager_where_it_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = SimpleNamespace(address=Sinful.parse("<192.0.2.7:9618>"))
    monkeypatch.setattr(target, "discover", lambda: host)
    monkeypatch.setattr(target, "check_secret", lambda options: None)
    monkeypatch.chdir(tmp_path)
    worker = tmp_path / "vine_worker"
    worker.write_text("#!/bin/sh\n")
    worker.chmod(0o755)
    begins_as(monkeypatch, HOLDER + "import os; hold(sys.argv[1], os.getpid())")
    workers = api.Factory("condor", manager_name="sweep", worker_binary=str(worker))
    workers.start()
    try:
        config = os.path.join(workers.directory, files.CONFIG)
        found = {"address": "<192.0.2.7:9618?sock=vine_1>", "secret_file": "/s", "ssl": True}
        write_config(config, Options.make(found, base=read_config(config)))
        workers.max_workers = 3
        assert read_config(config) == Options.make(
            {**found, "max_workers": 3}, base=workers._options
        )
        assert workers.address == found["address"]
    finally:
        started, workers._process = workers._process, None
        assert started is not None
        started.kill()
        started.wait()
        workers._end_keeper()


def test_a_process_that_is_suspended_ends_when_it_is_told() -> None:
    with subprocess.Popen(["sleep", "60"]) as running:
        try:
            running.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, running.pid, os.WSTOPPED | os.WNOWAIT)
            api._tell_to_end(running)
            assert running.wait(20) == -signal.SIGTERM
        finally:
            running.kill()
