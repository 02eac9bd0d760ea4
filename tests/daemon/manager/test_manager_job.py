"""A manager's program as a job of the real schedd: it works, ends, fails and is told of."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.values import naming
from vine_sharedport.cli.common import Parser
from vine_sharedport.cli.manager import add_manager
from vine_sharedport.condor.manager_job import job as manager_job
from vine_sharedport.condor.manager_job.description import ManagerProgram
from vine_sharedport.errors import NoStatusError, ScheddError, SettingError

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")

WORKFLOW = """
    import os, sys, warnings
    warnings.simplefilter("ignore")
    import vine_sharedport as vine

    with vine.Manager(0, shared_port=True) as manager:
        print("PORTER", manager.shared_port.address.sock)
        with vine.submit_workers(manager, 2, cores=1, memory=200, disk=500) as jobs:
            print("WORKERS", jobs.cluster)
            for n in range(int(sys.argv[1])):
                manager.submit(vine.Task(f"echo {n}"))
            done = 0
            while not manager.empty() or len(sys.argv) > 2:
                task = manager.wait(1)
                if task is not None:
                    assert task.successful()
                    assert manager.shared_port.accepted(task.addrport)
                    done += 1
                    print("DONE", done)
    print("END")
"""

# Prints its number and stays; SIGTERM is ignored if there is an argument.
STAYS = """
    import os, signal, sys, time
    if len(sys.argv) > 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        print("HERE", os.getpid())
        time.sleep(600)
    finally:
        print("CLEANED")
"""


@pytest.fixture
def here(pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Be in a directory of its own, where managers' jobs do not outlive the test."""
    place = tmp_path / "a place of its own"
    place.mkdir()
    monkeypatch.chdir(place)
    # What a checkout's tests are run with is not what is asked here.
    monkeypatch.setenv("PYTHONPATH", str(helpers.ROOT))
    yield place
    for job in manager_job.list_managers(ended=False):
        manager_job.stop_manager(str(job.id))


def write(place: Path, name: str, text: str) -> str:
    (place / name).write_text(textwrap.dedent(text))
    return name


def submit(*arguments: Any, **options: Any) -> Any:
    return manager_job.submit_manager(ManagerProgram(*arguments, **options))


def command(*arguments: str) -> tuple[int, str]:
    """Run ``vine_sharedport manager ...``; return its status and output."""
    parser = Parser()
    add_manager(parser.add_names("NOUN"))
    options = parser.parse_args(["manager", *arguments])
    said = io.TextIOWrapper(io.BytesIO(), write_through=True)
    with contextlib.redirect_stdout(said):
        status = options.run(options)
    return status, said.buffer.getvalue().decode()  # type: ignore[attr-defined]


def printed(job: Any) -> str:
    with contextlib.suppress(FileNotFoundError):
        return Path(job.output).read_text()
    return ""


def shows(job: Any, word: str, *, timeout: float = 60) -> list[str]:
    """Wait until it has printed a line that starts with a word; return that line's words."""

    def look() -> list[str] | None:
        assert not manager_job.find_manager(str(job.id)).failed, Path(job.error).read_text()
        lines = [line.split() for line in printed(job).splitlines()]
        return next((line for line in lines if line[0] == word), None)

    return helpers.wait_until(look, timeout=timeout)


def ended(job: Any, *, timeout: float = 60) -> Any:
    return helpers.wait_until(
        lambda: (now := manager_job.find_manager(str(job.id))).done and now, timeout=timeout
    )


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def socket_file(sock_id: str) -> Path:
    return Path(vine.discover().socket_dir) / sock_id


