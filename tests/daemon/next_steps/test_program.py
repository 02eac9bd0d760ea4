"""Mistakes in Python programs: what they print, and that its next step works as it stands.

Where the next step is an edit, the test makes it and runs the program again.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers

from .terminal import MAX_WIDTH, Message, Terminal

pytestmark = pytest.mark.daemon

_IMPORT = "import vine_sharedport as vine\nimport vine_sharedport.work_queue as wq\n"
_MANAGER = "m = vine.Manager(0, shared_port=True)\n"


class Program:
    """A user's program in a directory of its own."""

    def __init__(self, directory: Path, **variables: str | None) -> None:
        self.file = directory / "p.py"
        self.terminal = Terminal(directory, PYTHONWARNINGS="ignore", **variables)

    def run(self, text: str) -> Message:
        """Run the program's lines, after the imports."""
        self.file.write_text(_IMPORT + text)
        return self.terminal.run("python p.py")

    def mistake(self, text: str, error: str) -> str:
        """Run lines that are wrong; return the error's message, which is the last line."""
        found = self.run(text)
        last = found.text.splitlines()[-1]
        assert found.status == 1, found.text
        assert re.match(rf"([a-z_]+\.)*{error}: ", last), found.text
        assert found.text.count("Traceback") == 1, found.text
        assert "Exception ignored" not in found.text, found.text
        assert len(last) <= MAX_WIDTH, last
        return last

    def works(self, text: str) -> Message:
        """Run lines that are right."""
        found = self.run(text)
        assert found.status == 0, found.text
        return found


@pytest.fixture
def program(pool: Any, tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Program]:
    """Return a program's place without HTCondor, in which a pool can be started."""
    where = Path("/tmp", f"vsp-{os.getpid()}")
    where.mkdir()
    made = Program(
        tmp_path, CONDOR_CONFIG=None, TMPDIR=str(where), XDG_STATE_HOME=str(tmp_path)
    )
    yield made
    made.terminal.run("vine_sharedport pool stop")
    shutil.rmtree(where, ignore_errors=True)


# ---- the port ----


