"""The live view: in a terminal in its place, elsewhere in plain lines; with rich or not."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.record import ManagerReport
from vine_sharedport.factory.report.snapshot import Snapshot

ROOT = Path(__file__).parents[3]

SNAPSHOT = Snapshot(
    time=1000.0, factory="f" * 32, pid=7, state="running", message="first", directory="/x",
    manager=ManagerReport(address="<192.0.2.7:9618?sock=vine_42>" + "&long" * 50, name="sweep"),
)  # fmt: skip


class Screen:
    """As much of a terminal as the view uses: what stands in its lines at the end."""

    def __init__(self, columns: int, height: int) -> None:
        self.columns, self.height = columns, height
        self.lines, self.row, self.column, self.scrolled = [""], 0, 0, 0

    def feed(self, text: str) -> None:
        for up, sequence, control, letters in re.findall(
            r"\x1b\[(\d+)A|(\x1b\[[KJ])|([\r\n])|([^\x1b\r\n]+)", text
        ):
            if up:
                self.row, self.column = max(0, self.row - int(up)), self.column
            elif sequence:
                self.lines[self.row] = self.lines[self.row][: self.column]
                if sequence.endswith("J"):
                    del self.lines[self.row + 1 :]
            elif control == "\r":
                self.column = 0
            elif control:
                self.row += 1
                if self.row == len(self.lines):
                    self.lines.append("")
                self.scrolled = max(self.scrolled, self.row + 1 - self.height)
            else:
                assert self.column + len(letters) < self.columns, letters
                line = self.lines[self.row].ljust(self.column)
                end = self.column + len(letters)
                self.lines[self.row] = line[: self.column] + letters + line[end:]
                self.column = end


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path)
    lock = paths.lock_directory(path)  # as if a factory ran there
    assert lock is not None
    paths.write_status(path, dataclasses.replace(SNAPSHOT, time=time.time()))
    yield path
    os.close(lock)


@contextlib.contextmanager
def watching(
    directory: str,
    tmp_path_factory: pytest.TempPathFactory,
    *,
    rich: bool,
    size: tuple[int, int],
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[str], str]]]:
    """Watch in a terminal; gives the process, and what reads until it shows a text."""
    hidden = tmp_path_factory.mktemp("hidden")
    if not rich:
        (hidden / "rich.py").write_text("raise ImportError('no rich')\n")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", size[1], size[0], 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    environment.update(TERM="xterm", PYTHONPATH=f"{hidden}:{ROOT}")
    process = subprocess.Popen(
        [sys.executable, "-m", "vine_sharedport", "factory", "status", directory,
         "--watch", "--interval", "0.1"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = bytearray()

    def read_until(text: str | None) -> str:
        """Return all that was shown, when a text is there; None: at the end."""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while text is None or text not in shown.decode():
                more = os.read(ours, 1 << 16)
                if not more:
                    break
                shown.extend(more)
        return shown.decode()

    try:
        yield process, read_until  # type: ignore[misc]
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("rich", [True, False])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_redraws_in_place_until_a_signal_and_leaves_the_cursor_shown(
    directory: str, tmp_path_factory: Any, rich: bool, number: int
) -> None:
    if rich:
        pytest.importorskip("rich")
    with watching(directory, tmp_path_factory, rich=rich, size=(200, 50)) as (process, read):
        read("first")
        changed = dataclasses.replace(SNAPSHOT, message="second", time=time.time())
        paths.write_status(directory, changed)
        read("second")
        process.send_signal(number)
        shown = read(None)
        status = process.wait(20)
    assert status == (0 if number == signal.SIGINT else 128 + signal.SIGTERM)
    assert "Traceback" not in shown
    assert "\x1b[" in shown
    assert shown.rfind("\x1b[?25h") >= shown.rfind("\x1b[?25l"), "the cursor is hidden"
    if not rich:
        screen = Screen(200, 50)
        screen.feed(shown)
        assert [line for line in screen.lines if "running:" in line] == [
            "factory ffffffff running: second"
        ]
        assert sum("limits" in line for line in screen.lines) == 1
        assert screen.lines[-1] == ""


def test_without_rich_it_fits_into_a_small_terminal_and_ends_with_the_factory(
    directory: str, tmp_path_factory: Any
) -> None:
    with watching(directory, tmp_path_factory, rich=False, size=(40, 5)) as (process, read):
        read("first")
        nasty = dataclasses.replace(SNAPSHOT, message="a\x1b[2Jb", time=time.time())
        paths.write_status(directory, nasty)
        read("a?[2Jb")
        ended = dataclasses.replace(SNAPSHOT, state="ended", message="done", time=time.time())
        paths.write_status(directory, ended)
        shown = read(None)
        assert process.wait(20) == 0
    screen = Screen(40, 5)
    screen.feed(shown)
    assert screen.lines[0] == "factory ffffffff ended: done"
    assert len(screen.lines) == 5
    assert screen.scrolled == 0


def test_to_a_pipe_it_writes_plain_lines_and_only_what_is_new(directory: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "vine_sharedport", "factory", "status", directory,
         "--watch", "--interval", "0.1"],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process:
        first = process.stdout.readline()
        assert first == "factory ffffffff running: first\n"
        for at in (1, 2, 3):  # it is written in each cycle
            paths.write_status(directory, dataclasses.replace(SNAPSHOT, time=time.time() + at))
            time.sleep(0.2)
        ended = dataclasses.replace(SNAPSHOT, state="ended", message="done")
        paths.write_status(directory, ended)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert "\x1b" not in rest
    assert rest.count("factory ffffffff") == 1
    assert "factory ffffffff ended: done\n" in rest


def test_a_factory_that_was_killed_is_told(tmp_path: Path) -> None:
    paths.write_status(str(tmp_path), SNAPSHOT)
    lock = paths.lock_directory(str(tmp_path))
    assert lock is not None
    os.close(lock)
    found = subprocess.run(
        [sys.executable, "-m", "vine_sharedport", "factory", "status", tmp_path, "--watch"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert found.returncode == 1
    assert found.stdout.count("The factory's process is gone; start it again") == 1
