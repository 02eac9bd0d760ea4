"""The noun factory as users type it: vine_factory's flags, status, stop, list."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.daemon.factory_helpers import (
    SWIFT,
    drive,
    finish,
    processes_of,
    queued,
    read,
    wait_until_gone,
)
from vine_sharedport.condor.manager_job.job import find_manager
from vine_sharedport.errors import SettingError
from vine_sharedport.factory.report import paths

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")

FLAGS = [
    "-T", "condor", "-w", "0", "-W", "2", "-t", "30", "--cores", "1", "--memory", "100",
    "--disk", "100", "--factory-period", "0.5", "--workers-per-cycle", "0",
]  # fmt: skip


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "vine_sharedport", "factory", *arguments]


def call(cwd: Path, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=cwd, env={**os.environ, "PYTHONPATH": str(helpers.ROOT)},
        capture_output=True, text=True, check=False, timeout=timeout,
    )  # fmt: skip


@contextlib.contextmanager
def running(cwd: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with open(cwd / "output", "w") as output:
        process = subprocess.Popen(
            command(*arguments), cwd=cwd, text=True, stdout=output, stderr=output,
            env={**os.environ, "PYTHONPATH": str(helpers.ROOT)},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def place(manager: Any) -> list[str]:
    link = manager.shared_port
    return ["--address", str(link.address), "--secret-file", link.secret_file]


def test_it_serves_a_manager_and_tells_of_it_and_is_stopped(
    manager: Any, tmp_path: Path
) -> None:
    directory = tmp_path / f"vine-factory-{manager.shared_port.sock_id}"
    metrics = tmp_path / "factory.prom"
    arguments = [*FLAGS, *place(manager), "--prometheus-file", str(metrics)]
    with running(tmp_path, *arguments) as process:
        for _ in range(20):
            manager.submit(vine.Task("sleep 0.1"))
        assert len(finish(manager)) == 20
        drive(manager, lambda: read(str(directory)).workers.connected == 2)  # type: ignore
        drive(manager, lambda: read(str(directory)).manager.tasks_done == 20)  # type: ignore
        found = call(tmp_path, "status", "--json")
        assert found.returncode == 0, found.stderr
        status = json.loads(found.stdout)
        assert status["workers"]["connected"] == 2
        assert status["directory"] == str(directory)
        assert status["pid"] == process.pid
        assert "2 of them connected" in call(tmp_path, "status", str(directory)).stdout
        shown = call(tmp_path, "status", "--prometheus").stdout
        assert "vine_sharedport_factory_workers{" in shown
        assert "vine_sharedport_factory_workers{" in metrics.read_text()
        assert metrics.stat().st_mode & 0o777 == 0o644, "another user's exporter reads it"
        assert "0 idle, 2 running" in call(tmp_path, "list").stdout
        (listed,) = json.loads(call(tmp_path, "list", "--json").stdout)
        assert listed["is_running"] is True
        assert "each 1 core, 100 MB, 100 MB of disk" in call(tmp_path, "status").stdout
        stopped = call(tmp_path, "stop")
        assert stopped.returncode == 0, stopped.stderr
        assert "has ended" in stopped.stdout
        assert process.wait(20) == 0
        assert not queued(status["factory"])
    ended = call(tmp_path, "status")
    assert ended.returncode == 1
    assert "ended: stopped by 'vine_sharedport factory stop'\n" in ended.stdout
    assert "No factory runs" in call(tmp_path, "stop").stdout
    assert "as cluster" in (directory / "factory.log").read_text()


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGHUP, "SIGHUP")]
)
def test_a_signal_ends_it_and_its_jobs(
    manager: Any, tmp_path: Path, number: int, name: str
) -> None:
    arguments = [*FLAGS, "-w", "1", *place(manager), "-S", "there"]
    with running(tmp_path, *arguments) as process:
        directory = str(tmp_path / "there")
        drive(manager, lambda: (s := read(directory)) and s.workers.connected == 1)
        status = read(directory)
        assert status is not None
        process.send_signal(number)
        assert process.wait(20) == 0
        assert not queued(status.factory)
    last = read(directory)
    assert last is not None
    assert last.state == "ended"
    assert last.phase == ("ctrl-c" if name == "Ctrl-C" else "signal")
    assert name in last.message


def test_bare_verbs_find_the_one_factory_that_a_program_has_started(
    make_manager: Any, tmp_path: Path
) -> None:
    # TaskVine has a link to the last run's directory, which makes each file look like two.
    manager = make_manager(run_info_path=str(tmp_path / "vine-run-info"))
    assert (tmp_path / "vine-run-info" / "most-recent").is_symlink()
    with vine.Factory("condor", manager=manager, **SWIFT) as workers:
        found = call(tmp_path, "status", "--json")
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout)["pid"] == workers.status().pid
        assert len(call(tmp_path, "list").stdout.splitlines()) == 2, "with the heading"
        stopped = call(tmp_path, "stop")
        assert stopped.returncode == 0, stopped.stderr
        assert workers.status().state == "ended"
        assert "not running" in repr(workers)
        workers.start()
        assert workers.status().state == "running"


def test_a_signal_that_was_ignored_at_its_start_stays_ignored(
    manager: Any, tmp_path: Path
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        process = running(tmp_path, *FLAGS, *place(manager), "-S", "there")
        with process as factory:
            signal.signal(signal.SIGHUP, before)
            directory = str(tmp_path / "there")
            drive(manager, lambda: (s := read(directory)) and s.manager.reachable)
            for pid in processes_of(directory) or [factory.pid]:
                os.kill(pid, signal.SIGHUP)
            at = read(directory).time  # type: ignore[union-attr]
            drive(manager, lambda: (s := read(directory)) and s.time > at + 1)
            assert factory.poll() is None
            assert read(directory).state == "running"  # type: ignore[union-attr]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_tells_what_it_does_and_twice_leaves_it_to_the_background(
    manager: Any, tmp_path: Path
) -> None:
    # The one that works cannot answer, as with a schedd that is gone.
    arguments = [*FLAGS, *place(manager), "-S", "there"]
    directory = str(tmp_path / "there")
    with running(tmp_path, *arguments) as process:
        drive(manager, lambda: (s := read(directory)) and s.manager.reachable)
        (worker,) = set(children(process.pid))
        os.kill(worker, signal.SIGSTOP)
        try:
            process.send_signal(signal.SIGINT)
            helpers.wait_until(lambda: "once more" in (tmp_path / "output").read_text())
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
            assert f"process {worker} goes on" in (tmp_path / "output").read_text()
            assert paths.is_running(directory)
        finally:
            os.kill(worker, signal.SIGCONT)
        helpers.wait_until(lambda: (s := read(directory)) and s.state == "ended")
        helpers.wait_until(lambda: not paths.is_running(directory))
    assert "Traceback" not in (tmp_path / "output").read_text()


def test_output_that_nobody_takes_is_told_in_one_line(manager: Any, tmp_path: Path) -> None:
    with running(tmp_path, *FLAGS, *place(manager), "-S", "there"):
        drive(manager, lambda: read(str(tmp_path / "there")))
        for target, status, message in (("full", 1, "cannot write the output"), ("", 141, "")):
            with contextlib.ExitStack() as stack:
                if target:
                    output = stack.enter_context(open("/dev/full", "w")).fileno()
                else:
                    reader, output = os.pipe()
                    os.close(reader)
                    stack.callback(os.close, output)
                found = subprocess.run(
                    command("status", "there"), cwd=tmp_path, stdout=output,
                    stderr=subprocess.PIPE, text=True, check=False, timeout=60,
                    env={**os.environ, "PYTHONPATH": str(helpers.ROOT)},
                )  # fmt: skip
            assert found.returncode == status, found.stderr
            assert message in found.stderr
            assert len(found.stderr.splitlines()) == bool(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-S", "/proc/x"], "cannot make the factory's directory /proc/x"),
        (["--log-file", "none/x"], "there is no directory"),
        (["--debug-file", "none/x"], "there is no directory"),
        (["--prometheus-file", "none/x"], "cannot write --prometheus-file"),
        (["--prometheus-file", "run-info"], "Is a directory; give a file"),
        (["--wrapper", "./caf\udce9"], "wrapper is './caf\\udce9'; wanted is UTF-8 text"),
        (["--env", "A B=1"], "env is 'A B=1'; wanted is"),
        (["--condor-requirements", "(("], "condor_requirements is '(('"),
        (["-B", "queue = 50"], "batch_options has 'queue = 50', which is no submit command"),
        (["--worker-binary", "none"], "there is no worker program"),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line_and_nothing_is_made(
    manager: Any, tmp_path: Path, arguments: list[str], message: str
) -> None:
    found = call(tmp_path, *FLAGS, *place(manager), *arguments)
    assert found.returncode == 2
    assert message in found.stderr.splitlines()[-1]
    assert "Traceback" not in found.stderr
    assert found.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["run-info"]


def test_a_directory_that_may_not_be_written_is_said_in_one_line(
    manager: Any, tmp_path: Path
) -> None:
    place_to_be = tmp_path / "read-only"
    place_to_be.mkdir(mode=0o500)
    if os.access(place_to_be, os.W_OK):
        pytest.skip("root may write anywhere")
    found = call(place_to_be, *FLAGS, *place(manager))
    assert found.returncode == 2
    assert "Permission denied" in found.stderr.splitlines()[-1]
    assert "Traceback" not in found.stderr


def test_a_manager_is_found_by_the_name_of_its_shared_port(
    pool: Any, make_manager: Any, tmp_path: Path
) -> None:
    manager = make_manager(
        shared_port=vine.SharedPort(name="sweep"), run_info_path=str(tmp_path / "vine-run-info")
    )
    with running(tmp_path, *FLAGS, "-M", "sweep"):
        manager.submit(vine.Task("echo found"))
        (task,) = finish(manager)
        assert task.output == "found\n"
        assert "  manager    sweep at <" in call(tmp_path, "status", "sweep").stdout
    wait_until_gone("sweep")


def test_dry_run_prints_what_would_be_submitted_and_submits_nothing(
    manager: Any, tmp_path: Path
) -> None:
    found = call(
        tmp_path, *FLAGS, *place(manager), "--dry-run", "--feature", "a", "--feature", "b",
        "--env", "COLOUR=blue", "--condor-requirements", "Memory > 5", "-B", "+Team = \"x\"",
        "-E", "--wall-time 99", "--preset", "pool",
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "executable = " in found.stdout
    assert "requirements = Memory > 5" in found.stdout.replace("(", "").replace(")", "")
    assert '+Team = "x"' in found.stdout
    assert "'--feature' 'a' '--feature' 'b'" in found.stdout
    assert "'--wall-time' '99'" in found.stdout
    assert "COLOUR='blue'" in found.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["run-info"]
    assert not queued(manager.shared_port.sock_id)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-T", "condor"], 2, "give the manager"),
        (["stpo", "nowhere", "--json"], 2, "there is no verb 'stpo'; did you mean stop?"),
        (["xyz"], 2, "there is no verb 'xyz'; for a name: vine_sharedport factory run xyz"),
        (["host", "9123"], 2, "give the manager"),
        (["-T", "slurm", "-M", "x"], 2, "vine_factory with the launcher"),
        (["-M", "x", "--max-worker", "3"], 2, "did you mean --max-workers?"),
        (["-M", "x", "-W", "many"], 2, "max_workers is 'many'"),
        (["-M", "x", "--amazon-config", "f"], 2, "amazon_config is refused"),
        (["-M", "a name"], 2, "the factory can wait for no such name"),
        (["-M", "x", "-C", "none.json"], 2, "cannot read the factory's configuration"),
        (["--address", "<127.0.0.1:1?sock=a>", "--preset", "none"], 2, "no preset 'none'"),
        (["status"], 1, "there is no factory in or below"),
        (["stop", "nowhere"], 1, "there is no factory 'nowhere', nor any other, in or below"),
        (["stop", "nowhere", "--timeout", "nan"], 2, "'nan' is no length of time"),
        (["status", "nowhere", "--interval", "inf"], 2, "'inf' is no length of time"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_left(
    pool: Any, tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    found = call(tmp_path, *arguments)
    assert (found.returncode, message in " ".join(found.stderr.split())) == (status, True), (
        found.stderr
    )
    assert "Traceback" not in found.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["time", "pid", "workers", "jobs"])
def test_a_status_of_something_else_is_said_in_one_line(tmp_path: Path, name: str) -> None:
    status = {"time": 1, "factory": "a", "pid": 1 << 22, "state": "running", "message": "m",
              "directory": "d", "workers": {}, "jobs": []}  # fmt: skip
    there = tmp_path / "there"
    there.mkdir()
    (there / "status.json").write_text(json.dumps({**status, name: "text"}))
    lock = paths.lock_directory(str(there))  # as if a factory ran there
    assert lock is not None
    try:
        for verb in (["status"], ["status", "--prometheus"], ["status", "--watch"], ["stop"]):
            found = call(tmp_path, *verb, "there")
            assert found.returncode == 1
            (line,) = found.stderr.splitlines()
            assert "cannot read the factory's status" in line
        assert "there is no factory in" in call(tmp_path, "list").stderr.lower()
    finally:
        os.close(lock)


def test_digits_of_other_scripts_are_no_number_of_a_job(pool: Any) -> None:
    with pytest.raises(SettingError, match="'\u0661\u0662'"):
        find_manager("\u0661\u0662")


def test_vine_factorys_own_configuration_file_is_read_and_followed(
    manager: Any, tmp_path: Path
) -> None:
    config = tmp_path / "factory.json"
    config.write_text(json.dumps({"min-workers": 1, "max-workers": 1, "timeout": 20}))
    directory = str(tmp_path / "there")
    with running(tmp_path, *FLAGS, *place(manager), "-C", "factory.json", "-S", "there"):
        drive(manager, lambda: (s := read(directory)) and s.workers.connected == 1)
        config.write_text(json.dumps({"min-workers": 2, "max-workers": 2}))
        drive(manager, lambda: (s := read(directory)) and s.workers.connected == 2)


def test_the_live_view_ends_with_the_factory(manager: Any, tmp_path: Path) -> None:
    directory = str(tmp_path / "there")
    with running(tmp_path, *FLAGS, *place(manager), "-w", "1", "-S", "there"):
        drive(manager, lambda: (s := read(directory)) and s.workers.connected == 1)
        ours, terminal = pty.openpty()
        with open(tmp_path / "view", "w") as file:
            watching = [
                subprocess.Popen(
                    command("status", "there", "--watch"), cwd=tmp_path, stdout=view,
                    env={**os.environ, "PYTHONPATH": str(helpers.ROOT), "TERM": "xterm"},
                )
                for view in (file, terminal)
            ]  # fmt: skip
        os.close(terminal)
        # Not at the end alone: a file too can be followed.
        helpers.wait_until(lambda: "connected" in (tmp_path / "view").read_text())
        shown = os.read(ours, 1 << 16)
        call(tmp_path, "stop", "there")
        with contextlib.suppress(OSError):  # EIO: all others have closed it
            while more := os.read(ours, 1 << 16):
                shown += more
        os.close(ours)
        assert [process.wait(30) for process in watching] == [0, 0]
    assert b"connected" in shown
    assert b"\x1b[" in shown
    assert "\x1b[" not in (tmp_path / "view").read_text()


def test_one_that_is_started_in_the_background_goes_on_without_its_shell(
    pool: Any, make_manager: Any, tmp_path: Path
) -> None:
    manager = make_manager(
        shared_port=vine.SharedPort(name="later"), run_info_path=str(tmp_path / "vine-run-info")
    )
    words = shlex.join(command("start", "later", *FLAGS, "--prometheus-file", "f.prom"))
    started = subprocess.run(
        # A shell with a terminal of its own, which then closes.
        [sys.executable, "-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]))",
         "sh", "-c", words],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(helpers.ROOT)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    directory = str(tmp_path / "vine-factory-later")
    assert f"The factory works in {directory}, in the background as process " in started.stdout
    assert f"Its log:  {directory}/factory.log" in started.stdout
    try:
        manager.submit(vine.Task("echo found"))
        (task,) = finish(manager)
        assert task.output == "found\n"
        assert call(tmp_path, "status", "later").returncode == 0
        again = call(tmp_path, "start", directory)
        assert again.returncode == 1
        assert f"factory status {directory}" in again.stderr
        assert (tmp_path / "f.prom").exists()
    finally:
        stopped = call(tmp_path, "stop", "later")
    assert (stopped.returncode, stopped.stderr) == (0, "")
    again = call(tmp_path, "start", directory)
    assert again.returncode == 0, again.stderr
    changed = call(tmp_path, "run", directory, "--max-workers", "3")
    assert call(tmp_path, "stop", directory).returncode == 0
    assert (changed.returncode, "--max-workers" in changed.stderr) == (2, True)
