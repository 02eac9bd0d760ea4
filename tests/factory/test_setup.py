"""What is found, checked and made before a factory's process starts; no pool is needed."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vine_sharedport.errors import LaunchError
from vine_sharedport.factory import files, process, setup
from vine_sharedport.factory.api import Factory
from vine_sharedport.factory.options import OptionError, Options, read_config
from vine_sharedport.pool.worker_job import run_directory

ADDRESS = "<192.0.2.7:9618?sock=vine_42>"
ROOT = Path(__file__).parents[2]


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
            pytest.raises(LaunchError, match=r"a factory runs in .*there already"),
            setup.prepare(other, directory),
        ):
            pass
        assert read_config(os.path.join(directory, files.CONFIG)).max_workers == 100

    with setup.prepare(options, directory) as (made, lock):
        assert made.directory == directory
        second_start_is_refused()
        started = process.spawn(directory, owner=process.owner_process(), lock=lock)
    try:
        # Its Python has hardly begun: it is the descriptor that keeps others out.
        assert files.is_running(directory)
        second_start_is_refused()
    finally:
        started.kill()
        started.wait()
    files_left = Path(directory, files.LOG).read_text()
    assert "Traceback" not in files_left


def test_a_descriptor_that_is_no_lock_of_the_directory_is_refused(tmp_path: Path) -> None:
    lock = files.lock_directory(str(tmp_path))
    assert lock is not None
    try:
        os.set_inheritable(lock, True)
        files.inherit_lock(str(tmp_path), lock)
        assert not os.get_inheritable(lock)
    finally:
        os.close(lock)
    with pytest.raises(LaunchError, match="cannot use descriptor"):
        files.inherit_lock(str(tmp_path), lock)
    with open(os.devnull) as other, pytest.raises(LaunchError, match="leave out --lock"):
        files.inherit_lock(str(tmp_path), other.fileno())


# --- the lock of a manager


def holding(manager: str, temporary: Path) -> subprocess.Popen[str]:
    """Start a process that tells whether it has the lock, and keeps it until a line comes."""
    temporary.mkdir()
    program = (
        "import sys; from vine_sharedport.factory import files\n"
        f"with files.manager_lock({manager!r}) as mine: print(mine, flush=True); input()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program], text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, cwd=temporary,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


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


def test_what_another_user_has_taken_keeps_nobody_from_submitting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager = f"test_{os.getpid()}"
    bound: list[Any] = []
    monkeypatch.setattr(files, "_bind", lambda lock, name: bound.append(name))
    monkeypatch.setattr(files, "_BIND_TIMEOUT", 0.05)
    with files.manager_lock(manager) as mine:  # bound by somebody who does not listen
        assert mine is True
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(bound[0])
        other.listen()
        with files.manager_lock(manager) as mine:
            assert mine is False
        user = os.getuid()
        assert files._owner_of(bound[0]) == user
        monkeypatch.setattr(files, "_owner_of", lambda name: user + 1)
        with files.manager_lock(manager) as mine:
            assert mine is True


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
    with pytest.raises(OptionError, match=r"max_workers is 10 by its file .*mine\.json.* 50"):
        workers.max_workers = 50
    assert workers.max_workers == 10
    workers.max_workers = 10  # as it is
    workers.cores = 4
    assert workers.cores == 4
    config.write_text("{}")
    workers.max_workers = 50
    assert setup.resolve(workers._given).max_workers == 50


# --- the directory


def test_a_factory_is_beside_the_files_of_its_managers_run(tmp_path: Path) -> None:
    link = SimpleNamespace(log_file=str(tmp_path / "run" / "shared_port.log"))
    logs = str(tmp_path / "vine-logs")
    taskvine = SimpleNamespace(logging_directory=logs, shared_port=link)
    assert run_directory(taskvine) == logs
    assert run_directory(SimpleNamespace(shared_port=link)) == str(tmp_path / "run")
    without_log = SimpleNamespace(shared_port=SimpleNamespace(log_file=None))
    assert run_directory(without_log) == os.getcwd()
