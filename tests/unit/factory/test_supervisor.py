"""The two processes of a factory; no pool is needed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vine_sharedport.factory import control, supervisor

# A loop that counts in a file how often it was made. What follows defines finish(loop, check).
FINDING = """
import os, re, signal, sys, time
from pathlib import Path
from types import SimpleNamespace
from vine_sharedport.factory import loop, setup, supervisor
from vine_sharedport.factory.manager_view.monitor import ManagerMonitor
made = Path(sys.argv[1], "made")

class Loop:
    is_waiting, options = True, SimpleNamespace(cycle=0.0)
    def __init__(self, *_, pid, **__):
        self.pid = pid
        self.stopped = False
        self._monitor = ManagerMonitor(SimpleNamespace(address=None), lambda: 0.0)
        with open(made, "a") as file:
            file.write("x")
    def stop(self, reason):
        self.stopped = True
        print(reason.phase.value, *re.findall(r"SIG[A-Z]+", reason.message), flush=True)
    def leave(self):
        self._monitor.close()
    def run(self, *, check, ending):
        check()
        finish(self, check)

def times(): return len(made.read_text())

loop.Loop = Loop
"""


def run(program: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FINDING + program, str(directory)],
        env=control.environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_one_that_has_found_its_manager_begins_anew_and_that_is_no_crash(
    tmp_path: Path,
) -> None:
    often = supervisor._CRASHES + 2
    found = run(
        f"""
finish = lambda *_: None
setup.follow_name = lambda directory: times() < {often}
sys.exit(supervisor.run(sys.argv[1]))
""",
        tmp_path,
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert (tmp_path / "made").read_text() == "x" * often


def test_one_that_has_found_its_manager_asks_at_the_old_place_no_more(tmp_path: Path) -> None:
    found = run(
        """
import threading
ManagerMonitor._look = lambda self: self.view
def finish(loop, check):
    until = time.monotonic() + 20
    while any(thread.name == "ask-manager" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)
init = Loop.__init__
def starting(self, *args, **more):
    init(self, *args, **more)
    if times() < 3:
        self._monitor.start()
Loop.__init__ = starting
setup.follow_name = lambda directory: times() < 3
sys.exit(supervisor.run(sys.argv[1]))
""",
        tmp_path,
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert (tmp_path / "made").read_text() == "xxx"


def test_one_that_has_found_its_manager_goes_on_when_its_supervisor_is_killed_then(
    tmp_path: Path,
) -> None:
    found = run(
        """
def finish(loop, check):
    while True:
        check()
        time.sleep(0.01)
def follow(directory):
    if times() == 1:
        os.kill(os.getppid(), signal.SIGKILL)
        return True
    return False
def become(self, *, ending):
    Path(sys.argv[1], "supervises").write_text(f"{times()} {ending}")
    os._exit(0)
setup.follow_name = follow
supervisor._Supervisor._become_supervisor = become
sys.exit(supervisor.run(sys.argv[1]))
""",
        tmp_path,
    )
    # The output's end is that of both processes.
    assert found.returncode == -signal.SIGKILL
    assert len(found.stderr.splitlines()) == 1
    assert (tmp_path / "supervises").read_text() == "2 False"


def test_one_that_is_told_to_end_while_it_begins_anew_ends(tmp_path: Path) -> None:
    found = run(
        """
def finish(loop, check):
    print(times(), loop.stopped, flush=True)
init = Loop.__init__
def told(self, *args, **more):
    if made.exists():  # the second one is being made
        os.kill(os.getpid(), signal.SIGTERM)
    init(self, *args, **more)
Loop.__init__ = told
setup.follow_name = lambda directory: times() == 1
sys.exit(supervisor.run(sys.argv[1]))
""",
        tmp_path,
    )
    said = 2 * "signal SIGTERM\n" + "2 True\n"
    assert (found.returncode, found.stdout, found.stderr) == (0, said, "")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (control.PROGRAM_ENDED, "program-ended"),
        (control.STOPPED, "stopped"),
        (signal.SIGINT, "ctrl-c"),
        (signal.SIGHUP, "signal SIGHUP"),
        (signal.SIGTERM, "signal SIGTERM"),
    ],
)
@pytest.mark.parametrize("when", ["at work", "beginning"])
def test_the_end_is_told_by_who_wanted_it(
    tmp_path: Path, number: int, reason: str, when: str
) -> None:
    tell = f"os.kill(os.getppid(), {int(number)})"
    found = run(
        f"""
def finish(loop, check):
    if {when == "at work"}:
        {tell}
    until = time.monotonic() + 20
    while not loop.stopped:
        assert time.monotonic() < until
        time.sleep(0.01)
if {when == "beginning"}:
    # In the moment of its birth, before it can be told.
    work = supervisor._Supervisor._work
    def told(self, *args, **more):
        {tell}
        time.sleep(0.3)
        work(self, *args, **more)
    supervisor._Supervisor._work = told
setup.follow_name = lambda directory: False
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.exit(supervisor.run(sys.argv[1]))
""",
        tmp_path,
    )
    assert (found.returncode, found.stdout) == (0, f"{reason}\n"), found.stderr
    assert found.stderr.count("\n") == (number == signal.SIGINT), found.stderr


def test_what_it_waits_for_is_said_again_and_less_and_less_often(tmp_path: Path) -> None:
    found = run(
        """
import logging
logging.basicConfig(format="%(message)s")
from vine_sharedport.factory.manager_view import lookup as target
target.still_waiting = lambda options: "still waiting"
supervisor._SAY_AGAIN, supervisor._SAY_AGAIN_MOST = 0.05, 0.1
setup.follow_name = lambda directory: False
began = time.monotonic()
def finish(loop, check):
    while time.monotonic() < began + 1:
        check()
        time.sleep(0.005)
sys.exit(supervisor.run(sys.argv[1]))
""",
        tmp_path,
    )
    assert found.returncode == 0
    assert 5 < found.stderr.count("still waiting\n") < 13
