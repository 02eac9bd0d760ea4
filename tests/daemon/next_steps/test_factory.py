"""Mistakes with a factory and its manager: the printed next step, run verbatim, mends each."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.daemon.factory_helpers import read

from .terminal import Message, Terminal

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")

FLAGS = "-w 0 -W 1 --cycle 0.5 --memory 100 --disk 100 -t 30"

# A manager that waits for tasks until it is killed. Its name, its sock id and its system.
PROGRAM = """
import sys, warnings; warnings.simplefilter("ignore")
import vine_sharedport as vine, vine_sharedport.work_queue as wq
name, sock_id, system = sys.argv[1:]
make = wq.WorkQueue if system == "work_queue" else vine.Manager
m = make(0, name=name, shared_port=vine.SharedPort(name=sock_id or None))
print(m.shared_port.address, flush=True)
while True:
    m.wait(1)
"""


class Site:
    """Directories of one user: one with programs that run, and empty ones."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.programs: list[subprocess.Popen[str]] = []

    def terminal(self, name: str) -> Terminal:
        directory = self.base / name
        directory.mkdir(exist_ok=True)
        return Terminal(directory)

    def start(
        self, where: str, name: str, sock_id: str = "", system: str = "taskvine"
    ) -> tuple[subprocess.Popen[str], str]:
        """Start a manager's program; return it and the address that it tells."""
        terminal = self.terminal(where)
        (terminal.directory / "program.py").write_text(PROGRAM)
        said = terminal.directory / f"program-{len(self.programs)}.out"
        with open(said, "w") as out:
            process = subprocess.Popen(
                [sys.executable, "program.py", name, sock_id, system],
                cwd=terminal.directory, env=terminal.environment, text=True,
                stdout=out, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        self.programs.append(process)
        helpers.wait_until(lambda: said.read_text().endswith("\n"))
        return process, said.read_text().strip()

    def close(self) -> None:
        for process in self.programs:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def site(pool: Any) -> Iterator[Site]:
    base = Path(tempfile.mkdtemp(prefix="s"))
    found = Site(base)
    try:
        yield found
    finally:
        found.close()
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="module")
def sweep(site: Site) -> str:
    """Start the manager sweep in the directory prog; return its address."""
    return site.start("prog", "sweep")[1]


@pytest.fixture(scope="module", autouse=True)
def ended(site: Site) -> tuple[Terminal, str, Path]:
    """Let a manager end that has a factory, which takes a while to be sure of it."""
    program, _ = site.start("ends", "ends")
    terminal = site.terminal("ends")
    line, log = f"vine_sharedport factory -M ends {FLAGS}", terminal.directory / "factory.out"
    with open(log, "w") as out:
        site.programs.append(
            subprocess.Popen(
                ["sh", "-c", f"{line}; echo [$?]"],
                cwd=terminal.directory,
                text=True,
                env=terminal.environment,
                stdout=out,
                stderr=out,
            )
        )
    helpers.wait_until(lambda: "needed 0" in log.read_text() and "as many" in log.read_text())
    program.kill()
    return terminal, line, log


@contextlib.contextmanager
def factory(terminal: Terminal, line: str) -> Iterator[tuple[Message, str]]:
    """Run a factory; yield what it says before its work, and its directory."""
    process = terminal.start(line)
    said = []
    try:
        assert process.stdout is not None
        while not (said and said[-1].startswith("See it:")):
            text = process.stdout.readline()
            assert text, f"{line}\nended: {''.join(said)}"
            said.append(text)
        match = re.search(r"^The factory works in (.*)$", "".join(said), re.MULTILINE)
        assert match is not None, said
        yield Message("".join(said[:-2]), None), match[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)


def waiting(terminal: Terminal, line: str) -> Message:
    """Return what a factory says that begins to wait for its manager."""
    with factory(terminal, line) as (message, _):
        return message.check()


def serve(terminal: Terminal, line: str) -> None:
    """Run a command to the end; assert that it reaches its manager and ends with status 0."""
    process = terminal.start(line)
    try:
        assert process.stdout is not None
        for text in process.stdout:
            if text.startswith("See it:"):
                break
        else:
            raise AssertionError(f"{line} ended")
        directory = text.split()[-1]
        helpers.wait_until(lambda: (now := read(directory)) and now.manager.reachable)
        terminal.paste(f"vine_sharedport factory stop {directory}")
        process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


# --- the manager's name


