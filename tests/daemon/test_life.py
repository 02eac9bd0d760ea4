"""A manager's whole life in odd programs: forks, signals, deaths, and what they leave.

Most managers here are programs of their own, because that is what dies. Their workers are
real ones behind one relay in the test's process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vine_sharedport.errors import SharedPortError
from vine_sharedport.link import dial
from vine_sharedport.link.relay import Relay
from vine_sharedport.link.secret import read_secret_file

from . import helpers

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")

WORKERS = {"taskvine": "vine_worker", "work_queue": "work_queue_worker"}
BOTH = pytest.mark.parametrize("system", sorted(WORKERS))

# What every program begins with. It takes its orders on stdin, and answers with JSON lines.
_BEGINNING = """
import json, os, signal, sys

import vine_sharedport as vine

if sys.argv[1] == "taskvine":
    Manager, Task = vine.Manager, vine.Task
else:
    from vine_sharedport.work_queue import Task, WorkQueue as Manager

def say(**what):
    print(json.dumps(what), flush=True)

def listen():
    return sys.stdin.readline().strip()

def work(count=1):
    for _ in range(count):
        m.submit(Task("true"))
    while not m.empty():
        m.wait(1)

m = Manager(0, shared_port=vine.SharedPort(**json.loads(sys.argv[2])))
link = m.shared_port
say(sock_id=link.sock_id, address=str(link.address), secret_file=link.secret_file)
"""


class Program:
    """A program with one manager, whatever becomes of it."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self.process = process
        self.directory = directory
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        first = self.hear()
        self.sock_id, self.address = first["sock_id"], first["address"]
        self.secret = read_secret_file(first["secret_file"])
        self.socket = Path(vine.discover().socket_dir, self.sock_id)
        assert self.socket.exists()
        assert len(self.porters()) == 1

    def hear(self) -> dict[str, Any]:
        """Return the next thing that the program says."""
        line = self._stdout.readline()
        assert line, f"the program has ended: {self.errors()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def tell(self, word: str = "go") -> None:
        """Let it go on from ``listen()``."""
        self._stdin.write(word + "\n")
        self._stdin.flush()

    def errors(self) -> str:
        """Return what it has written to stderr."""
        return (self.directory / "stderr").read_text()

    def porters(self) -> list[int]:
        """Return the processes that serve its sock id."""
        return [
            pid
            for pid in helpers.pids_named("vine_porter", Path(sys.executable).name)
            if self.sock_id in _arguments(pid) and pid != self.process.pid
        ]

    def ends(self, status: int) -> None:
        """Check that it ends like this and leaves nothing."""
        assert self.process.wait(20) == status, self.errors()
        self.leaves_nothing()

    def leaves_nothing(self) -> None:
        helpers.wait_until(
            lambda: not self.socket.exists() and not self.porters(), timeout=5
        )


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