@pytest.mark.parametrize("manager", ["vine.Manager", "wq.WorkQueue"])
def test_a_taken_port_names_who_has_it_and_the_port_to_give(
    program: Program, manager: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        text = f"print({manager}(port={port}, shared_port=True).port)"
        said = program.mistake(text, "SettingError")
        assert f"TCP port {port} is taken by process {os.getpid()} (" in said
        assert said.endswith(f"write port=0 in the call of {manager}()")
        program.works(text.replace(f"port={port}", "port=0", 1))
        text = f"print({manager}(port=({port}, {port}), shared_port=True).port)"
        assert program.mistake(text, "SettingError").endswith(
            f"port=0 in the call of {manager}()"
        )


def test_where_no_port_is_given_a_taken_default_one_is_no_mistake(program: Program) -> None:
    said = program.works(
        "a = vine.Manager(shared_port=True)\nb = vine.Manager(shared_port=True)\n"
        "assert a.port != b.port\n"
    )
    lines = said.text.splitlines()
    assert 1 <= len(lines) <= 2, said.text  # the first one may be taken on this host, too
    assert all("the default TCP port 9123 is taken by" in line for line in lines)


# ---- no pool ----


@pytest.mark.parametrize("command", ["python p.py", "vine_sharedport run p.py"])
def test_a_program_without_a_pool_runs_when_the_printed_one_was_started(
    bare: Program, command: str
) -> None:
    if helpers.pids_named("condor_master") and Path("/var/lock/condor/shared_port_ad").exists():
        pytest.skip("this host has an HTCondor of its own")
    bare.file.write_text(f"{_IMPORT}{_MANAGER}print(m.shared_port.address)\n")
    said = bare.terminal.run(command)
    assert said.status == 1
    last = Message(said.text.splitlines()[-1], 1).check()
    assert command != "vine_sharedport run p.py" or said.check().text == last.text + "\n"
    assert last.next_step() == "vine_sharedport pool start"
    bare.terminal.paste(last.next_step())
    bare.terminal.paste(command)


# ---- run ----


def test_run_prints_an_error_of_ours_with_its_place_and_no_traceback(program: Program) -> None:
    program.file.write_text(f"{_IMPORT}{_MANAGER}vine.submit_workers(m, 0)\n")
    said = program.terminal.mistake("vine_sharedport run p.py")
    assert said.status == 1
    assert said.text.splitlines()[-1] == (
        "vine_sharedport: p.py, line 4: the option count is 0; wanted is workers: a whole "
        "number of at least 1"
    )


@pytest.mark.parametrize(
    "text", ["def f():\n    1 / 0\nf()\n", "import nothing_here\n", "print(\n"]
)
def test_run_shows_a_programs_own_exception_as_python_does(program: Program, text: str) -> None:
    program.file.write_text(text)
    wanted = program.terminal.run("python $PWD/p.py")
    said = program.terminal.run("vine_sharedport run p.py")
    assert (said.text, said.status) == (wanted.text, 1)


def test_run_with_python_before_the_program_prints_the_line_without(program: Program) -> None:
    program.file.write_text("import sys; assert sys.argv[1:] == ['a b']")
    said = program.terminal.mistake("vine_sharedport run --no-gate python3 -u p.py 'a b'")
    assert said.next_step() == "vine_sharedport run --no-gate p.py 'a b'"
    program.terminal.paste(said.next_step())


def test_run_of_a_script_for_the_shell_prints_the_program_in_it(program: Program) -> None:
    program.file.write_text("print('done')")
    Path(program.file.parent, "h.sh").write_text("echo hi\npython p.py\n")
    said = program.terminal.mistake("vine_sharedport run h.sh")
    assert said.text.startswith("vine_sharedport: h.sh is no Python program (line 1: ")
    assert program.terminal.paste(said.next_step()).text == "done\n"


# ---- arguments ----


@pytest.mark.parametrize(
    ("wrong", "step", "right"),
    [
        ("vine.Manager(0, sharedport=True)", "did you mean shared_port?", "shared_port=True"),
        ("wq.WorkQueue(0, sharedport=True)", "did you mean shared_port?", "shared_port=True"),
        (
            "vine.Manager(0, shared_port='sweep')",
            "shared_port=vine.SharedPort(name='sweep')",
            "",
        ),
        ("wq.WorkQueue(0, shared_port='sweep')", "shared_port=wq.SharedPort(name='sweep')", ""),
        ("vine.Manager(0, shared_port=vine.SharedPort)", "shared_port=vine.SharedPort()", ""),
    ],
)
def test_wrong_arguments_of_a_manager_are_told_with_the_right_ones(
    program: Program, wrong: str, step: str, right: str
) -> None:
    assert program.mistake(wrong, "TypeError").endswith(step)
    program.works(re.sub(r"shared_?port=.*", f"{right or step})", wrong))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("vine.WorkQueue", "wq.WorkQueue"),
        ("wq.Manager", "wq.WorkQueue"),
        (f"{_MANAGER}m.shared_port.secret", "secret_file"),
    ],
)
def test_wrong_names_are_told_with_the_right_ones(
    program: Program, wrong: str, right: str
) -> None:
    assert right in program.mistake(wrong, "AttributeError")
    program.works(wrong.replace("secret", right) if "secret" in right else right)


@pytest.mark.parametrize("given", ["memory='2GB'", "count='2'", "timeout='10m'"])
def test_text_for_a_number_of_workers_does(program: Program, given: str) -> None:
    program.works(f"{_MANAGER}vine.submit_workers(m, {given}).remove()")