def test_a_name_in_another_directory_leads_to_the_managers_address(
    site: Site, sweep: str
) -> None:
    elsewhere = site.terminal("elsewhere")
    message = waiting(elsewhere, f"vine_sharedport factory -M sweep {FLAGS}")
    assert f"no manager called 'sweep' runs in or below {elsewhere.directory}" in message.text
    assert f"One has its logs in {site.base}/prog/" in message.text
    assert "TLS" not in message.text
    serve(elsewhere, message.next_step())


def test_a_name_that_nobody_has_waits_and_says_for_what_until_it_is_there(site: Site) -> None:
    terminal = site.terminal("early")
    with factory(terminal, f"vine_sharedport factory -M early {FLAGS}") as (said, directory):
        said.check()
        assert "the factory waits for one to be started there" in said.text
        told = helpers.wait_until(
            lambda: (now := read(directory)) and now.manager.error and now
        )
        assert told.phase == "waiting-for-manager"
        assert str(terminal.directory) in told.message
        site.start("early", "early")
        helpers.wait_until(lambda: (now := read(directory)) and now.manager.reachable)


def test_a_misspelt_name_leads_to_the_one_that_runs_here(site: Site, sweep: str) -> None:
    prog = site.terminal("prog")
    message = waiting(prog, f"vine_sharedport factory -M sweap {FLAGS}")
    assert message.next_step() == f"vine_sharedport factory {FLAGS} -M sweep"
    serve(prog, message.next_step())


def test_a_work_queue_is_told_from_a_taskvine_manager(site: Site) -> None:
    site.start("queue", "q1", system="work_queue")
    terminal = site.terminal("queue")
    message = terminal.mistake(f"vine_sharedport factory -M q1 {FLAGS}")
    assert "is a Work Queue" in message.text
    assert message.next_step() == f"vine_sharedport factory -M q1 {FLAGS} --work-queue"
    serve(terminal, message.next_step())


def test_of_two_managers_with_one_name_each_has_its_command(site: Site) -> None:
    addresses = {site.start("twins", "twin", "one")[1], site.start("twins/b", "twin")[1]}
    twins = site.terminal("twins")
    # Below it, as a program that has its own directory for each of its managers.
    shutil.copytree(
        site.base / "twins/b/vine-run-info", site.base / "twins/more", symlinks=True
    )
    message = twins.mistake(f"vine_sharedport factory -M twin {FLAGS}")
    commands = message.commands
    assert len(commands) == 2
    assert all(any(address in command for command in commands) for address in addresses)
    serve(twins, commands[1])


def test_a_program_that_was_killed_and_started_again_is_one_manager(site: Site) -> None:
    process, _ = site.start("again", "again", "again-named")
    process.kill()
    process.wait()
    time.sleep(1.1)  # TaskVine names a run's directory by the second
    site.start("again", "again", "again-named")
    again = site.terminal("again")
    assert len(list(again.directory.glob("vine-run-info/*/vine-logs/shared_port.json"))) > 1
    serve(again, f"vine_sharedport factory -M again {FLAGS}")


# --- the address and the secret


def test_an_address_finds_its_secret_where_the_manager_was_started(
    site: Site, sweep: str
) -> None:
    serve(site.terminal("prog"), f"vine_sharedport factory --address '{sweep}' {FLAGS}")


@pytest.mark.parametrize("secret", ["", "--secret-file my.secret"])
def test_without_the_secret_or_with_another_one_the_command_with_it_is_told(
    site: Site, sweep: str, secret: str
) -> None:
    terminal = site.terminal("bare")
    (terminal.directory / "my.secret").write_bytes(os.urandom(32))
    (terminal.directory / "my.secret").chmod(0o600)
    message = terminal.mistake(f"vine_sharedport factory --address '{sweep}' {secret} {FLAGS}")
    what = "has another secret than the factory's file" if secret else "the factory has none"
    assert what in message.text
    assert f"{terminal.directory}/my.secret" in message.text or not secret
    assert "worker has" not in message.text
    serve(terminal, message.next_step())


# --- the words


@pytest.mark.parametrize("words", ["condor -M sweep", "sweep", "start"])
def test_a_first_word_that_is_no_verb_leads_to_the_command(
    site: Site, sweep: str, words: str
) -> None:
    prog = site.terminal("prog")
    message = prog.mistake(f"vine_sharedport factory {words} {FLAGS}")
    assert message.status == 2
    line = r": (vine_sharedport factory (run|start) .*sweep.*)$"
    step = re.search(line, message.text, re.MULTILINE)
    assert step is not None, message.text
    serve(prog, step[1])


