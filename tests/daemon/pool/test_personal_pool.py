"""Personal pools of real daemons: ready when they say so, and gone when they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.helpers import ROOT, wait_until
from vine_sharedport.condor import standalone_pool
from vine_sharedport.condor.personal import PersonalPool
from vine_sharedport.condor.personal_pool import guardian as _guardian
from vine_sharedport.condor.personal_pool.status import pool_status
from vine_sharedport.errors import PoolError
from vine_sharedport.supervision import send_signal

pytestmark = pytest.mark.daemon

# A pool may be ended by force; on two busy cores that takes a moment.
GONE = 15.0

# Three jobs at once, of which each has a child in a session of its own and ignores
# SIGTERM. Says where the pool is when all run.
PROGRAM = """
import os, sys, time
from vine_sharedport.condor.personal import PersonalPool

pool = PersonalPool()
pool.start()
pool.activate()
import htcondor2

log = pool.directory + "/jobs.log"
htcondor2.Schedd().submit(htcondor2.Submit(f'''
    executable = /bin/sh
    arguments = "-c 'trap : TERM; setsid sleep 600 & while :; do sleep 600; done'"
    transfer_executable = False
    log = {log}
    request_cpus = 1
    request_memory = 32
    request_disk = 1000
'''), count=3)
events = htcondor2.JobEventLog(log).events(stop_after=60)
running = 0
while running < 3:
    running += next(events).type == htcondor2.JobEventType.EXECUTE
if "fork" in sys.argv:
    if os.fork() == 0:
        time.sleep(600)
try:
    print(pool.directory, pool.token, flush=True)
    if "exit" in sys.argv:
        os._exit(0)
    time.sleep(600)
finally:
    pool.stop()
"""


@contextmanager
def _program(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Run a program that has a pool with jobs; yield it, the pool's place and token."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    token = ""
    try:
        directory, token = process.stdout.readline().split()
        yield process, directory, token
    finally:
        # The program and what it forked, if the test has not ended them.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if token:
            _guardian.kill_pool(token)


def _names(token: str) -> list[str]:
    """Return the names of the pool's processes."""
    names = []
    for process in _guardian.pool_processes(token):
        try:
            names.append(Path(f"/proc/{process.pid}/comm").read_text().strip())
        except OSError:  # it has just ended
            continue
    return names


@pytest.mark.parametrize("arguments", [(), ("fork",)], ids=["alone", "with a forked child"])
def test_nothing_is_left_after_sigkill_of_the_program(arguments: tuple[str, ...]) -> None:
    with _program(*arguments) as (process, directory, token):
        wait_until(lambda: _names(token).count("sleep") == 6)
        assert _names(token).count("condor_starter") == 3
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not _names(token), timeout=GONE)
        wait_until(lambda: not os.path.exists(directory), timeout=GONE)


def test_nothing_is_left_after_ctrl_c() -> None:
    with _program() as (process, directory, token):
        os.killpg(process.pid, signal.SIGINT)
        process.wait(GONE)
        # The program waited for its pool's end.
        assert _names(token) == []
        assert not os.path.exists(directory)


def test_nothing_is_left_of_a_program_that_forgets_to_stop() -> None:
    with _program("exit") as (process, directory, token):
        assert process.wait(GONE) == 0
        wait_until(lambda: not _names(token), timeout=GONE)
        wait_until(lambda: not os.path.exists(directory), timeout=GONE)


@pytest.mark.parametrize("victim", ["guardian", "master"])
def test_no_daemon_or_job_outlives_its_guardian_or_master(victim: str) -> None:
    with _program() as (process, directory, token):
        target = _guardian.noted_process(_guardian.read_state(directory), victim)
        assert target is not None
        send_signal(target, signal.SIGKILL)
        wait_until(
            lambda: not [n for n in _names(token) if n.startswith(("condor", "sleep", "sh"))],
            timeout=GONE,
        )
        process.send_signal(signal.SIGINT)
        process.wait(GONE)
        assert _names(token) == []
        assert not os.path.exists(directory)


