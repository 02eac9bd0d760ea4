"""A pool that one shell has started, as the commands and programs of other shells find it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.daemon.helpers import ROOT
from tests.values import naming

pytestmark = pytest.mark.daemon

# A manager that knows nothing of pools, with eight tasks.
PROGRAM = """
import vine_sharedport as vine
m = vine.Manager(0, name="sweep", shared_port=True)
for _ in range(8):
    m.submit(vine.Task("true"))
done = 0
while not m.empty():
    task = m.wait(1)
    done += task is not None and task.successful()
print(done, "tasks", m.shared_port.address.alias, flush=True)
"""

# The same with its own workers, which it submits and counts in the queue.
WITH_FACTORY = PROGRAM.replace(
    "for _",
    'workers = vine.Factory("condor", manager=m, min_workers=1, max_workers=1, cores=1,\n'
    "    memory=100, disk=100, timeout=30).start()\nfor _",
)


class Shell:
    """A login of the pool's user in which nothing names an HTCondor."""

    def __init__(self, home: Path) -> None:
        self.home = home
        # As an installation has it on PATH, for lines that are pasted.
        ours = home / "vine_sharedport"
        ours.write_text(f'#!/bin/sh\nexec {sys.executable} -m vine_sharedport "$@"\n')
        ours.chmod(0o755)
        self.environment = {
            "HOME": str(home),
            "TMPDIR": str(home),
            "PATH": f"{home}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "USER": os.environ.get("USER", "vine"),
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", *words], cwd=self.home, text=True,
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *words: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
            process.communicate()
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def vine(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "vine_sharedport", *words)

    def paste(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", text], cwd=self.home, env=self.environment,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def program(self, text: str) -> str:
        path = self.home / "program.py"
        path.write_text(text)
        return str(path)


@pytest.fixture(scope="module")
def first() -> Iterator[tuple[Shell, str]]:
    """Return a shell in which a pool was started by the command, and what that said."""
    shell = Shell(Path(tempfile.mkdtemp(prefix="vsp")))
    try:
        started = shell.vine("pool", "start", "--cpus", "2")
        assert started.returncode == 0, started.stderr
        yield shell, started.stdout
    finally:
        shell.vine("pool", "stop")
        shutil.rmtree(shell.home, ignore_errors=True)


@pytest.fixture
def shell(first: tuple[Shell, str]) -> Shell:
    """Return another shell of the same user."""
    return Shell(first[0].home)


def says_it_once(shell: Shell, said: str) -> bool:
    place = f"{shell.home}/vine-pool-{os.geteuid()}"
    return len(re.findall(rf"HTCondor .*{re.escape(str(place))}(?![\w/])", said)) == 1


def test_starting_it_again_succeeds_and_says_the_same(
    first: tuple[Shell, str], shell: Shell
) -> None:
    for more in ((), ("--cpus", "2")):
        again = shell.vine("pool", "start", *more)
        assert (again.returncode, again.stdout, again.stderr) == (0, first[1], "")
    other = shell.vine("pool", "start", "--cpus", "3")
    assert other.returncode == 1
    assert re.search(naming("cpus", 2, 3), other.stderr)
    assert "vine_sharedport pool stop && vine_sharedport pool start --cpus 3" in other.stderr


def test_what_is_printed_lets_condors_own_tools_use_it(
    first: tuple[Shell, str], shell: Shell
) -> None:
    (line,) = [x.strip() for x in first[1].splitlines() if x.strip().startswith("eval")]
    said = shell.paste(f"{line}; condor_q -totals && command -v condor_master")
    assert said.returncode == 0, said.stderr
    assert "Total for query: 0 jobs" in said.stdout


def test_run_and_factory_of_two_other_shells_meet_in_it(shell: Shell) -> None:
    command = ("-m", "vine_sharedport", "run", shell.program(PROGRAM))
    with shell.start(*command) as manager, ThreadPoolExecutor() as threads:
        said = threads.submit(manager.communicate)
        # By the name, which is waited for if the manager is not there yet.
        factory = shell.start(
            *("-m", "vine_sharedport", "factory", "-M", "sweep", "-w", "1", "-W", "1"),
            *("--cores", "1", "--memory", "100", "--disk", "100", "--factory-period", "0.5"),
        )
        try:
            out, err = said.result(90)
        finally:
            manager.kill()
            factory.terminate()
            factory_said = factory.communicate(timeout=60)[1]
    assert out == "8 tasks localhost\n", err
    assert says_it_once(shell, err), err
    assert says_it_once(shell, factory_said), factory_said


def test_a_manager_as_a_job_is_found_by_every_verb(shell: Shell) -> None:
    program = shell.program("print('hello')")
    submitted = shell.vine("manager", "submit", "--name", "hello", program)
    assert "is submitted as job" in submitted.stdout, submitted.stderr
    assert says_it_once(shell, submitted.stderr)
    followed = shell.vine("manager", "log", "hello", "--follow")
    assert followed.stdout == "hello\n", followed.stderr
    status = shell.vine("manager", "status", "hello")
    assert status.returncode == 0
    assert says_it_once(shell, status.stderr)


def test_by_the_option_the_own_pool_is_left_alone(shell: Shell) -> None:
    program = shell.program("import os; print(os.environ.get('CONDOR_CONFIG'))")
    for option, expected in (
        ((), f"{shell.home}/vine-pool-{os.geteuid()}/condor_config\n"),
        (("--no-own-pool",), "None\n"),
    ):
        done = shell.vine("run", *option, program)
        assert done.stdout == expected
        assert says_it_once(shell, done.stderr) == (not option)
    # What the program starts keeps to it.
    program = shell.program("import vine_sharedport as vine; vine.discover()")
    assert "vine-pool-" not in shell.vine("run", "--no-own-pool", program).stderr


def test_a_named_htcondor_has_the_last_word(shell: Shell) -> None:
    shell.environment["CONDOR_CONFIG"] = "/nonexistent"
    done = shell.vine("manager", "status")
    assert done.returncode == 1
    assert "CONDOR_CONFIG is '/nonexistent'" in done.stderr
    assert not says_it_once(shell, done.stderr)
    # And the way out that is named works.
    (line,) = [part for part in done.stderr.split("'") if part.startswith("eval")]
    said = shell.paste(f"{line} && vine_sharedport manager list")
    assert said.returncode == 0, said.stderr


def test_a_program_uses_it_where_the_systems_htcondor_cannot_be_used(shell: Shell) -> None:
    probe = "import vine_sharedport as vine; vine.discover()"
    shell.environment["VINE_SHAREDPORT_OWN_POOL"] = "no"
    if shell.run("-c", probe).returncode == 0:
        pytest.skip("the system's HTCondor can be used here")
    del shell.environment["VINE_SHAREDPORT_OWN_POOL"]
    done = shell.run(shell.program(WITH_FACTORY))
    assert done.stdout == "8 tasks localhost\n", done.stderr
    assert says_it_once(shell, done.stderr), done.stderr


def test_two_that_start_one_at_the_same_time_both_have_it(short_directory: Path) -> None:
    shell = Shell(short_directory)
    try:
        with ThreadPoolExecutor() as threads:
            both = list(threads.map(lambda _: shell.vine("pool", "start"), range(2)))
        assert [done.returncode for done in both] == [0, 0], [done.stderr for done in both]
        assert both[0].stdout == both[1].stdout
    finally:
        shell.vine("pool", "stop")
