"""A manager as its porter knows it, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.unit import helpers
from vine_sharedport.serving.counters import Counters, Gauge
from vine_sharedport.serving.porter import Settings
from vine_sharedport.serving.porter_handle import PorterHandle


class Manager:
    """Opens a handle as a manager does, and takes clients in its loop."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.path = str(directory / "vine_1")
        self.log_file = directory / "porter.log"
        settings.setdefault("log_file", str(self.log_file))
        self.handle = PorterHandle(Settings("vine_1", str(directory), **settings))

    @property
    def pid(self) -> int:
        """The porter's."""
        assert self.handle.pid is not None
        return self.handle.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def counters(self) -> Counters:
        return self.handle.counters

    def turn(self) -> socket.socket | None:
        """Do what the manager's loop does when it comes by."""
        if not select.select([self.handle], [], [], 0)[0]:
            return None
        fd = self.handle.receive()
        return None if fd is None else socket.socket(fileno=fd)

    def take(self) -> socket.socket:
        """Turn until a client comes."""
        return helpers.wait_until(self.turn)

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End the porter, wait until another one serves, and return the old pid."""
        before, starts = self.pid, self.counters[Gauge.STARTS]
        os.kill(before, number)
        helpers.wait_until(lambda: self.turn() or self.counters[Gauge.STARTS] > starts)
        helpers.wait_until(self.is_served)
        return before

    def is_served(self) -> bool:
        try:
            helpers.connect_unix(self.path).close()
        except OSError:
            return False
        return True


@contextlib.contextmanager
def program(program: str, *arguments: str, **kwargs: Any) -> Iterator[Any]:
    process = subprocess.Popen(
        helpers.python_command(program, *arguments),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **kwargs,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def waits_for_events(pid: int) -> bool:
    """Whether the process is well past its start."""
    with contextlib.suppress(OSError):
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
        return comm == "vine_porter" and helpers.state_of(pid) == "S"
    return False
