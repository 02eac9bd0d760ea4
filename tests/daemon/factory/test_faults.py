"""Whatever is killed, no job stays behind and no task is lost."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.daemon.factory_helpers import (
    SWIFT,
    drive,
    finish,
    kill,
    peak,
    processes_of,
    queued,
    read,
    wait_until_gone,
)
from vine_sharedport.factory import control
from vine_sharedport.factory.report import paths

from .test_command import FLAGS, running

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")

TASKS = 40


def factory(manager: Any, **options: Any) -> Any:
    return vine.Factory("condor", manager=manager, **{**SWIFT, "max_workers": 2, **options})


def submit(manager: Any, command: str = "sleep 0.1", count: int = TASKS) -> None:
    for _ in range(count):
        manager.submit(vine.Task(command))


@pytest.mark.parametrize("which", ["supervisor", "worker"])
def test_one_of_the_factorys_processes_is_killed(manager: Any, which: str) -> None:
    with factory(manager) as workers:
        submit(manager)
        done = drive(manager, lambda: workers.status().workers.connected == 2)
        before = processes_of(workers.directory)
        assert len(before) == 2
        kill(before[0] if which == "supervisor" else before[1])
        done += drive(
            manager, lambda: len(set(processes_of(workers.directory)) - set(before)) == 1
        )
        done += finish(manager)
        assert len(done) == TASKS
        # It knows its jobs again, and needs no others.
        drive(manager, lambda: workers.status().pid in processes_of(workers.directory))
        drive(manager, lambda: workers.status().workers.connected == 2)
        snapshot = workers.status()
        assert snapshot.submitted - snapshot.workers.failed == 2, snapshot.jobs
        mark = snapshot.factory
        assert len(queued(mark)) == 2
    assert not queued(mark)
    helpers.wait_until(lambda: not processes_of(workers.directory))
    assert workers.status().state == "ended"
    assert peak(workers.directory) == 2


@pytest.mark.parametrize("which", ["config_file", "input"])
def test_a_restart_that_could_start_no_worker_knows_its_jobs_all_the_same(
    manager: Any, tmp_path: Path, which: str
) -> None:
    config, extra = tmp_path / "mine.json", tmp_path / "extra"
    config.write_text('{"max-workers": 2}')
    extra.write_text("x")
    options: dict[str, Any] = {**SWIFT, "min_workers": 2}
    del options["max_workers"]
    if which == "config_file":
        options["config_file"] = str(config)
    else:
        options.update(max_workers=2, wrapper="env", wrapper_input=[str(extra)])
    with vine.Factory("condor", manager=manager, **options) as workers:
        drive(manager, lambda: workers.status().workers.connected == 2)
        before = processes_of(workers.directory)
        if which == "config_file":
            config.write_text('{"max-workers": 2,')
        else:
            extra.unlink()
        kill(before[1])
        drive(manager, lambda: len(set(processes_of(workers.directory)) - set(before)) == 1)
        submit(manager)
        assert len(finish(manager)) == TASKS
        drive(manager, lambda: workers.status().workers.connected == 2)
        assert workers.status().submitted == 2
        assert workers.status().problems
        mark = workers.status().factory
    assert not queued(mark)
    assert workers.status().state == "ended"


def test_both_are_killed_at_once_and_the_program_starts_them_again(
    manager: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with factory(manager, min_workers=1) as workers:
        submit(manager)
        done = drive(manager, lambda: workers.status().workers.connected == 2)
        before = processes_of(workers.directory)
        mark = workers.status().factory
        for pid in before:
            kill(pid)
        helpers.wait_until(lambda: not paths.is_running(workers.directory))
        assert len(queued(mark)) == 2
        done += drive(manager, lambda: workers.status().pid not in before)
        done += drive(manager, lambda: workers.status().workers.connected == 2)
        assert "was killed; starting it again" in caplog.text
        done += finish(manager)
        assert len(done) == TASKS
        assert workers.status().factory == mark
        assert workers.status().submitted == 2
        # Options still reach it.
        workers.max_workers = 1
        drive(manager, lambda: workers.status().max_workers == 1)
    assert not queued(mark)


@contextlib.contextmanager
def factory_of_its_own(manager: Any, directory: Path, *options: str) -> Iterator[str]:
    """Run a factory by the command, with which no program sees to it; yield its mark."""
    link = manager.shared_port
    with running(
        directory.parent, *FLAGS, "--address", str(link.address),
        "--secret-file", link.secret_file, "--directory", str(directory), *options,
    ):  # fmt: skip
        helpers.wait_until(lambda: read(str(directory)))
        yield paths.factory_id(str(directory))


def test_the_next_start_finds_the_jobs(manager: Any, tmp_path: Path) -> None:
    directory = tmp_path / "first"
    with factory_of_its_own(manager, directory, "-w", "1") as mark:
        submit(manager)
        drive(manager, lambda: read(str(directory)).workers.connected == 2)  # type: ignore
        for pid in processes_of(str(directory)):
            kill(pid)
        helpers.wait_until(lambda: not paths.is_running(str(directory)))
        assert len(queued(mark)) == 2
        with factory(manager, min_workers=1, directory=str(directory)) as again:
            drive(manager, lambda: again.status().workers.connected == 2)
            assert again.status().factory == mark
            finish(manager)
            assert again.status().submitted == 2
    assert not queued(mark)


def test_a_factory_elsewhere_removes_what_one_that_was_killed_has_left(
    manager: Any, tmp_path: Path
) -> None:
    directory = tmp_path / "first"
    with factory_of_its_own(manager, directory, "-w", "2") as mark:
        drive(manager, lambda: read(str(directory)).workers.connected == 2)  # type: ignore
        for pid in processes_of(str(directory)):
            kill(pid)
        helpers.wait_until(lambda: not paths.is_running(str(directory)))
        assert len(queued(mark)) == 2
        with factory(manager, directory=str(tmp_path / "second")) as again:
            drive(manager, lambda: not queued(mark), timeout=20)
            submit(manager, count=4)
            assert len(finish(manager)) == 4
            assert again.status().factory != mark


PROGRAM = """
import sys, vine_sharedport as vine
options = {options!r}
m = vine.Manager(0, shared_port=True, run_info_path={run_info!r})
with vine.Factory("condor", manager=m, directory={directory!r}, **options) as workers:
    for _ in range(100):
        m.submit(vine.Task("sleep 1"))
    while not m.empty():
        m.wait(1)
