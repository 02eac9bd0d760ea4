"""A manager's whole life in odd programs: forks, signals, deaths, and what they leave.

Most managers here are programs of their own, because that is what dies. Their workers are
real ones behind one relay in the test's process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from vine_sharedport.dialing import dial, relay
from vine_sharedport.secret_file import read_secret_file

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

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # where the stock managers tell of plain text

def say(**what):
    print(json.dumps(what), file=answers, flush=True)

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
        self._heard = b""
        first = self.hear()
        self.sock_id, self.address = first["sock_id"], first["address"]
        self.secret = read_secret_file(first["secret_file"])
        self.socket = Path(vine.discover().socket_dir, self.sock_id)
        assert self.socket.exists()
        assert len(self.porters()) == 1

    def hear(self) -> dict[str, Any]:
        """Return the next thing that the program says."""
        # Not readline(), which may keep a second line where select() does not see it.
        while b"\n" not in self._heard:
            assert select.select([self._stdout], [], [], 60)[0], self.state()
            data = os.read(self._stdout.fileno(), 4096)
            assert data, f"the program has ended: {self.errors()}"
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def tell(self, word: str = "go") -> None:
        """Let it go on from ``listen()``."""
        self._stdin.write(word + "\n")
        self._stdin.flush()

    def ask(self, word: str = "count") -> dict[str, Any]:
        """Tell a word, and return the answer."""
        self.tell(word)
        return self.hear()

    def errors(self) -> str:
        """Return what it has written to stderr."""
        return (self.directory / "stderr").read_text()

    def state(self) -> str:
        """Return where the program and its children are, when they say nothing."""
        found = ["it says nothing"]
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in [self.process.pid, *map(int, children.read_text().split())]:
            what = [
                Path(f"/proc/{pid}/{name}").read_text() for name in ("comm", "wchan", "stat")
            ]
            found.append(f"{pid} {what}")
        return "\n".join([*found, self.errors()])

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
        helpers.wait_until(lambda: not self.socket.exists() and not self.porters(), timeout=5)


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


@pytest.fixture(autouse=True)
def _workers_come_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_LAST_PAUSE", 0.2)


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
    """Real workers behind one relay.

    Attributes:
        dialled: How often one has tried to connect to the manager.
        connected: Called when that has succeeded, before a byte of the worker's is sent.
    """

    def __init__(self, system: str, address: str, secret: bytes) -> None:
        self.dialled = 0
        self._system = system
        self._address, self._secret = address, secret
        self._relay = relay.Relay(self._dial)
        self._processes = contextlib.ExitStack()
        self.connected: Callable[[], Any] = lambda: None

    def _dial(self) -> Any:
        self.dialled += 1
        sock = dial.connect(self._address, secret=self._secret)
        self.connected()
        return sock

    def start(self, count: int = 1) -> None:
        """Start so many more.

        One after the other: of two vine_workers that look for a port for their transfers at
        the same moment, one can end ("unable to find a port to start a transfer server").
        """
        wanted = self.dialled

        def has_dialled() -> bool:
            return self.dialled >= wanted

        for _ in range(count):
            wanted += 1
            self._processes.enter_context(
                helpers.worker_process(
                    WORKERS[self._system], "--cores", "1", "--memory", "100", "--disk", "100",
                    "127.0.0.1", str(self._relay.port),
                )
            )  # fmt: skip
            helpers.wait_until(has_dialled)

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
        r"""
        def left():
            children = open("/proc/self/task/%d/children" % os.getpid()).read().split()
            return sorted(os.listdir("/proc/self/fd")), children, threading.active_count()

        import threading
        listen()
        m._free()
        before = left()
        for number in range(20):
            m = Manager(0, shared_port=True)
            link = m.shared_port
            if number % 10 == 0:
                m.submit(Task("true"))  # Work Queue does nothing without a task
                secret = open(link.secret_file, "rb").read()
                with vine.connect(link.address, secret=secret) as client:
                    client.sendall(b"nobody\n")
                    while not link.counters.accepted:
                        m.wait(1)
            if number % 2:
                link.close()
            m._free()
            assert not os.path.exists(os.path.join(vine.discover().socket_dir, link.sock_id))
        assert left() == before, (left(), before)
        assert not before[1]
        say(done=True)
        """,
    )
    program.tell()
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
    say(accepted=link.counters.accepted)
listen()
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
            assert program.hear() == {"end": end, "status": 0}, program.errors()
            program.tell()
            # The one worker is still connected as it was.
            assert program.hear() == {"accepted": 1}, end
            assert ours.dialled == 1
            assert program.porters() == porters
            assert program.socket.exists()
    program.tell()
    program.ends(0)


_CHILDREN = """
import ctypes, multiprocessing, subprocess
from concurrent.futures import ProcessPoolExecutor

