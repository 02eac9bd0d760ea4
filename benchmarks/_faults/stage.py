"""A pool, a manager, honest workers, and what is measured while something goes wrong."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from _faults.clients import Client, Target
from _faults.talk import ROOT, Child
from vine_sharedport.condor.personal_pool import guardian
from vine_sharedport.wire.sinful import Sinful

_PROGRAMS = {
    "taskvine": ("vine_worker", "manager_status"),
    "work_queue": ("work_queue_worker", "queue_status"),
}
_SETTLE = 10.0
# The porter sometimes keeps one descriptor to spare (``Endpoint._accept_batch``).
_SPARE = {"porter's descriptors": 1}


def say(text: str) -> None:
    """Write a line of progress."""
    print(text, file=sys.stderr, flush=True)


def wait_for(what: Callable[[], Any], *, timeout: float, why: str) -> Any:
    """Poll until ``what()`` is true; return its value."""
    until = time.monotonic() + timeout
    while not (value := what()):
        if time.monotonic() > until:
            raise RuntimeError(f"not within {timeout:g} s: {why}")
        time.sleep(0.05)
    return value


@dataclass
class Row:
    """What one fault did.

    Attributes:
        tried: Times it was inflicted.
        held: Longest time, in seconds, that the manager took to answer a question.
        no_processor: How much of that it was ready to run and had no processor.
        pause: Longest time, in seconds, without the end of a task.
        workers_lost: Honest workers that were disconnected.
        tasks_lost: Tasks that did not come back, or not well.
        leaked: Descriptors, processes and files that were left, by name.
        ways_in: Seconds from the start of each new honest worker to the end of its task.
        refused: Connections refused meanwhile, by reason.
        stops: When the manager was stopped on purpose; not counted as held.
        deaf: When the manager could take no connection, so no question either.
        skipped: Why it was not tried.
    """

    name: str
    title: str
    tried: int = 0
    held: float = 0.0
    no_processor: float = 0.0
    pause: float = 0.0
    questions: int = 0
    unanswered: int = 0
    tasks: int = 0
    workers_lost: int = 0
    tasks_lost: int = 0
    leaked: dict[str, int] = field(default_factory=dict)
    ways_in: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stops: list[tuple[float, float]] = field(default_factory=list, repr=False)
    deaf: list[tuple[float, float]] = field(default_factory=list, repr=False)
    skipped: str = ""


class Stage:
    """Everything real: daemons, a manager in its own process, workers at work.

    Args:
        pool: A running personal pool.
        workers: Honest ones.
        system: ``taskvine`` or ``work_queue``.
        tls: Whether manager and workers speak TLS.
        task_seconds: Mean length of a task.
    """

    def __init__(
        self, pool: Any, *, workers: int, system: str, tls: bool, task_seconds: float = 0.5
    ) -> None:
        self.pool = pool
        self.workers = workers
        self.tls = tls
        self.worker_program, question = _PROGRAMS[system]
        self._stack = contextlib.ExitStack()
        try:
            self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            self.manager = self._child(
                "manager_program",
                system=system, tls=tls, depth=2 * workers, task_seconds=task_seconds,
            )  # fmt: skip
            first = self.manager.hello
            self.crew = self._child(
                "crew_program",
                count=workers, worker=self.worker_program, tls=tls,
                address=first["address"], secret_file=first["secret_file"],
            )  # fmt: skip
            self.secret = Path(first["secret_file"]).read_bytes()
            wait_for(
                lambda: self.state()["workers"] == workers, timeout=60, why="all workers here"
            )
            self.prober = self._child(
                "prober_program",
                port=first["port"], question=question, tls=tls, pid=self.manager.pid,
            )  # fmt: skip
            self.hello = self._hello(self.prober.hello["protocol"])
            self._newcomers = 0
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all of it, the pool excepted."""
        self._stack.close()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def state(self) -> Any:
        """Return what the manager's own process knows."""
        return self.manager.ask("state")

    def target(self) -> Target:
        """Return where clients go now."""
        return Target(Sinful.parse(self.state()["address"]), self.secret, self.hello)

    @property
    def master_pid(self) -> int:
        """The pool's condor_master."""
        process = guardian.noted_process(guardian.read_state(self.pool.directory), "master")
        assert process is not None
        return process.pid

    @property
    def shared_port_pid(self) -> int | None:
        """The pool's condor_shared_port, None while there is none."""
        pids = _children(self.master_pid, "condor_shared_p")
        return pids[0] if pids else None

    @property
    def porter_pid(self) -> int:
        """The manager's porter."""
        return wait_for(
            lambda: self.state()["porter_pid"], timeout=30, why="the manager has a porter"
        )

    def tell_logs(self) -> None:
        """Show the ends of the logs, after something unexpected."""
        for path in sorted(self.directory.rglob("*.log")):
            if path.name == "shared_port.log" or path.parent == self.directory:
                say(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}")

    # ---- measuring ----

    @contextlib.contextmanager
    def observe(self, row: Row) -> Iterator[Row]:
        """Measure for the length of the block, and until everything has settled."""
        before, dials = self._things(), self.crew.ask("report")["dials"]
        refused = self.state()["refused"]
        self.manager.ask("tasks")
        self.prober.ask("report")
        begun = time.monotonic()
        yield row
        self._wait_for_tasks(row)
        answers = self.prober.ask("report")
        row.questions, row.unanswered = answers["asked"], answers["failed"]
        for start, length, no_processor in answers["slow"]:
            held = length - _overlap(row.stops + row.deaf, start, length)
            if held > row.held:
                row.held, row.no_processor = held, min(no_processor, held)
        crew = self.crew.ask("report")
        row.workers_lost += crew["dials"] - dials + self.workers - crew["alive"]
        after = self.state()["refused"]
        row.refused = {
            reason: count - refused.get(reason, 0)
            for reason, count in after.items()
            if count != refused.get(reason, 0)
        }
        row.leaked = self._left(before)
        say(
            f"    {time.monotonic() - begun:5.1f} s, held {row.held:.3f} s {row.failures or ''}"
        )

    def _wait_for_tasks(self, row: Row) -> None:
        """Wait until all tasks have come back."""
        report = self.manager.ask("tasks")
        for start, length in report["pauses"]:
            row.pause = max(row.pause, length - _overlap(row.stops, start, length))
        row.tasks, failed = report["ended"], report["failed"]
        # While new ones come, TaskVine may leave an old one waiting for long.
        self.manager.ask("pause", on=True)
        until = time.monotonic() + 30.0
        while report["out"] and time.monotonic() < until:
            time.sleep(0.05)
            report = self.manager.ask("tasks")
            row.tasks += report["ended"]
            failed += report["failed"]
        row.tasks_lost = len(failed) + len(report["out"])
        row.failures += failed
        self.manager.ask("pause", on=False)
        wait_for(lambda: self.manager.ask("tasks")["ended"], timeout=30, why="tasks go on")

    def _things(self) -> dict[str, int]:
        """Count what could leak."""
        socket_dir = Path(guardian.read_state(self.pool.directory)["lock_dir"], "daemon_sock")
        porters = _children(self.manager.pid, None)
        counts = {
            "porters": len(porters),
            "shared ports": len(_children(self.master_pid, "condor_shared_p")),
            "socket files": len(list(socket_dir.iterdir())),
            "manager's descriptors": _descriptors(self.manager.pid),
        }
        for name, pids in (
            ("porter's descriptors", porters[:1]),
            ("shared port's descriptors", [self.shared_port_pid]),
        ):
            counts[name] = sum(_descriptors(pid) for pid in pids if pid)
        return counts

    def _left(self, before: dict[str, int]) -> dict[str, int]:
        """Wait until there is no more than before; return what is left all the same."""
        until = time.monotonic() + _SETTLE
        least: dict[str, int] = {}
        while True:
            # Connections come and go by themselves, so the least of several looks counts.
            for name, count in self._things().items():
                least[name] = min(count, least.get(name, count))
            left = {
                name: count - before[name]
                for name, count in least.items()
                if count > before[name] + _SPARE.get(name, 0)
            }
            if not left or time.monotonic() > until:
                return left
            time.sleep(0.05)

    # ---- actors ----

    def start_newcomer(self, *, seconds: float = 0.0) -> Newcomer:
        """Start one more honest worker, as a user does, and a task for it alone."""
        self._newcomers += 1
        return Newcomer(self, f"newcomer-{self._newcomers}", seconds=seconds)

    def let_in_newcomer(self, row: Row, *, timeout: float = 60.0) -> None:
        """Start one more honest worker and note how long until it has done its task."""
        with self.start_newcomer() as newcomer:
            row.ways_in.append(newcomer.wait(timeout))

    def crowd(
        self, clients: list[Client], *, threads: int = 16, target: Target | None = None
    ) -> list[Any]:
        """Let many clients act at once; return their open sockets, None or errors."""
        target = target or self.target()

        def act(client: Client) -> Any:
            try:
                return client(target)
            except OSError as error:
                return error

        with ThreadPoolExecutor(threads) as executor:
            return list(executor.map(act, clients))

    def _child(self, program: str, **settings: Any) -> Child:
        child = Child(program, settings, self.directory)
        self._stack.callback(child.stop)
        return child

    def _hello(self, protocol: int | None) -> bytes:
        if protocol is None:
            return b"workqueue 10 unknown Linux x86_64 7.0.0\n"
        return f"taskvine {protocol} unknown Linux x86_64 7.0.0\n".encode()