"""


@contextlib.contextmanager
def program_at_work(tmp_path: Path, connected: int, **options: Any) -> Iterator[Any]:
    """Yield a program with so many workers connected, and its factory's directory."""
    directory = str(tmp_path / "factory")
    text = PROGRAM.format(
        options={**SWIFT, "max_workers": 2, "min_workers": 2, **options},
        run_info=str(tmp_path / "run-info"),
        directory=directory,
    )
    running = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", text],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(helpers.ROOT)},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        helpers.wait_until(
            lambda: (status := read(directory)) and status.workers.connected == connected
        )
        yield running, directory
    finally:
        running.kill()
        running.wait()


@pytest.fixture
def program(pool: Any, tmp_path: Path) -> Iterator[Any]:
    """Return a program at work, with two workers connected, and its factory's directory."""
    with program_at_work(tmp_path, 2) as found:
        yield found


@pytest.mark.parametrize("also", ["nothing", "supervisor", "worker"])
def test_the_managers_program_is_killed(program: Any, also: str) -> None:
    running, directory = program
    status = read(directory)
    assert status is not None
    supervisor, worker = processes_of(directory)
    began = time.monotonic()
    running.kill()
    if also != "nothing":
        kill(supervisor if also == "supervisor" else worker)
    wait_until_gone(status.factory, timeout=60)
    assert time.monotonic() - began < 30
    helpers.wait_until(lambda: not processes_of(directory))
    last = read(directory)
    assert last is not None
    assert last.state == "ended"
    assert last.phase in ("program-ended", "manager-ended")


