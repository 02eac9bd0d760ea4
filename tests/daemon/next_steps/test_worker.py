"""Mistakes with a worker by hand: what is printed as the next step works, typed as it is."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vine_sharedport.errors import ExitStatus
from vine_sharedport.registry.run_file import RUN_FILE, read_run_file

from .terminal import Message, Terminal

# Alone, as which manager is named depends on what others of this user run on the host.
pytestmark = [pytest.mark.daemon, pytest.mark.alone]

pytest.importorskip("ndcctools")

# A manager that serves until its standard input ends.
_SERVER = """\
import os, select, sys
import vine_sharedport{more} as vine
manager = vine.{cls}(0, name={name!r}, shared_port={shared_port})
print(manager.port, flush=True)
while not select.select([0], [], [], 0)[0]:
    manager.wait(1)
"""

# An ordinary program: its workers are told to end when its tasks have.
_PROGRAM = """\
import vine_sharedport as vine
manager = vine.Manager(0, name="sweep", shared_port=True)
manager.submit(vine.Task("true"))
while not manager.empty():
    manager.wait(1)
manager.workers_shutdown(0)
while manager.stats.workers_connected:
    manager.wait(1)
"""

_OPTIONS = "--cores 1 --memory 100 --disk 100 --timeout 1"
_PATIENT = "--cores 1 --memory 100 --disk 100 --timeout 60"


class Server:
    """A manager in a program of its own."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        path = max(
            directory.glob(f"*-run-info/*/**/{RUN_FILE}"), key=lambda x: x.stat().st_mtime
        )
        run = read_run_file(str(path))
        assert run is not None
        self.run = run
        self.address = shlex.quote(str(run))
        self.secret = str(run.secret_file)


@contextmanager
def serving(directory: Path, **words: Any) -> Iterator[Server]:
    """Run a manager in this directory."""
    directory.mkdir(exist_ok=True)
    given = {"more": "", "cls": "Manager", "name": "sweep", "shared_port": True, **words}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _SERVER.format(**given)],
        cwd=directory, env=Terminal(directory).environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield Server(directory, int(process.stdout.readline()))
    finally:
        process.communicate("end\n", timeout=30)


@pytest.fixture(scope="module")
def server(pool: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a manager that serves, in a directory that no test is in."""
    with serving(tmp_path_factory.mktemp("manager's own")) as found:
        yield found


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """Return a terminal somewhere else, with a file that is another manager's secret."""
    (tmp_path / "other.secret").write_bytes(bytes(32))
    (tmp_path / "other.secret").chmod(0o600)
    (tmp_path / "notes").write_text("Not to be lost.\n")
    return Terminal(tmp_path, LC_ALL="C")


def test_where_no_manager_is_found_its_program_is_made_to_print_the_command(
    pool: Any, terminal: Terminal
) -> None:
    message = terminal.mistake(f"vine_sharedport worker sweep -- {_OPTIONS}")
    match = re.search(r"put (print\(.*\)) into its program", message.text)
    assert match, message.text
    lines = _PROGRAM.splitlines()
    lines.insert(2, match[1])
    (terminal.directory / "program.py").write_text("\n".join(lines))
    process = terminal.start("PYTHONUNBUFFERED=1 exec python3 -W ignore program.py")
    assert process.stdout is not None
    line = process.stdout.readline()
    terminal.paste(line)
    assert terminal.end(process).status == 0


def test_a_worker_that_has_given_up_says_what_shows_why(pool: Any, terminal: Terminal) -> None:
    settings = f"vine.SharedPort(name='late_{id(terminal)}')"
    directory = terminal.directory / "a manager"
    with serving(directory, shared_port=settings) as server:
        pass
    message = terminal.mistake(
        f"vine_sharedport worker --address {server.address} --connect-timeout 6 "
        f"--secret-file {shlex.quote(server.secret)} -- --cores 1"
    )
    assert message.status == 75
    assert "the manager was not reached within 6 s" in message.text
    assert "still so; trying again for" in message.text
    assert message.text.count("no manager serves this sock id") == 1
    with serving(directory, shared_port=settings):
        assert "The way in works" in terminal.paste(message.next_step()).text


# Those above need that no other manager runs.


_LACKING = {
    "worker --address {a}": "the manager asks for its secret, and this worker has none",
    "worker --address {a} --secret-file other.secret": "another secret than this worker",
    "worker --address {a} --secret-file nope": "nope: No such file or directory",
    "worker --address {a} --secret-file ''": "path is empty, as by an empty variable",
    "worker --address {a} --secret-file notes": "notes has 16 bytes, wanted 32",
    "worker --address '' --secret-file {s}": "the address is empty, as by an empty",
    "worker": "no address: give --address",
    "worker sweep": "'sweep' is no address of a manager",
    "worker 127.0.0.1 9618": "'127.0.0.1 9618' is no address of a manager",
    "worker --address sweep": "'sweep' is no HTCondor address",
    "worker --address 127.0.0.1:9618": "'127.0.0.1:9618' is no HTCondor address",
    "worker --address '<127.0.0.1:9618>'": "names no manager: it has no sock=",
}


def _each(check: Callable[..., None], cases: Iterable[tuple[Any, ...]]) -> None:
    """Check several at once: they wait most of their time."""
    with ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(check, *case) for case in cases]:
            done.result()


def test_what_a_worker_lacks_is_in_the_command_that_is_printed(
    server: Server, terminal: Terminal
) -> None:
    def check(mistake: str, told: str) -> None:
        mistake = mistake.format(a=server.address, s=shlex.quote(server.secret))
        message = terminal.mistake(f"vine_sharedport {mistake} -- {_OPTIONS}")
        assert told in message.text
        assert message.next_step().endswith(_OPTIONS)
        terminal.paste(message.next_step())

    _each(check, _LACKING.items())
    assert (terminal.directory / "notes").read_text() == "Not to be lost.\n"


