"""What stands above a manager's program in a job: its status, its signals, its end."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vine_sharedport.condor.manager_job import runner


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(text: str, *, grace: str = "60", kind: str = "file") -> subprocess.Popen[str]:
    """Run a program as its job does, from a line that it prints on."""
    Path("program.py").write_text(textwrap.dedent(text))
    name = "program.py" if kind == "file" else "program"
    process = subprocess.Popen(
        [sys.executable, "-u", runner.__file__, grace, kind, name, "a b"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    return process


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    with process:  # little is printed, and some of it may be in a buffer
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.read() + process.stderr.read()
    return process.returncode, said


@pytest.mark.parametrize("kind", ["file", "module"])
def test_the_program_is_run_as_python_would_and_its_status_is_the_jobs(kind: str) -> None:
    process = start(
        """
        import os, sys
        print("there")
        assert sys.path[0] == os.getcwd(), sys.path
        assert os.path.basename(sys.argv[0]) == "program.py" and sys.argv[1:] == ["a b"]
        assert __name__ == "__main__"
        sys.exit(3)
        """,
        kind=kind,
    )
    assert end_of(process) == (3, "")


def test_sigterm_lets_the_program_clean_up() -> None:
    process = start(
        """
        import time
        try:
            print("there")
            time.sleep(60)
        finally:
            print("cleaned up")
        """
    )
    process.send_signal(signal.SIGTERM)
    assert end_of(process) == (128 + signal.SIGTERM, "cleaned up\n")


def test_a_handler_of_the_programs_own_stays() -> None:
    process = start(
        """
        import signal, sys
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        print("there")
        signal.pause()
        """
    )
    process.send_signal(signal.SIGTERM)
    assert end_of(process) == (7, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_other_signals_are_passed_on_and_end_the_job_as_the_program(number: int) -> None:
    process = start(
        """
        import signal
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        print("there")
        signal.pause()
        """
    )
    process.send_signal(number)
    assert end_of(process) == (-number, "")


def test_who_is_not_gone_in_time_is_killed_and_that_is_said() -> None:
    process = start(
        """
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("there")
        while True:
            signal.pause()
        """,
        grace="0.2",
    )
    process.send_signal(signal.SIGTERM)
    status, said = end_of(process)
    assert status == -signal.SIGKILL
    assert "0.2 s" in said


def test_a_child_of_the_program_ends_by_the_signal_itself() -> None:
    process = start(
        """
        import os, signal
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, b"x")  # not before Python has done with the fork
            while True:
                signal.pause()
        os.read(reader, 1)
        print("there")
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        print(os.WTERMSIG(status))
        """
    )
    assert end_of(process) == (0, f"{int(signal.SIGTERM)}\n")