work()
subprocess.run(["true"], check=True, close_fds=False)
context = multiprocessing.get_context("fork")
child = context.Process(target=int)
child.start()
work()
child.join()
assert child.exitcode == 0
with ProcessPoolExecutor(2, mp_context=context) as pool:
    assert list(pool.map(abs, range(4))) == [0, 1, 2, 3]
    work()
# These live on.
left = [subprocess.Popen(["sleep", "60"], close_fds=False).pid]
for fork in (os.fork, ctypes.PyDLL(None).fork):
    pid = fork()
    if not pid:
        signal.alarm(60)
        while True:
            signal.pause()
    left.append(pid)
work()
say(accepted=link.counters.accepted, left=left)
{ending}
"""


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("sys.exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("link.close(); listen()", 0),
    ],
    ids=["exit", "killed", "close"],
)
@pytest.mark.parametrize("mode", ["direct", "relay"])
def test_children_at_work_disturb_nothing_and_keep_no_porter_alive(
    run: Callable[..., Program], mode: str, ending: str, status: int
) -> None:
    program = run("taskvine", _CHILDREN.format(ending=ending), mode=mode)
    with workers("taskvine", program) as ours:
        answer = program.hear()
        try:
            assert answer["accepted"] == ours.dialled == 1
            if status:
                program.ends(status)
            else:
                program.leaves_nothing()
                program.tell()
            for pid in answer["left"]:
                os.kill(pid, 0)  # they live, the porter does not
        finally:
            for pid in answer["left"]:
                os.kill(pid, signal.SIGKILL)


# ---- signals ----


@pytest.mark.parametrize("moment", ["before", "after"])
@BOTH
def test_ctrl_c_in_the_hooks_callback_reaches_the_program_and_loses_no_worker(
    run: Callable[..., Program], system: str, moment: str
) -> None:
    program = run(
        system,
        """
        from vine_sharedport.serving.porter_handle import PorterHandle

        receive, raised, taken = PorterHandle.receive, [], []

        def interrupt():
            raised.append(True)
            signal.raise_signal(signal.SIGINT)

        def receive_interrupted(handle):
            if moment == "before" and not raised:
                interrupt()
            taken.append(receive(handle))
            if moment == "after" and taken != [None] and not raised:
                interrupt()  # with the client in the hands
            fd = taken[0]
            taken.clear()
            return fd

        moment = listen()
        PorterHandle.receive = receive_interrupted
        m.submit(Task("true"))
        caught = 0
        while not m.empty() or not caught:
            try:
                m.wait(1)
            except KeyboardInterrupt:
                caught += 1
        say(caught=caught, accepted=link.counters.accepted)
        """,
    )
    program.tell(moment)
    with workers(system, program) as ours:
        assert program.hear() == {"caught": 1, "accepted": 1}
        assert ours.dialled == 1
    program.ends(0)


@BOTH
def test_ctrl_c_again_and_again_during_wait_loses_nothing(
    run: Callable[..., Program], system: str
) -> None:
    program = run(
        system,
        """
        def mask(how):
            signal.pthread_sigmask(how, [signal.SIGINT])

        mask(signal.SIG_BLOCK)
        for _ in range(60):
            m.submit(Task("true"))
        say(caught=0)
        caught, submitted = 0, 60
        # In a task's __del__, Python drops what a signal's handler raises: keep them all.
        kept = []
        while not m.empty() or caught < 3:
            try:
                if m.empty():
                    m.submit(Task("true"))
                    submitted += 1
                mask(signal.SIG_UNBLOCK)
                kept.append(m.wait(1))
                mask(signal.SIG_BLOCK)
            except KeyboardInterrupt:
                mask(signal.SIG_BLOCK)
                caught += 1
                say(caught=caught)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        mask(signal.SIG_UNBLOCK)
        for _ in range(8):  # of cctools after 7.17.1 the statistics are up to 5 s old
            if m.stats.tasks_done < submitted:
                m.wait(1)
        say(lost=submitted - m.stats.tasks_done, accepted=link.counters.accepted)
        """,
    )
    with workers(system, program) as ours:
        answer = program.hear()
        while "caught" in answer:
            with contextlib.suppress(ProcessLookupError):
                program.process.send_signal(signal.SIGINT)
            answer = program.hear()
        assert answer == {"lost": 0, "accepted": 1}
        assert ours.dialled == 1
    program.ends(0)


_SERVE = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
m.submit(Task("true"))
while not m.empty():
    m.wait(1)
waiting = Task("true")  # for a worker that does not come
(waiting.set_cores if hasattr(waiting, "set_cores") else waiting.specify_cores)(1000)
m.submit(waiting)
say(serving=True)
while True:
    m.wait(1)
"""


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGINT, -signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, 7, "")],
    ids=["ctrl_c", "sigterm"],
)
@BOTH
def test_signal_that_ends_the_program_ends_it_as_in_stock(
    run: Callable[..., Program], system: str, number: int, status: int, said: str
) -> None:
    program = run(system, _SERVE)
    with workers(system, program):
        assert program.hear() == {"serving": True}
        program.process.send_signal(number)
        program.ends(status)
    assert said in program.errors()


