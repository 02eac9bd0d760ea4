"""A user's mistake, the message about it, and the next step that the message prints.

``Terminal.mistake`` makes the mistake by a shell, as a user does, and holds what every message
promises; ``Message.next_step`` takes the command out of it, verbatim, and ``Terminal.paste``
runs that.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

MAX_LINES = 4
MAX_WIDTH = 400  # with an address and two paths in it, each long in a test's directory

# What a worker says for itself.
_WORKER = re.compile(
    r"(vine_worker|work_queue_worker): |connected to manager|disconnected from manager"
    r"|Unable to detect CPUs|couldn't connect to |\d{4}[/-]\d\d[/-]\d\d "
)
# What a message of ours starts with: a log's line, a usage error, the launcher.
_OURS = re.compile(r"(vine_sharedport(?: [a-z]+)*: |Using |using )")
_PROGRAMS = r"(?:vine_sharedport(?: [a-z]+)*(?= )|python3?|eval|chmod|mkdir|condor_\w+|kill) "
_IN_QUOTES = re.compile(rf"'({_PROGRAMS}[^'\n]*)'")
_TO_THE_END = re.compile(rf"(?:^|(?<=: ))\s*({_PROGRAMS}.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Message:
    """What a command has said.

    Attributes:
        text: All of it, stdout and stderr as they came.
        status: Its exit status; negative for a signal, None if it still ran at the end.
    """

    text: str
    status: int | None

    @property
    def messages(self) -> list[list[str]]:
        """The lines of each message of ours; the worker's own are left out."""
        found: list[list[str]] = []
        for line in self.text.splitlines():
            if not line.strip() or _WORKER.match(line):
                continue
            if _OURS.match(line) or not found:
                found.append([])
            found[-1].append(line)
        return found

    def check(self) -> Message:
        """Assert what holds for every message; return it."""
        assert "Traceback" not in self.text, self.text
        for lines in self.messages:
            assert len(lines) <= MAX_LINES, self.text
            assert all(len(line) <= MAX_WIDTH for line in lines), self.text
        said = Counter(
            clause
            for lines in self.messages
            for line in lines
            for clause in re.split(r"[.;:] ", line)
            if len(clause) > 30
        )
        twice = [clause for clause, count in said.items() if count > 1]
        assert not twice, f"said twice: {twice} in\n{self.text}"
        return self

    @property
    def commands(self) -> list[str]:
        """Every command that is printed to be pasted, in the order of their places.

        One that has no quotes in it stands in quotes, or else it goes on to the line's end: at
        the line's start, or after a colon.
        """
        ours = "\n".join(line for lines in self.messages for line in lines)
        found = {match.start(1): match[1] for match in _IN_QUOTES.finditer(ours)}
        for match in _TO_THE_END.finditer(ours):
            found.setdefault(match.start(1), match[1])
        return [found[place].rstrip() for place in sorted(found)]

    def next_step(self, which: int = -1) -> str:
        """Return the command to paste, the last one by default; verbatim."""
        assert self.commands, f"no command to paste in\n{self.text}"
        return self.commands[which]


class Terminal:
    """A shell of a user, in a directory, with ``vine_sharedport`` on its PATH.

    Args:
        directory: Where it is; the command is put there in ``bin``.
        variables: Environment variables to add; None removes one.
    """

    def __init__(self, directory: Path, **variables: str | None) -> None:
        self.directory = directory
        ours = directory / "bin" / "vine_sharedport"
        ours.parent.mkdir(exist_ok=True)
        ours.write_text(f'#!/bin/sh\nexec {sys.executable} -m vine_sharedport "$@"\n')
        ours.chmod(0o755)
        path = f"{ours.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        found: dict[str, str | None] = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
        found.update(variables)
        self.environment = {name: value for name, value in found.items() if value is not None}

    def start(self, text: str) -> subprocess.Popen[str]:
        """Start a shell's line; it has a process group of its own for ``end``."""
        return subprocess.Popen(
            ["sh", "-c", text], cwd=self.directory, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def end(self, process: subprocess.Popen[str], *, timeout: float = 20) -> Message:
        """Let it end by itself for so long, then press Ctrl-C; return what it said."""
        try:
            text, _ = process.communicate(timeout=timeout)
            return Message(text, process.returncode)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
        try:
            text, _ = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            text, _ = process.communicate()
        return Message(text, None)

    def run(self, text: str, *, timeout: float = 60) -> Message:
        """Run a line of a shell."""
        message = self.end(self.start(text), timeout=timeout)
        if "unable to find a port to start a transfer server" in message.text:
            # vine_worker's own: two that start at once may choose the same port.
            message = self.end(self.start(text), timeout=timeout)
        return message

    def mistake(self, text: str, *, timeout: float = 60) -> Message:
        """Run a line that is wrong; assert that it fails or warns, and how it says so."""
        message = self.run(text, timeout=timeout).check()
        assert message.status is not None, f"still runs after {timeout} s:\n{message.text}"
        assert message.status != 0 or message.messages, f"no word of it: {text}"
        return message

    def paste(self, text: str, *, timeout: float = 60) -> Message:
        """Run a printed next step; assert that it succeeds."""
        message = self.run(text, timeout=timeout)
        assert message.status == 0, f"{text}\nended with {message.status}:\n{message.text}"
        assert "Traceback" not in message.text, message.text
        return message