@pytest.mark.alone
def test_three_jobs_of_one_core_run_within_five_seconds(
    pool: PersonalPool, tmp_path: Path
) -> None:
    import htcondor2

    log = tmp_path / "jobs.log"
    description = {
        "executable": "/bin/sleep",
        "arguments": "600",
        "transfer_executable": "False",
        "log": str(log),
        "request_cpus": "1",
        "request_memory": "32",
        "request_disk": "1000",
    }
    schedd = htcondor2.Schedd()
    submitted = time.monotonic()
    cluster = schedd.submit(htcondor2.Submit(description), count=3).cluster()
    try:
        running = 0
        events = htcondor2.JobEventLog(str(log))
        for event in events.events(stop_after=30):
            running += event.type == htcondor2.JobEventType.EXECUTE
            if running == 3:
                break
        events.close()
        assert time.monotonic() - submitted < 5
    finally:
        schedd.act(htcondor2.JobAction.Remove, f"ClusterId == {cluster}")
    wait_until(lambda: not schedd.query(f"ClusterId == {cluster}"))


def test_stopped_pool_leaves_no_process_and_no_file() -> None:
    pool = PersonalPool().start()
    token, directory = pool.token, pool.directory
    assert "condor_shared_p" in _names(token)
    assert pool.status().running
    assert pool.status().owner == os.getpid()
    asked = time.monotonic()
    pool.stop()
    # Measured: 0.1 s. The guardian was asked and did it, nothing was killed in the end.
    assert time.monotonic() - asked < 10
    assert _names(token) == []
    assert not os.path.exists(directory)
    assert not pool.status().running
    pool.stop()  # once more does nothing


def test_pool_recovers_from_the_end_of_its_shared_port(tmp_path: Path) -> None:
    pool = PersonalPool().start()
    try:
        shared_port = next(
            p for p, n in pool.status().processes if n.startswith("condor_shared_p")
        )
        address = pool.status().address
        os.kill(shared_port, signal.SIGKILL)
        wait_until(lambda: not pool.status().ads)
        wait_until(lambda: (pool.status().ads or {}).get("Scheduler"))
        assert pool.status().address == address
    finally:
        pool.stop()


def test_forked_child_does_not_stop_the_pool() -> None:
    pool = PersonalPool().start()
    try:
        child = os.fork()
        if child == 0:
            try:
                pool.stop()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert pool.status().running
        assert _guardian.noted_process(_guardian.read_state(pool.directory), "guardian")
    finally:
        pool.stop()


def test_directory_too_long_for_sockets_gets_a_short_place_for_them(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 60)
    pool = PersonalPool(directory).start()
    try:
        lock_dir = _guardian.read_state(str(directory))["lock_dir"]
        assert os.path.isdir(f"{lock_dir}/daemon_sock")
        assert len(f"{lock_dir}/daemon_sock/{'i' * 41}") <= 107
    finally:
        pool.stop()
    assert not os.path.exists(lock_dir)
    # What the user named stays, without jobs and sockets.
    assert sorted(os.listdir(directory / "log"))
    assert not {"lock", "spool", "execute", "pool.json"} & set(os.listdir(directory))


def test_pool_that_does_not_get_ready_says_what_is_missing_and_ends() -> None:
    pool = PersonalPool(config={"DAEMON_LIST": "MASTER COLLECTOR NEGOTIATOR SCHEDD"})
    with pytest.raises(PoolError, match=r"4 s\b(.|\n)*MasterLog"):
        pool.start(timeout=4)
    assert not os.path.exists(pool.directory)


def test_master_that_ends_by_itself_is_reported_with_its_log() -> None:
    pool = PersonalPool(config={"DAEMON_LIST": "MASTER NONSENSE"})
    with pytest.raises(PoolError, match=r"condor_master(.|\n)*NONSENSE"):
        pool.start()
    assert not os.path.exists(pool.directory)