def test_a_second_factory_says_that_there_is_a_first_one(site: Site, sweep: str) -> None:
    prog = site.terminal("prog")
    line = f"vine_sharedport factory -M sweep {FLAGS}"
    with factory(prog, line) as (_, first):
        helpers.wait_until(lambda: read(first))
        message = waiting(prog, line)
        assert "another factory serves this manager already" in message.text
        assert prog.paste(message.next_step()).text.startswith("factory ")
        assert first in message.next_step()


def test_options_behind_a_program_are_told_and_put_in_their_place(site: Site) -> None:
    terminal = site.terminal("late")
    (terminal.directory / "prog.py").write_text("import sys; print(sys.argv[1:])\n")
    message = terminal.run("vine_sharedport manager submit prog.py --name late 1")
    warning, *result = message.text.splitlines()
    assert "--name late is passed on to prog.py" in warning
    assert sum("submitted" in line for line in result) == 1
    step = warning.rpartition(": ")[2]
    assert "The manager late is submitted" in terminal.paste(step).text
    message = terminal.mistake("vine_sharedport run prog.py --shared-port-name late 1")
    assert terminal.paste(message.next_step()).text.endswith("['1']\n")
    assert "passed on" not in terminal.paste(message.next_step()).text


# --- what a worker asks for


def test_a_size_that_no_machine_has_is_told_with_one_that_there_is(tmp_path: Path) -> None:
    # The largest machine must be free at the end.
    with vine.PersonalPool(cpus=2), contextlib.closing(Site(tmp_path)) as site:
        site.start("prog", "sweep")
        terminal = site.terminal("prog")
        line = f"vine_sharedport factory -M sweep {FLAGS} --cores 64 -w 1 -S large"
        with factory(terminal, line) as (_, directory):
            told = helpers.wait_until(
                lambda: (now := read(directory)) and now.problems and now, timeout=90
            )
            assert "no machine of the pool has 64 cores" in told.problems[0].explanation
            assert told.phase == "no-machine"
            (job,) = told.jobs
            step = re.search(r"less: (vine_sharedport .*)$", str(told), re.MULTILINE)
            assert step is not None, told
        with factory(terminal, step[1]) as (_, directory):
            told = helpers.wait_until(
                lambda: (now := read(directory)) and now.workers.connected and now, timeout=90
            )
            assert not told.problems
            assert told.phase != "no-machine"
            assert job.id not in {one.id for one in told.jobs}, "an earlier factory's"
            assert (told.submitted, told.workers.ended) == (1, 0)


EDITS = {
    'vine.Factory("condor", "sweep")': (r"write (manager_name='sweep')", '"sweep"'),
    "vine.Factory(m)": (r"write (vine\.Factory\(.*\))$", "vine.Factory(m)"),
    'vine.Factory("Condor", manager=m)': (r"write ('condor')$", '"Condor"'),
}


@pytest.mark.parametrize("line", EDITS)
def test_what_is_wrong_in_a_program_is_one_edit(site: Site, sweep: str, line: str) -> None:
    prog = site.terminal("prog")
    program = prog.directory / "user.py"
    pattern, replaced = EDITS[line]
    text = (
        'import warnings; warnings.simplefilter("ignore")\nimport vine_sharedport as vine\n'
        f"m = vine.Manager(0, shared_port=True)\nf = {line}\nf.min_workers = 0\n"
        "with f:\n    m.wait(1)\n"
        "print(m.shared_port and m.shared_port.counters.refused)\n"
    )
    program.write_text(text)
    failed = prog.run("python3 user.py")
    assert failed.status == 1
    last = failed.text.splitlines()[-1]
    edit = re.search(pattern, last)
    assert edit is not None, last
    program.write_text(text.replace(replaced, edit[1]))
    # To look at a secret that the manager itself has told makes no client that goes again.
    assert "closed by the client" not in prog.paste("python3 user.py").text


