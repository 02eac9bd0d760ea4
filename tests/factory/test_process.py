"""The two processes of a factory; no pool is needed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from vine_sharedport.factory import files, process

# Somebody who has the lock of a directory, and whom its status names.
HOLDER = """
import signal, sys, time
from vine_sharedport.factory import files
from vine_sharedport.factory.report import ManagerReport, Snapshot, WorkerCounts
def hold(directory, pid):
    files.write_status(directory, Snapshot(
        time=time.time(), factory="f" * 32, pid=pid, state="running", message="",
        directory=directory, manager=ManagerReport(address=None), min_workers=0,
        max_workers=1, needed=0, submitted=0, workers=WorkerCounts(),
    ))
    print("there", flush=True)
    signal.pause()
"""


def test_a_factory_that_is_suspended_ends_when_it_is_told(tmp_path: Path) -> None:
    directory = str(tmp_path)
    program = "\nimport os\nfiles.lock_directory(sys.argv[1])\nhold(sys.argv[1], os.getpid())"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER + program, directory],
        env=process.environment(), stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "there\n"
            holder.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
            assert process.terminate(directory, timeout=20)
            assert holder.wait(20) == -signal.SIGTERM
        finally:
            holder.kill()
    assert not files.is_running(directory)


def test_one_that_has_found_its_manager_begins_anew_and_that_is_no_crash(
    tmp_path: Path,
) -> None:
    times = process._CRASHES + 2
    program = f"""
import sys
from pathlib import Path
from types import SimpleNamespace
from vine_sharedport.factory import loop, process, setup
made = Path(sys.argv[1], "made")

class Loop:
    is_waiting, options = True, SimpleNamespace(cycle=0.0)
    def __init__(self, *_, **__):
        with open(made, "a") as file:
            file.write("x")
    def run(self, *, check, ending):
        check()

loop.Loop = Loop
setup.follow_name = lambda directory: len(made.read_text()) < {times}
sys.exit(process.run(sys.argv[1]))
"""
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=process.environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")
    assert (tmp_path / "made").read_text() == "x" * times