def processes_with(text: str) -> list[int]:
    """Return the processes whose command line or environment has this text."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            told = Path(f"/proc/{entry}/cmdline").read_bytes()
            if text.encode() in told:
                found.append(int(entry))
    return found


def test_a_workflow_runs_as_a_job_and_its_workers_come_by_the_shared_port(
    pool: Any, here: Path
) -> None:
    write(here, "sweep.py", WORKFLOW)
    status, said = command("submit", "--name", "sweep", "sweep.py", "20")
    assert status == 0
    assert "manager log sweep --follow" in said
    job = manager_job.find_manager("sweep")
    job = ended(job, timeout=90)
    lines = printed(job).splitlines()
    assert (job.state, job.exit_status) == ("ended", 0), Path(job.error).read_text()
    assert "DONE 20" in lines
    assert lines[-1] == "END"
    assert Path(job.output).parent == here / "vine-managers"
    assert Path(job.log).exists()
    sock_id = lines[0].split()[1]
    assert not socket_file(sock_id).exists()
    assert command("status", "sweep")[0] == 0
    status, said = command("log", "sweep")
    assert said == printed(job)


def test_removal_ends_program_porter_socket_and_worker_jobs(pool: Any, here: Path) -> None:
    import htcondor2

    write(here, "sweep.py", WORKFLOW)
    job = submit("sweep.py", ["4", "for-ever"])
    sock_id = shows(job, "PORTER")[1]
    cluster = shows(job, "WORKERS")[1]
    helpers.wait_until(lambda: "DONE 4" in printed(job), timeout=60)
    assert socket_file(sock_id).exists()
    program = str(here / "sweep.py")
    assert processes_with(program)
    status, said = command("stop", "sweep")
    assert (status, said) == (0, f"The manager sweep ({job.id}) has ended: removed.\n")
    # The program's own end: SIGTERM has run what it has to do.
    assert not htcondor2.Schedd().query(f"ClusterId == {cluster}", ["ClusterId"])
    helpers.wait_until(lambda: not socket_file(sock_id).exists(), timeout=10)
    helpers.wait_until(
        lambda: not processes_with(sock_id) + processes_with(program), timeout=10
    )
    assert "END" not in printed(job)


def test_a_program_that_ignores_sigterm_is_killed_when_its_grace_is_over(here: Path) -> None:
    write(here, "stays.py", STAYS)
    job = submit("stays.py", ["ignore"], grace=2)
    pid = int(shows(job, "HERE")[1])
    began = time.monotonic()
    # As condor_rm would: nobody waits, so nobody is there to help.
    assert manager_job.stop_manager("stays", timeout=0).state in ("removing", "removed")
    job = ended(job, timeout=20)
    assert job.state == "removed"
    assert 1.5 < time.monotonic() - began < 15
    assert not alive(pid)
    assert "CLEANED" not in printed(job)
    assert "SIGTERM" in Path(job.error).read_text()


def test_a_manager_inside_of_wait_is_ended_all_the_same(here: Path) -> None:
    write(
        here,
        "waits.py",
        """
        import os, warnings
        warnings.simplefilter("ignore")
        import vine_sharedport as vine
        manager = vine.Manager(0, shared_port=True)
        manager.submit(vine.Task("true"))  # nobody comes for it
        print("PORTER", manager.shared_port.address.sock)
        manager.wait()  # no Python runs in here, and so no handler
        """,
    )
    job = submit("waits.py", grace=2)
    sock_id = shows(job, "PORTER")[1]
    assert socket_file(sock_id).exists()
    assert manager_job.stop_manager("waits").state == "removed"
    helpers.wait_until(lambda: not socket_file(sock_id).exists(), timeout=10)
    helpers.wait_until(
        lambda: not processes_with(sock_id) + processes_with("waits.py"), timeout=10
    )


def test_a_removed_program_runs_its_finally_blocks(here: Path) -> None:
    write(here, "stays.py", STAYS)
    job = submit("stays.py")
    pid = int(shows(job, "HERE")[1])
    job = manager_job.stop_manager(str(job.id))
    assert job.state == "removed"
    assert "vine_sharedport manager stop" in str(job.reason)
    assert printed(job).endswith("CLEANED\n")
    assert not alive(pid)


def test_a_crash_is_told_with_its_status_and_last_words(here: Path) -> None:
    write(here, "bad.py", "import sys\nprint('x')\nraise ValueError('no such thing')\n")
    job = ended(submit("bad.py"))
    status, said = command("status", "bad")
    assert status == 1
    assert "ended with status 1" in said
    assert f"The last lines of {job.error}:" in said
    assert said.endswith("ValueError: no such thing\n")
    status, said = command("status", "bad", "--json")
    told = json.loads(said)
    assert (told["exit_status"], told["exit_signal"]) == (1, None)
    assert told["last_lines"][-1] == "ValueError: no such thing"
    assert command("log", "bad", "--follow")[0] == 1


def test_an_end_by_a_signal_is_told(here: Path) -> None:
    write(here, "dies.py", "import os\nprint('last words')\nos.abort()\n")
    job = ended(submit("dies.py"))
    assert (job.exit_status, job.exit_signal) == (None, signal.SIGABRT)
    assert "by signal 6 (SIGABRT)" in str(job)
    assert str(job).endswith("  last words")


def test_the_program_has_the_submitters_environment_but_no_secret(
    pool: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_TOKEN", "s3cret")
    monkeypatch.setenv("_CONDOR_MY_PASSWORD", "s3cret")
    monkeypatch.setenv("_CONDOR_SEC_TOKEN_DIRECTORY", str(here))
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", "/of/another/job")
    monkeypatch.setenv("CHOSEN", 'it\'s "here" & $HOME $$(X)')
    write(here, "env.py", "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv, "
          "sys.executable, os.getcwd(), sys.path[0], __name__]))")  # fmt: skip
    arguments = ["a 'b' \"c\" $d", "$$(X)", "$(X)", "$ENV(HOME)", "\\"]
    job = submit("env.py", arguments, env=["CHOSEN", "B=2"])
    job = ended(job)
    environment, argv, executable, directory, path, name = json.loads(printed(job))
    for same in ("PATH", "PYTHONPATH", "CONDOR_CONFIG", "CHOSEN", "HOME"):
        assert environment.get(same) == os.environ.get(same), same
    assert environment["B"] == "2"
    assert environment["_CONDOR_SEC_TOKEN_DIRECTORY"] == str(here)
    assert environment["_CONDOR_SCRATCH_DIR"] != "/of/another/job"
    assert "s3cret" not in json.dumps(environment)
    assert argv == [str(here / "env.py"), *arguments]
    assert shlex.split(job.program) == ["env.py", *arguments]
    assert (executable, name) == (sys.executable, "__main__")
    assert directory == path == str(here)


def test_an_unchanged_program_gets_a_shared_port_by_run(pool: Any, here: Path) -> None:
    write(
        here,
        "stock.py",
        """
        import warnings
        warnings.simplefilter("ignore")
        import ndcctools.taskvine as vine
        with vine.Manager(0) as manager:
            print("SOCK", manager.shared_port.sock_id)
        """,
    )
    assert command("submit", "--run", "--shared-port-name", "st-1", "stock.py")[0] == 0
    job = ended(manager_job.find_manager("stock"))
    assert printed(job) == "SOCK st-1\n", Path(job.error).read_text()


def test_what_submit_has_done_is_said_once(here: Path) -> None:
    program = write(here, "stays.py", STAYS)
    result = subprocess.run(
        [sys.executable, "-m", "vine_sharedport", "manager", "submit", program],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert "The manager stays is submitted as job " in result.stdout


def test_it_goes_on_when_the_submitters_terminal_closes(here: Path) -> None:
    write(here, "stays.py", STAYS)
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); "
        "from vine_sharedport.condor.manager_job.job import submit_manager; "
        "from vine_sharedport.condor.manager_job.description import ManagerProgram; "
        "submit_manager(ManagerProgram('stays.py')); "
        "print('SUBMITTED', flush=True); time.sleep(60)"
    )
    terminal, its_side = pty.openpty()
    shell = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, "-c", program, str(helpers.ROOT)],
        stdin=its_side, stdout=its_side, stderr=its_side,
    )  # fmt: skip
    os.close(its_side)
    said = b""
    while b"SUBMITTED" not in said:
        said += os.read(terminal, 1000)
    os.close(terminal)  # hangs up: SIGHUP to all that the terminal has
    assert shell.wait(10) == -signal.SIGHUP
    job = manager_job.find_manager("stays")
    number = int(shows(job, "HERE")[1])
    time.sleep(0.5)
    assert alive(number)
    assert manager_job.find_manager("stays").state == "running"


def test_a_name_is_used_once_at_a_time(here: Path) -> None:
    write(here, "stays.py", STAYS)
    first = submit("stays.py")
    assert submit("stays.py").name == "stays-2"
    with pytest.raises(SettingError, match=naming("stays", "--name")):
        submit("stays.py", name="stays")
    manager_job.stop_manager(str(first.id))
    assert submit("stays.py", name="stays").id > first.id


def test_a_held_job_is_told_with_its_reason(here: Path) -> None:
    write(here, "stays.py", STAYS)
    job = submit("stays.py", log_dir="logs")
    shows(job, "HERE")
    subprocess.run(["condor_hold", "-reason", "because of this", str(job.id)], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    helpers.wait_until(lambda: manager_job.find_manager("stays").state == "held")
    status, said = command("status", "stays")
    assert status == 1
    assert "because of this" in said
    assert f"condor_release {job.id}" in said
    assert printed(job).endswith("CLEANED\n")


def test_follow_shows_lines_as_they_are_printed(here: Path) -> None:
    write(here, "slow.py", """
        import sys, time
        for n in range(3):
            print("line", n)
            time.sleep(1)
        print("to stderr", file=sys.stderr)
    """)  # fmt: skip
    job = submit("slow.py")
    came = []
    for what, data in manager_job.follow_output(job, follow=True):
        came.append((what, data.decode(), time.monotonic()))
    assert (
        "".join(text for what, text, _ in came if what == "out") == "line 0\nline 1\nline 2\n"
    )
    assert "".join(text for what, text, _ in came if what == "err") == "to stderr\n"
    assert came[-1][2] - came[0][2] > 1.5


def test_status_without_a_name_lists_them_all(here: Path) -> None:
    write(here, "stays.py", STAYS)
    write(here, "good.py", "print('fine')")
    good = ended(submit("good.py"))
    stays = submit("stays.py")
    listed = {job["id"]: job for job in json.loads(command("list", "--json")[1])}
    assert listed[good.id]["state"] == "ended"
    assert listed[stays.id]["state"] in ("idle", "running")
    with pytest.raises(NoStatusError, match=naming("nobody")):
        manager_job.find_manager("nobody")


# The rest needs schedds of its own: others' tests must not lose theirs.


@pytest.fixture
def schedd(pool: Any, here: Path) -> Iterator[Any]:
    """Return a function that starts a pool, in place of the session's."""
    with contextlib.ExitStack() as stack:

        def start(**config: str) -> Any:
            return stack.enter_context(vine.PersonalPool(config=config))

        yield start
    # 'here' asks the session's schedd from now on.