def test_a_program_is_warned_of_a_size_that_no_machine_has(site: Site, pool: Any) -> None:
    terminal = site.terminal("sizes")
    program = terminal.directory / "user.py"
    text = (
        'import time, warnings; warnings.simplefilter("ignore")\n'
        "import vine_sharedport as vine\nm = vine.Manager(0, shared_port=True)\n"
        "f = vine.Factory('condor', manager=m, min_workers=1, max_workers=1, memory=100)\n"
        "f.disk, f.cycle = 100, 0.5\n"
        "f.cores=64\n"
        "with f:\n    end = time.time() + 9\n"
        "    while time.time() < end and not f.status().workers.connected: m.wait(1)\n"
    )
    program.write_text(text)
    message = terminal.mistake("python3 user.py")
    assert "the factory: no machine of the pool has 64 cores" in message.text
    edit = re.search(r"ask for less: (cores=\d+)", message.text)
    assert edit is not None, message.text
    program.write_text(text.replace("cores=64", edit[1]))
    assert terminal.paste("python3 user.py").text == ""


def test_workers_that_wait_for_ever_are_told_when_they_are_submitted(
    site: Site, pool: Any
) -> None:
    terminal = site.terminal("sizes")
    program = terminal.directory / "submit.py"
    text = (
        'import warnings; warnings.simplefilter("ignore")\nimport vine_sharedport as vine\n'
        "m = vine.Manager(0, shared_port=True)\n"
        "vine.submit_workers(m, cores=64, memory=100, disk=100).remove()\n"
    )
    program.write_text(text)
    message = terminal.mistake("python3 submit.py")
    assert "the workers will wait for ever: no machine of the pool has" in message.text
    edit = re.search(r"give (cores=\d+)", message.text)
    assert edit is not None, message.text
    program.write_text(text.replace("cores=64", edit[1]))
    assert terminal.paste("python3 submit.py").text == ""


def test_a_batch_system_that_is_not_here_is_told(site: Site) -> None:
    if shutil.which("sbatch"):
        pytest.skip("there is Slurm here")
    terminal = site.terminal("slurm")
    program = terminal.directory / "user.py"
    text = (
        'import warnings; warnings.simplefilter("ignore")\nimport vine_sharedport as vine\n'
        "m = vine.Manager(0, shared_port=True)\n"
        "with vine.Factory('slurm', manager=m, min_workers=0):\n    m.wait(1)\n"
    )
    program.write_text(text)
    message = terminal.mistake("python3 user.py")
    assert "sbatch is not on PATH" in message.text
    edit = re.search(r"write ('\w+')", message.text)
    assert edit is not None, message.text
    program.write_text(text.replace("'slurm'", edit[1]))
    assert terminal.paste("python3 user.py").text == ""


# --- the pool, and the end


def test_without_a_pool_and_with_another_one_the_commands_are_told(site: Site) -> None:
    if (
        subprocess.run(["pgrep", "-x", "-u", "condor", "condor_master"], check=False).returncode
        == 0
    ):
        pytest.skip("the system's HTCondor runs here")
    home = site.terminal("home").directory
    bare: dict[str, str | None] = {
        name: None for name in os.environ if name.upper().startswith(("_CONDOR_", "CONDOR_"))
    }
    shell = Terminal(home, **{**bare, "HOME": str(home), "TMPDIR": str(home)})
    other = Terminal(home, **{**bare, "HOME": str(home), "TMPDIR": str(home),
                              "CONDOR_CONFIG": f"{home}/gone/condor_config"})  # fmt: skip
    (home / "prog.py").write_text("")
    try:
        message = shell.mistake("vine_sharedport manager list")
        assert message.next_step() == "vine_sharedport pool start"
        shell.paste(f"{message.next_step()} --directory {home}/p --cpus 1")
        shell.paste("vine_sharedport manager list")
        # Not where this other shell's pool was.
        message = other.mistake("vine_sharedport pool stop")
        assert message.next_step() == f"vine_sharedport pool stop --directory {home}/p"
        assert (
            f"The pool in {home}/p has ended" in shell.paste("vine_sharedport pool stop").text
        )
        assert shell.run("vine_sharedport pool status").status == 1
    finally:
        shell.run(f"vine_sharedport pool stop --directory {home}/p")


def test_the_end_of_a_manager_ends_its_factory_which_tells_how_to_start_it_again(
    site: Site, ended: tuple[Terminal, str, Path]
) -> None:
    terminal, line, log = ended
    text = helpers.wait_until(
        lambda: "start a factory again" in log.read_text() and log.read_text()
    )
    assert "ended: the manager has ended" in text
    step = re.search(r"start a factory again: (.*)$", text, re.MULTILINE)
    assert step is not None, text
    assert step[1] == line
    helpers.wait_until(lambda: log.read_text().endswith("[0]\n"))
    site.start("ends", "ends")
    serve(terminal, step[1])