def test_swapped_arguments_of_submit_workers_are_told_in_their_order(program: Program) -> None:
    said = program.mistake(_MANAGER + "vine.submit_workers(2, m)", "SettingError")
    (call,) = re.findall(r"submit_workers\(.*\)", said)
    program.works(f"{_MANAGER}vine.{call.replace('MANAGER', 'm')}.remove()")


@pytest.mark.parametrize("exists", [False, True])
def test_a_socket_directory_that_htcondor_does_not_look_into_is_refused(
    program: Program, short_directory: Path, exists: bool
) -> None:
    path = short_directory / "mine"
    if exists:
        path.mkdir()
    given = f"socket_dir={str(path)!r}"
    text = f"vine.Manager(0, shared_port=vine.SharedPort({given}))"
    said = program.mistake(text, "DiscoveryError")
    assert str(path) in said
    assert said.endswith("leave socket_dir out")
    assert path.exists() == exists
    program.works(text.replace(given, ""))


def test_a_pools_configuration_leads_to_the_pool(program: Program, pool: Any) -> None:
    said = program.works(f"print(vine.PersonalPool.find({pool.config_file!r}).directory)")
    assert said.text.strip() == pool.directory


# ---- while it runs ----


def test_a_factory_that_was_not_started_is_told_once(program: Program) -> None:
    text = (
        f"{_MANAGER}m.submit(vine.Task('true'))\n"
        "w = vine.Factory('condor', manager=m, max_workers=1)\nWITH\n"
        "while not m.empty() and m.wait(2) is None:\n    if STOP: break\n"
    )
    said = program.works(text.replace("WITH", "").replace("STOP", "True"))
    assert said.text.count("its factory was made but not started") == 1
    assert "call its start()" in said.text
    said = program.works(text.replace("WITH", "w.start()").replace("STOP", "False"))
    assert "not started" not in said.text


def test_ctrl_c_says_what_it_waits_for(program: Program) -> None:
    program.file.write_text(
        f"{_IMPORT}{_MANAGER}m.submit(vine.Task('sleep 60'))\n"
        "with vine.submit_workers(m, 1):\n"
        "    while not m.stats.workers_connected: m.wait(1)\n"
        "    print('here', flush=True)\n"
        "    while True: m.wait(1)\n"
    )
    process = program.terminal.start("exec python p.py")
    assert process.stdout is not None
    assert "here" in process.stdout.readline()
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in text
    if time.monotonic() - began > 2:
        assert text.count("removing the worker jobs of cluster") == 1


def test_a_program_is_told_when_its_pool_ends_and_comes_back_elsewhere(bare: Program) -> None:
    bare.terminal.paste("vine_sharedport pool start")
    bare.file.write_text(
        f"{_IMPORT}{_MANAGER}"
        "from vine_sharedport import htcondor_shared_link\n"
        "htcondor_shared_link._LOOK_INTERVAL = 0.1\n"
        "htcondor_shared_link._RESTART_TIME = 0.5\n"
        "m.wait(1)\n"
        "print('here', flush=True)\nwhile True: m.wait(1)\n"
    )
    process = bare.terminal.start("exec python p.py")
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert next(line for line in lines if line == "here\n")
        bare.terminal.paste("vine_sharedport pool stop")
        assert "shared port has ended" in next(lines)
        bare.terminal.paste("vine_sharedport pool start")
        assert "the manager is at <127.0.0.1:" in next(lines)
    finally:
        process.kill()
        process.communicate()


def test_a_pool_whose_directory_was_removed_ends(bare: Program) -> None:
    bare.terminal.paste("vine_sharedport pool start")
    where = Path(bare.terminal.environment["TMPDIR"])
    (directory,) = where.glob("vine-pool-*")
    mark = str(directory / "condor_config")
    assert helpers.processes_with(mark)
    subprocess.run(["rm", "-rf", str(directory)], check=False)
    helpers.wait_until(lambda: not helpers.processes_with(mark))
    bare.terminal.paste("vine_sharedport pool start")