class Newcomer:
    """One more honest worker: ``vine_sharedport worker``, in a process group of its own."""

    def __init__(self, stage: Stage, feature: str, *, seconds: float = 0.0) -> None:
        self.feature = feature
        self._stage = stage
        self._begun = time.monotonic()
        self._processes: list[subprocess.Popen[bytes]] = []
        stage.manager.ask("submit", seconds=seconds, feature=feature)
        self.start()

    def start(self) -> None:
        """Start the worker, or another one like it."""
        stage, state = self._stage, self._stage.state()
        options = ["--ssl"] if stage.tls else []
        with open(stage.directory / "newcomers.log", "ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-W", "ignore", "-m", "vine_sharedport", "worker",
                     "--address", state["address"], "--secret-file", state["secret_file"],
                     "--worker", stage.worker_program, "--", "--cores", "1", "--memory", "100",
                     "--disk", "100", "--feature", self.feature, *options],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                    start_new_session=True,
                )
            )  # fmt: skip

    def wait(self, timeout: float = 60.0) -> float:
        """Wait until its task has ended; return the seconds since the first start."""

        def ended() -> Any:
            return self._stage.manager.ask("tasks_of", feature=self.feature)

        return wait_for(ended, timeout=timeout, why="a new worker's task") - self._begun

    def kill(self) -> None:
        """Kill relay and worker at once, as a batch system does."""
        os.killpg(self._processes[-1].pid, signal.SIGKILL)
        self._processes[-1].wait()

    def __enter__(self) -> Newcomer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def _overlap(stops: list[tuple[float, float]], start: float, length: float) -> float:
    """Return how much of the time from ``start`` the manager was stopped on purpose."""
    return sum(max(0.0, min(start + length, b) - max(start, a)) for a, b in stops)


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:  # it has ended
        return 0


def _children(parent: int, name: str | None) -> list[int]:
    """Return the children, those that wait to be reaped included."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path(f"/proc/{entry}/stat").read_text()
        except OSError:
            continue
        match = re.match(r"\d+ \((.*)\) \S (\d+)", text, re.DOTALL)
        if match and int(match[2]) == parent and name in (None, match[1]):
            found.append(int(entry))
    return sorted(found)