def test_another_managers_name_is_refused_before_the_worker_goes_there(
    server: Server, terminal: Terminal
) -> None:
    start = (
        f"vine_sharedport worker --address {server.address} "
        f"--secret-file {shlex.quote(server.secret)} "
    )

    def check(words: str) -> None:
        message = terminal.mistake(start + words.format(o=_OPTIONS), timeout=20)
        assert "started" not in message.text
        terminal.paste(message.next_step())

    cases = ["-- -M sweep {o}", "-- {o} localhost 9123", "-- {o} localhost:9123"]
    _each(check, [(words,) for words in [*cases, "localhost 9123 -- {o}"]])


def test_the_workers_options_before_the_dashes(server: Server, terminal: Terminal) -> None:
    message = terminal.mistake(
        f"vine_sharedport worker --address {server.address} {_OPTIONS} "
        f"--secret-file {shlex.quote(server.secret)}"
    )
    assert "there is no option --cores; the worker's own follow --" in message.text
    terminal.paste(message.next_step())


def test_an_address_alone_is_taken(server: Server, terminal: Terminal) -> None:
    secret = shlex.quote(server.secret)
    terminal.paste(
        f"vine_sharedport worker {server.address} --secret-file {secret} -- {_OPTIONS}"
    )


def test_connect_prints_what_shows_that_it_works(server: Server, terminal: Terminal) -> None:
    def check(words: str, run: Callable[[str], Message]) -> None:
        message = run(f"vine_sharedport connect {words.format(a=server.address)}")
        refused = words.endswith(("{a}", "other.secret"))  # the secret, or that there is none
        assert message.status in ((ExitStatus.WRONG_SECRET,) if refused else (1, 2))
        assert "The way in works" in terminal.paste(message.next_step()).text

    cases = [
        "{a}",
        "{a} --secret-file other.secret",
        "{a} --secret-file nope",
        "sweep",
        "",
        "''",
    ]
    explained = ["--explain {a}", "--explain {a} --secret-file other.secret"]
    _each(
        check,
        [*((words, terminal.mistake) for words in cases)]
        + [(words, terminal.run) for words in explained],  # a table, of more lines
    )


def test_a_secret_that_others_can_read(server: Server, terminal: Terminal) -> None:
    copy = terminal.directory / "a copy"
    copy.write_bytes(Path(server.secret).read_bytes())
    copy.chmod(0o644)
    line = f"vine_sharedport connect {server.address} --secret-file 'a copy'"
    message = terminal.mistake(line)
    terminal.paste(message.next_step())
    assert "others can read" not in terminal.paste(line).text
    copy.chmod(0)
    message = terminal.mistake(line.replace("sock=", "sock=x_"))
    assert "Permission denied" in message.text
    terminal.paste(message.next_step())
    terminal.paste(line)


def test_a_manager_that_was_started_anew_is_named(server: Server, terminal: Terminal) -> None:
    old = re.sub(r"sock=[^&>]*", "sock=vine_1_ended", server.address)
    secret = shlex.quote(server.secret)
    message = terminal.mistake(
        f"vine_sharedport worker --address {old} --secret-file {secret} -- {_OPTIONS}"
    )
    assert "the manager was not reached within 1 s" in message.text
    assert "your manager sweep runs on this host" in message.text
    terminal.paste(message.next_step())
    explained = terminal.run(f"vine_sharedport connect --explain {old}")
    assert explained.status == ExitStatus.LATER
    terminal.paste(explained.next_step())


def _until_said(terminal: Terminal, line: str, text: str) -> Message:
    """Run a line until it has said this; then press Ctrl-C."""
    process = terminal.start(line)
    assert process.stdout is not None
    said = ""
    while text not in said:
        new = process.stdout.readline()
        assert new, f"ended with {process.wait()}:\n{said}"
        said += new
    said += process.stdout.readline()  # the command
    return Message(said + terminal.end(process, timeout=0.1).text, None).check()


def test_a_worker_of_the_other_kind(server: Server, terminal: Terminal) -> None:
    def check(served: Server, wrong: str, right: str) -> None:
        line = (
            f"vine_sharedport worker --worker {wrong} --address {served.address} "
            f"--secret-file {shlex.quote(served.secret)} -- {_PATIENT}"
        )
        message = _until_said(terminal, line, f"the manager wants no {wrong} such as this")
        step = message.next_step().replace(_PATIENT, _OPTIONS)
        assert ("--worker work_queue_worker" in step) == (right == "work_queue_worker")
        terminal.paste(step)

    directory = terminal.directory / "queue"
    with serving(directory, more=".work_queue", cls="WorkQueue", name=None) as queue:
        assert queue.run.worker == "work_queue_worker"
        kinds = ("vine_worker", "work_queue_worker")
        _each(check, [(queue, *kinds), (server, *reversed(kinds))])


def test_what_expose_prints_and_a_forgotten_secret_of_it(
    server: Server, terminal: Terminal
) -> None:
    process = terminal.start(f"exec vine_sharedport expose --port {server.port}")
    try:
        assert process.stdout is not None
        printed = process.stdout.readline() + process.stdout.readline()
        line = re.search(r"Workers: (.*)", printed)
        assert line, printed
        words = shlex.split(line[1])
        address = shlex.quote(words[words.index("--address") + 1])
        message = terminal.mistake(f"vine_sharedport worker {address} -- {_OPTIONS}")
        assert message.next_step().startswith(line[1])
        terminal.paste(message.next_step())
    finally:
        process.terminate()
        process.communicate(timeout=20)
