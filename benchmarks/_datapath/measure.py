"""Blocks of work for one worker, and how long a manager takes for each."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vine_sharedport as vine

MIB = 2**20
_PATIENCE = 120.0  # seconds without the end of a task, after which something is broken


@dataclass
class Sample:
    """What one route did in one round.

    Attributes:
        blocks: For each block of it, how much was done, in tasks or bytes, and the seconds.
        cpu: Processor seconds of the programs meanwhile, by name.
    """

    blocks: list[tuple[int, float]] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def work(self) -> int:
        """All tasks, or all bytes."""
        return sum(work for work, _ in self.blocks)

    @property
    def rate(self) -> float:
        """Work in a second: of the blocks the median.

        Now and then a transfer takes three times as long, by every route, since the
        kernel has to find memory for the file.
        """
        return statistics.median(work / seconds for work, seconds in self.blocks)

    @contextlib.contextmanager
    def count_cpu(self, pids: dict[str, int]) -> Iterator[None]:
        """Add the processor time that the programs use in the block."""
        before = {name: _cpu_seconds(pid) for name, pid in pids.items()}
        yield
        for name, pid in pids.items():
            used = _cpu_seconds(pid) - before[name]
            self.cpu[name] = self.cpu.get(name, 0.0) + used


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of a process's threads, without that of its children."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    return total / 1e9


class Bench:
    """Gives a manager work for the worker with one feature, and waits for its end.

    Args:
        manager: A TaskVine manager.
        directory: Where the input lies and outputs are put.
        input_file: What is put; bytes that nobody has seen before.
        size: Of the input and of outputs, in bytes.
    """

    def __init__(self, manager: Any, directory: Path, input_file: Path, size: int) -> None:
        self.manager = manager
        self._output = directory / "output"
        self._input = input_file
        self._size = size

    def tasks(self, feature: str, count: int, sample: Sample) -> None:
        """Run tasks that do nothing.

        The time goes from the last one's being submitted, when none has been sent yet,
        until the manager has given back the last one.
        """
        for _ in range(count):
            self._submit(":", feature)
        begun = time.monotonic()
        for _ in range(count):
            self._wait(feature)
        sample.blocks.append((count, time.monotonic() - begun))

    def put(self, feature: str, sample: Sample) -> None:
        """Send one large file.

        The manager's own times: from its turning to the task until its task, which can
        only begin when the worker has the whole file, is over. Not until the last byte
        is sent: many are under way then, and more so with a relay's buffers.
        """
        file = self.manager.declare_file(str(self._input), cache=False)
        task = self._task(":", feature)
        task.add_input(file, "input")
        self.manager.submit(task)
        task = self._wait(feature)
        took = task.get_metric("time_when_retrieval") - task.get_metric(
            "time_when_commit_start"
        )
        self._add(sample, took, task.get_metric("bytes_sent"), feature)
        self.manager.undeclare_file(file)

    def get(self, feature: str, sample: Sample) -> None:
        """Receive one large file.

        The manager's own times, from its asking for the task's output until it has it.
        The file is a hole, which costs the worker least to read.
        """
        file = self.manager.declare_file(str(self._output), cache=False)
        task = self._task(f"truncate -s {self._size} output", feature)
        task.add_output(file, "output")
        self.manager.submit(task)
        task = self._wait(feature)
        took = task.get_metric("time_when_done") - task.get_metric("time_when_retrieval")
        self._add(sample, took, task.get_metric("bytes_received"), feature)
        if self._output.stat().st_size != self._size:
            raise RuntimeError(f"the output has {self._output.stat().st_size} bytes")
        self.manager.undeclare_file(file)

    def _add(self, sample: Sample, microseconds: int, moved: int, feature: str) -> None:
        if moved < self._size:
            raise RuntimeError(f"{feature}: only {moved} of {self._size} bytes were moved")
        sample.blocks.append((self._size, microseconds / 1e6))

    def _task(self, command: str, feature: str) -> Any:
        task = vine.Task(command)
        task.set_cores(1)
        task.add_feature(feature)
        return task

    def _submit(self, command: str, feature: str) -> None:
        self.manager.submit(self._task(command, feature))

    def _wait(self, feature: str) -> Any:
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            task = self.manager.wait(5)
            if task is not None:
                if not task.successful():
                    raise RuntimeError(f"a task by {feature} failed: {task.result}")
                return task
        raise RuntimeError(f"no task by {feature} ended within {_PATIENCE:g} s")