@BOTH
def test_storm_of_ctrl_c_ends_the_program_and_leaves_nothing(
    run: Callable[..., Program], system: str
) -> None:
    program = run(system, _SERVE)
    with workers(system, program):
        assert program.hear() == {"serving": True}
        # Into the callbacks, atexit's functions and destructors alike.
        while program.process.poll() is None:
            program.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.process.wait(0.002)
    assert program.process.returncode not in (0, -signal.SIGSEGV, -signal.SIGABRT)
    program.leaves_nothing()


# ---- the manager away, and its end ----


@BOTH
def test_fifty_workers_wait_for_a_manager_that_does_not_poll(
    run: Callable[..., Program], system: str
) -> None:
    program = run(
        system,
        """
        while listen() == "count":
            say(pending=link.counters.pending, accepted=link.counters.accepted)
        for _ in range(50):
            m.submit(Task("true"))
        while not m.empty() or m.stats.workers_connected < 50:
            m.wait(1)
        say(accepted=link.counters.accepted, refused=link.counters.refused)
        """,
    )

    def pending() -> bool:
        answer = program.ask()
        assert answer["accepted"] == 0
        return bool(answer["pending"] == 50)

    with workers(system, program, 50) as ours:
        helpers.wait_until(pending)
        program.tell()
        assert program.hear() == {"accepted": 50, "refused": {}}
        assert ours.dialled == 50
    program.ends(0)


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        ("pass", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("raise RuntimeError('no more')", 1, "RuntimeError: no more"),
        ("os._exit(4)", 4, ""),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
        ("os.abort()", -signal.SIGABRT, ""),
        ("os.execv('/bin/true', ['true'])", 0, ""),
        ("del m, link", 0, ""),
        ("import threading; threading.Thread(target=work).start()", 0, ""),
    ],
    ids=lambda value: value.partition("(")[0].replace(" ", "-")
    if isinstance(value, str)
    else "",
)
@BOTH
def test_program_that_closes_nothing_leaves_nothing(
    run: Callable[..., Program], system: str, ending: str, status: int, said: str
) -> None:
    program = run(system, f"work()\nsay(ready=True)\nlisten()\n{ending}")
    with workers(system, program):
        assert program.hear() == {"ready": True}
        program.tell()
        program.ends(status)
    errors = [
        line for line in program.errors().splitlines() if not line.startswith("warning: ")
    ]
    assert said in (errors[-1] if errors else ""), errors
    assert said or not errors, errors


