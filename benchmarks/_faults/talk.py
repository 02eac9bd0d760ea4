"""Questions to a child program and its answers, as lines of JSON over a socket pair."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

CREW = "crew"
"""The feature that the stream's tasks ask for: others leave a new worker free."""

_ANSWER_TIMEOUT = 120.0


class Child:
    """A program of this package in a process of its own; ends with ``stop()``.

    Args:
        program: Module file in this directory, without ``.py``.
        settings: Given to it as JSON.
        cwd: Where it runs; its messages go to PROGRAM.log there.
    """

    def __init__(self, program: str, settings: Mapping[str, Any], cwd: Path) -> None:
        ours, theirs = socket.socketpair()
        self.program = program
        self.log = cwd / f"{program}.log"
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with theirs, open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", str(HERE / f"{program}.py"),
                 str(theirs.fileno()), json.dumps(settings)],
                pass_fds=(theirs.fileno(),), cwd=cwd, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, env=dict(os.environ, PYTHONPATH=path),
            )  # fmt: skip
        self._sock = ours
        self._sock.settimeout(_ANSWER_TIMEOUT)
        self._lines = ours.makefile("r", encoding="utf-8")
        self.hello = self._read()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self.process.pid

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send an order and return the answer."""
        self._sock.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
        return self._read()

    def stop(self) -> None:
        """End the program and wait for it. Idempotent."""
        if self.process.poll() is None:
            self._sock.shutdown(socket.SHUT_WR)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._lines.close()
        self._sock.close()

    def _read(self) -> Any:
        line = self._lines.readline()
        if not line:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.program} has ended:\n{tail}")
        return json.loads(line)


class Orders:
    """The child's side."""

    def __init__(self) -> None:
        self._sock = socket.socket(fileno=int(sys.argv[1]))
        # Not for the grandchildren, which outlive an order to stop.
        self._sock.set_inheritable(False)
        self.settings: dict[str, Any] = json.loads(sys.argv[2])
        self._buffer = b""
        self.ended = False

    def answer(self, content: Any) -> None:
        """Send an answer, or at the start the greeting."""
        self._sock.sendall(json.dumps(content).encode() + b"\n")

    def read(self, timeout: float) -> Iterator[dict[str, Any]]:
        """Yield the orders that have come; wait for the first."""
        if not select.select([self._sock], [], [], timeout)[0]:
            return
        data = self._sock.recv(65536)
        self.ended = not data
        self._buffer += data
        while b"\n" in self._buffer:
            line, self._buffer = self._buffer.split(b"\n", 1)
            yield json.loads(line)