def test_a_worker_is_killed_and_its_task_runs_elsewhere(manager: Any) -> None:
    with factory(manager, max_workers=1) as workers:
        manager.submit(vine.Task("sleep 2; echo done"))
        drive(manager, lambda: workers.status().workers.connected == 1)
        drive(manager, lambda: helpers.stats_now(manager).tasks_running == 1)
        for pid in helpers.pids_named("vine_worker"):  # and its child, who serves files
            with contextlib.suppress(ProcessLookupError):  # its child ends with it
                kill(pid)
        (task,) = finish(manager)
        assert task.output == "done\n"
        drive(manager, lambda: workers.status().workers.failed == 1)
        snapshot = workers.status()
        assert snapshot.submitted == 2
        (job,) = [job for job in snapshot.jobs if job.state == "ended"]
        assert "signal 9" in str(job.reason) or "status 137" in str(job.reason)
        mark = snapshot.factory
    assert not queued(mark)


def test_the_schedd_is_killed_and_comes_back(manager: Any) -> None:
    with factory(manager) as workers:
        submit(manager, "sleep 0.5", 20)
        drive(manager, lambda: workers.status().workers.connected == 2)
        mark = workers.status().factory
        for pid in helpers.pids_named("condor_schedd"):
            kill(pid)
        finish(manager, timeout=60)
        drive(manager, lambda: workers.status().problems == ())
        assert peak(workers.directory) <= 2
    wait_until_gone(mark)
    assert workers.status().state == "ended"


def test_the_schedd_is_away_when_the_factory_ends(manager: Any) -> None:
    with factory(manager, min_workers=2) as workers:
        drive(manager, lambda: workers.status().workers.connected == 2)
        mark = workers.status().factory
        for pid in helpers.pids_named("condor_schedd"):
            kill(pid)
    helpers.wait_until(lambda: workers.status().state == "ended", timeout=60)
    wait_until_gone(mark)


def test_the_jobs_go_when_everything_of_ours_was_killed(manager: Any, tmp_path: Path) -> None:
    """The last resort: the schedd finds that a lease has run out, and the worker that
    nobody answers. A factory that lives keeps its waiting job meanwhile."""
    one_runs = "MY.ProcId == 0"
    with (
        factory(manager, min_workers=1, max_workers=1, condor_requirements="False") as living,
        program_at_work(tmp_path, 1, condor_requirements=one_runs) as (running, directory),
    ):
        drive(manager, lambda: living.status().workers.idle == 1)
        helpers.wait_until(lambda: read(directory).workers.idle == 1)  # type: ignore
        mark = paths.factory_id(directory)
        began = time.monotonic()
        for pid in [running.pid, *processes_of(directory)]:
            kill(pid)
        helpers.wait_until(lambda: not processes_of(directory))
        took: dict[int, float] = {}

        def is_empty() -> bool:
            left = {ad["ProcId"] for ad in queued(mark)}
            took.update({p: time.monotonic() - began for p in {0, 1} - left - set(took)})
            return not left

        assert not is_empty()
        drive(manager, is_empty, timeout=120)
        print(f"gone: the waiting job after {took[1]:.0f} s, the worker after {took[0]:.0f} s")
        # The lease is 30 s in this pool, and was not renewed for 10 s at most.
        assert 15 < took[1] < 60
        assert took[0] < 90, "its timeout is 30 s"
        snapshot = living.status()
        assert snapshot.submitted == 1
        assert len(queued(snapshot.factory)) == 1, "its lease was not renewed"


def test_a_factory_that_is_told_twice_to_run_in_a_directory_refuses(manager: Any) -> None:
    with factory(manager) as workers:
        found = subprocess.run(
            control.command(workers.directory), env=control.environment(),
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert found.returncode == 1
        assert f"factory status {workers.directory}" in found.stderr
        assert "already" in found.stderr
    assert json.loads(Path(workers.directory, paths.STATUS).read_text())["state"] == "ended"