def test_activation_is_undone(pool: PersonalPool, monkeypatch: pytest.MonkeyPatch) -> None:
    import htcondor2

    monkeypatch.setenv("_CONDOR_LOCK", "/nonexistent")
    before = dict(os.environ)
    with PersonalPool() as mine:
        assert os.environ["CONDOR_CONFIG"] == mine.config_file
        assert "_CONDOR_LOCK" not in os.environ
        assert htcondor2.param["LOCK"] == f"{mine.directory}/lock"
        assert htcondor2.Schedd().query() == []
    assert dict(os.environ) == before
    assert htcondor2.param["LOG"] == f"{pool.directory}/log"


# --- a pool that stands alone ------------------------------------------------------------


@pytest.fixture
def standing(tmp_path_factory: pytest.TempPathFactory, short_directory: Path) -> Iterator[Path]:
    """Return the directory of a pool that another program has started and left."""
    _start(short_directory)
    yield short_directory
    standalone_pool.stop_pool(short_directory)


def _start(directory: Path) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys\n"
        "from vine_sharedport.condor import standalone_pool\n"
        "print(standalone_pool.usage_text(standalone_pool.start_pool(sys.argv[1])))"
    )
    return subprocess.run(
        [sys.executable, "-c", program, str(directory)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _token(directory: Path) -> str:
    token = _guardian.read_state(str(directory))["token"]
    assert isinstance(token, str)
    return token


def test_standing_pool_is_found_used_and_stopped(standing: Path) -> None:
    token = _token(standing)
    status = pool_status(standing)
    assert status.running
    assert status.owner is None
    assert status.ads is not None
    assert status.ads["Machine"] == 1
    assert "until it is stopped" in str(status)
    with PersonalPool.find(standing) as pool:
        assert os.environ["CONDOR_CONFIG"] == f"{standing}/condor_config"
        pool.start()  # it is
    assert pool_status(standing).running
    assert standalone_pool.stop_pool(standing) is True
    assert _names(token) == []
    assert standalone_pool.stop_pool(standing) is False
    with pytest.raises(PoolError, match=r"vine_sharedport pool start"):
        PersonalPool.find(standing)


def test_second_pool_in_the_same_directory_is_refused(standing: Path) -> None:
    with pytest.raises(PoolError, match=r"pool stop --directory"):
        PersonalPool(standing).start()
    assert pool_status(standing).running


def test_standing_pool_whose_guardian_was_killed_can_be_started_again(standing: Path) -> None:
    token = _token(standing)
    guardian = _guardian.noted_process(_guardian.read_state(str(standing)), "guardian")
    assert guardian is not None
    send_signal(guardian, signal.SIGKILL)
    wait_until(lambda: not _names(token), timeout=GONE)
    # What is just ending has no environment any more, and so no name here.
    wait_until(lambda: not pool_status(standing).running, timeout=GONE)
    done = _start(standing)
    assert f'eval "$(vine_sharedport pool env --directory {standing})"' in done.stdout
    assert f"vine_sharedport pool stop --directory {standing}" in done.stdout
    assert pool_status(standing).running
    assert _token(standing) != token


def test_owners_pool_can_be_stopped_from_elsewhere() -> None:
    pool = PersonalPool().start()
    token = pool.token
    assert standalone_pool.stop_pool(pool.directory) is True
    assert _names(token) == []
    pool.stop()


def test_stop_ends_a_pool_whose_guardian_and_master_hang(
    standing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_guardian, "STOP_TIMEOUT", 0.2)
    state: dict[str, Any] = _guardian.read_state(str(standing))
    for victim in ("guardian", "master"):
        target = _guardian.noted_process(state, victim)
        assert target is not None
        send_signal(target, signal.SIGSTOP)
    assert standalone_pool.stop_pool(standing) is True
    assert _names(state["token"]) == []
