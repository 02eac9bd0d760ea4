"""A factory's process, from outside: started, told to end, its environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vine_sharedport import environment
from vine_sharedport.errors import LaunchError
from vine_sharedport.factory import control
from vine_sharedport.factory.report import paths

# Somebody who has the lock of a directory, and whom its status names.
HOLDER = """
import signal, sys, time
from vine_sharedport.factory.report import paths as files
from vine_sharedport.factory.report.record import ManagerReport, WorkerCounts
from vine_sharedport.factory.report.snapshot import Snapshot
def hold(directory, pid):
    files.write_status(directory, Snapshot(
        time=time.time(), factory="f" * 32, pid=pid, state="running", message="",
        directory=directory, manager=ManagerReport(address=None), min_workers=0,
        max_workers=1, needed=0, submitted=0, workers=WorkerCounts(),
    ))
    print("there", flush=True)
    signal.pause()
"""


def test_the_process_does_not_decide_anew_which_htcondor_is_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # An own pool that is started later, beside the system's HTCondor, is not its factory's.
    monkeypatch.delenv(environment.OWN_POOL, raising=False)
    assert control.environment()[environment.OWN_POOL] == "no"


def test_a_factory_that_is_suspended_ends_when_it_is_told(tmp_path: Path) -> None:
    directory = str(tmp_path)
    program = "\nimport os\nfiles.lock_directory(sys.argv[1])\nhold(sys.argv[1], os.getpid())"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER + program, directory],
        env=control.environment(), stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "there\n"
            holder.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
            assert control.terminate(directory, timeout=20)
            assert holder.wait(20) == -signal.SIGTERM
        finally:
            holder.kill()
    assert not paths.is_running(directory)


def test_the_process_has_the_working_directory_it_is_given_if_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        control,
        "command",
        lambda *_, **__: [sys.executable, "-c", "import os; print(os.getcwd())"],
    )
    here = tmp_path / "here"
    here.mkdir()
    for cwd in (str(here), str(tmp_path / "gone"), None):
        assert control.spawn(str(tmp_path), owner=None, cwd=cwd).wait(60) == 0
    said = (tmp_path / paths.LOG).read_text().split()
    assert said == [str(here), os.getcwd(), os.getcwd()]


def test_one_that_does_not_begin_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"2.*\n.*config\.json"):
        control.start(str(tmp_path))