@BOTH
def test_named_manager_killed_with_its_porter_has_a_successor(
    run: Callable[..., Program], system: str
) -> None:
    first = run(system, _SERVE, name=f"life-{system}")
    with workers(system, first):
        assert first.hear() == {"serving": True}
        # The porter first, and no chance for the manager to start another.
        first.process.send_signal(signal.SIGSTOP)
        (porter,) = first.porters()
        os.kill(porter, signal.SIGKILL)
        first.process.kill()
        first.process.wait()
        assert first.socket.exists(), "the test needs a stale socket"
    second = run(system, "work()\nsay(accepted=link.counters.accepted)", name=f"life-{system}")
    assert second.secret == first.secret
    with workers(system, second):
        assert second.hear() == {"accepted": 1}
    second.ends(0)


# ---- the porter killed ----


_ASKED = """
from vine_sharedport.serving.counters import Gauge

while (word := listen()) != "end":
    if word == "work":
        work(2)
    handed_over = link._porter.counters[Gauge.HANDED_OVER]
    counters, workers = link.counters, m.stats.workers_connected
    say(pending=counters.pending, accepted=counters.accepted, handed_over=handed_over,
        workers=workers)
"""


@pytest.mark.parametrize("state", ["queued", "connected"])
@BOTH
def test_killed_porter_costs_no_connection_that_it_has_handed_over(
    run: Callable[..., Program], system: str, state: str
) -> None:
    program = run(system, _ASKED)
    (porter,) = program.porters()
    with workers(system, program) as ours:
        # Queued: in the socket pair, of a manager that has not come by.
        helpers.wait_until(lambda: program.ask()["handed_over"] == 1)
        if state == "connected":
            assert program.ask("work")["accepted"] == 1
        else:
            assert program.ask()["pending"] == 1
        os.kill(porter, signal.SIGKILL)
        helpers.wait_until(lambda: not program.porters())
        assert program.ask("work")["accepted"] == 1
        helpers.wait_until(lambda: program.ask("work") and program.porters())
        assert ours.dialled == 1
    program.tell("end")
    program.ends(0)


def test_killed_porter_costs_no_worker_in_any_other_state(
    run: Callable[..., Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = run("taskvine", _ASKED)
    (porter,) = program.porters()
    killed, at_the_gate = threading.Event(), threading.Event()
    pass_gate = dial._pass_gate

    def stand_at_the_gate(*args: Any) -> None:
        if at_the_gate.is_set():
            killed.wait(30)
        pass_gate(*args)

    monkeypatch.setattr(dial, "_pass_gate", stand_at_the_gate)

    def one_more_is_pending() -> None:
        before = program.ask()["pending"]
        ours[-1].start()
        helpers.wait_until(lambda: program.ask()["pending"] == before + 1)

    ours: list[Workers] = []
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            ours.append(Workers("taskvine", program.address, program.secret))
            stack.callback(ours[-1].close)
            if len(ours) == 1:  # the greeting has come, and no answer
                at_the_gate.set()
                one_more_is_pending()
                at_the_gate.clear()
            elif len(ours) == 2:  # through the gate, and not a byte yet
                ours[-1].connected = lambda: killed.wait(30)
                one_more_is_pending()
            else:  # not yet accepted by the porter: a listening socket, and one that waits
                os.kill(porter, signal.SIGSTOP)
                ours[-1].start()
                helpers.wait_until(lambda: _sockets_at(program.socket) == 2)
        stack.callback(killed.set)
        os.kill(porter, signal.SIGKILL)
        helpers.wait_until(lambda: not program.porters())
        killed.set()
        helpers.wait_until(lambda: program.ask("work")["workers"] == 3)
        assert program.ask()["accepted"] == 3
        assert all(worker.dialled >= 2 for worker in ours)
    program.tell("end")
    program.ends(0)


def _sockets_at(path: Path) -> int:
    lines = Path("/proc/net/unix").read_text().splitlines()
    return sum(line.endswith(f" {path}") for line in lines)