def kill_schedd(own: Any) -> None:
    # Others of the name are its children, which answer queries.
    pids = [pid for pid, name in own.status().processes if name == "condor_schedd"]
    os.kill(min(pids), signal.SIGKILL)


def test_a_killed_schedd_starts_the_program_again(schedd: Any, here: Path) -> None:
    own = schedd()
    write(here, "stays.py", STAYS)
    job = submit("stays.py")
    first = int(shows(job, "HERE")[1])
    kill_schedd(own)
    helpers.wait_until(lambda: not alive(first), timeout=20)

    def again() -> int | None:
        words = printed(job).split()
        return int(words[1]) if len(words) > 1 and int(words[1]) != first else None

    second = helpers.wait_until(again, timeout=60)
    assert alive(second)
    now = helpers.wait_until(_answer_of("stays"), timeout=30)
    assert now.starts == 2
    assert "starts:  2" in str(now)


def test_a_program_that_shall_run_once_is_held_after_a_restart(schedd: Any, here: Path) -> None:
    own = schedd(PERIODIC_EXPR_INTERVAL="2")
    write(here, "stays.py", STAYS)
    job = submit("stays.py", once=True)
    first = int(shows(job, "HERE")[1])
    kill_schedd(own)
    helpers.wait_until(lambda: not alive(first), timeout=20)
    now = helpers.wait_until(
        lambda: (job := _answer_of("stays")()) and job.state == "held" and job, timeout=60
    )
    assert "--once" in str(now.reason)
    assert now.starts == 1


def _answer_of(name: str) -> Any:
    """Return a function that asks for a job, None while the schedd is away."""

    def ask() -> Any:
        with contextlib.suppress(NoStatusError, ScheddError):
            return manager_job.find_manager(name)
        return None

    return ask


def test_a_schedd_that_starts_no_such_jobs_is_named(schedd: Any, here: Path) -> None:
    schedd(START_LOCAL_UNIVERSE="False")
    write(here, "stays.py", STAYS)
    with pytest.raises(ScheddError, match=r"START_LOCAL_UNIVERSE = false"):
        submit("stays.py")
    assert manager_job.list_managers() == []


def test_a_job_that_waits_for_its_turn_says_so(schedd: Any, here: Path) -> None:
    schedd(START_LOCAL_UNIVERSE="TotalLocalJobsRunning < 1", UPDATE_INTERVAL="1")
    write(here, "stays.py", STAYS)
    shows(submit("stays.py"), "HERE")
    second = submit("stays.py")
    now = helpers.wait_until(
        lambda: (job := manager_job.find_manager(str(second.id))).reason and job, timeout=30
    )
    assert now.state == "idle"
    assert "TotalLocalJobsRunning < 1" in now.reason