@pytest.fixture
def run(pool: Any, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Return a function that starts programs; they end with the test, and leave nothing."""
    programs: list[Program] = []
    with contextlib.ExitStack() as stack:

        def start(system: str, rest: str, **settings: Any) -> Program:
            with open(tmp_path / "stderr", "w") as stderr:
                process = stack.enter_context(
                    subprocess.Popen(
                        [sys.executable, "-W", "ignore", "-c",
                         _BEGINNING + textwrap.dedent(rest), system, json.dumps(settings)],
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
                        cwd=tmp_path, env=dict(os.environ, PYTHONPATH=str(helpers.ROOT)),
                    )
                )  # fmt: skip
            stack.callback(process.kill)
            programs.append(Program(process, tmp_path))
            return programs[-1]

        yield start
    for program in programs:
        program.leaves_nothing()


class Workers:
    """Real workers behind one relay, whose connections to the manager are counted."""

    def __init__(self, system: str, address: str, secret: bytes) -> None:
        self.dialled = 0
        self._system = system
        self._address, self._secret = address, secret
        self._relay = Relay(self._dial)
        self._processes = contextlib.ExitStack()

    def _dial(self) -> Any:
        sock = dial.connect(self._address, secret=self._secret)
        self.dialled += 1
        return sock

    def start(self, count: int = 1) -> None:
        """Start so many more."""
        for _ in range(count):
            self._processes.enter_context(
                helpers.worker_process(
                    WORKERS[self._system], "--cores", "1", "--memory", "100", "--disk", "100",
                    "127.0.0.1", str(self._relay.port),
                )
            )  # fmt: skip

    def close(self) -> None:
        self._processes.close()
        self._relay.close()


@contextlib.contextmanager
def workers(system: str, program: Any, count: int = 1) -> Iterator[Workers]:
    """Run workers of a program for the length of the block."""
    made = Workers(system, program.address, program.secret)
    with contextlib.closing(made):
        made.start(count)
        yield made


# ---- more than one manager ----


def test_both_systems_serve_side_by_side_in_one_process(
    make_manager: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vine_sharedport.work_queue as wq

    monkeypatch.chdir(tmp_path)
    first, second = make_manager(), wq.WorkQueue(0, shared_port=True)
    try:
        with (
            helpers.relay_worker(first.shared_port),
            helpers.relay_worker(second.shared_port, worker="work_queue_worker"),
        ):
            for _ in range(2):
                helpers.run_tasks(first, [vine.Task("true")])
                second.submit(wq.Task("true"))
                assert helpers.wait_until(lambda: second.wait(1)).return_status == 0
            assert first.shared_port.counters.accepted == 1
            assert second.shared_port.counters.accepted == 1
            first._free()
            assert second.shared_port.is_open
            second.submit(wq.Task("true"))
            helpers.wait_until(lambda: second.wait(1))
    finally:
        second._free()


@BOTH
def test_twenty_managers_one_after_another_leave_nothing(
    run: Callable[..., Program], system: str
) -> None:
    program = run(
        system,
        """
        def left():
            children = open("/proc/self/task/%d/children" % os.getpid()).read().split()
            return sorted(os.listdir("/proc/self/fd")), children, threading.active_count()

        import gc, threading
        m._free()
        before = left()
        for number in range(20):
            m = Manager(0, shared_port=True)
            link = m.shared_port
            client = vine.connect(link.address, secret=open(link.secret_file, "rb").read())
            with client:
                client.sendall(b"x")
                while not link.counters.accepted:
                    m.wait(0)
            if number % 2:
                link.close()
            m._free()
            assert not os.path.exists(os.path.join(vine.discover().socket_dir, link.sock_id))
        assert left() == before, (left(), before)
        assert not before[1]
        say(done=True)
        """,
    )
    assert program.hear() == {"done": True}
    program.ends(0)


# ---- children ----

_FORKS = """
import ctypes, multiprocessing, subprocess, time

fork = {"python": os.fork, "c": ctypes.PyDLL(None).fork}[listen()]

def free():
    m._free()
    os._exit(0)

def close():
    link.close()
    os._exit(0)

def hard():
    os._exit(0)

def check():
    # Signals and counters are looked at; nothing else is a child's business.
    link.check()
    str(link.counters)
    os._exit(0)

def soft():
    sys.exit(0)  # atexit's functions and all destructors

work(2)
for end in (hard, check, close, soft, free):
    pid = fork()
    if not pid:
        signal.alarm(20)
        end()
    status = os.waitpid(pid, 0)[1]
    say(end=end.__name__, status=status)
    listen()
    work(2)
    say(accepted=link.counters.accepted, porter=link.porter_pid)
"""


@pytest.mark.parametrize("fork", ["python", "c"])
@pytest.mark.parametrize("mode", ["direct", "relay"])
@BOTH
def test_children_that_end_in_any_way_disturb_nothing(
    run: Callable[..., Program], system: str, mode: str, fork: str
) -> None:
    program = run(system, _FORKS, mode=mode)
    porters = program.porters()
    program.tell(fork)
    with workers(system, program) as ours:
        for end in ("hard", "check", "close", "soft", "free"):
            print(end)
            assert program.hear() == {"end": end, "status": 0}, program.errors()
            program.tell()
            print(program.hear(), ours.dialled)
            assert program.porters() == porters
            assert program.socket.exists()
    program.ends(0)
