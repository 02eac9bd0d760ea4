"""A manager with a shared port and an endless stream of short tasks, as a program."""

from __future__ import annotations

import os
import random
import time
from typing import Any

from talk import CREW, Orders


class _TaskVine:
    """What is called differently in TaskVine and Work Queue."""

    def __init__(self, tls: bool) -> None:
        import vine_sharedport as vine

        self._vine = vine
        options = {"ssl": True} if tls else {}
        self.manager = vine.Manager(0, shared_port=True, run_info_path="run-info", **options)

    def task(self, command: str, feature: str) -> Any:
        task = self._vine.Task(command)
        task.set_cores(1)
        task.add_feature(feature)
        return task

    @staticmethod
    def verdict(task: Any) -> tuple[bool, str]:
        return task.successful(), str(task.output).strip()

    @staticmethod
    def number(task: Any) -> int:
        return int(task.id)


class _WorkQueue:
    def __init__(self, tls: bool) -> None:
        import vine_sharedport.work_queue as wq

        self._wq = wq
        self.manager = wq.WorkQueue(0, shared_port=True, **({"ssl": True} if tls else {}))

    def task(self, command: str, feature: str) -> Any:
        task = self._wq.Task(command)
        task.specify_cores(1)
        task.specify_feature(feature)
        return task

    @staticmethod
    def verdict(task: Any) -> tuple[bool, str]:
        return task.result == 0 and task.return_status == 0, str(task.output).strip()

    @staticmethod
    def number(task: Any) -> int:
        return int(task.id)


class _Stream:
    """Submits tasks, keeps count of them and of the pauses between their ends."""

    def __init__(self, system: Any, depth: int, seconds: float) -> None:
        self._system = system
        self._depth = depth
        self._seconds = seconds
        self.paused = False
        self._count = 0
        self._out: dict[int, tuple[int, str]] = {}
        self._failed: list[str] = []
        self.special: dict[str, float] = {}
        self._ends: list[float] = [time.monotonic()]
        self._random = random.Random(1)

    def fill(self) -> None:
        while (
            not self.paused
            and sum(name == CREW for _, name in self._out.values()) < self._depth
        ):
            # Of unequal length, or they would end in waves.
            self.submit(self._seconds * self._random.uniform(0.5, 1.5))

    def submit(self, seconds: float, feature: str = CREW) -> None:
        self._count += 1
        command = f"sleep {seconds:.2f}; echo {self._count}"
        task = self._system.task(command, feature)
        self._out[int(self._system.manager.submit(task))] = (self._count, feature)

    def take(self, task: Any) -> None:
        now = time.monotonic()
        number, feature = self._out.pop(self._system.number(task))
        well, output = self._system.verdict(task)
        if not well or output != str(number):
            self._failed.append(f"task {number}: {task.result} {output[:80]!r}")
        elif feature != CREW:
            self.special[feature] = now
        self._ends.append(now)

    def report(self) -> dict[str, Any]:
        pauses = [(a, b - a) for a, b in zip(self._ends, self._ends[1:]) if b - a > 0.05]
        content = {
            "submitted": self._count,
            "ended": len(self._ends) - 1,
            "out": sorted(number for number, _ in self._out.values()),
            "failed": self._failed,
            "pauses": pauses,
        }
        self._failed = []
        self._ends = self._ends[-1:]
        return content


def main() -> None:
    orders = Orders()
    settings = orders.settings
    system: Any = (_WorkQueue if settings["system"] == "work_queue" else _TaskVine)(
        settings["tls"]
    )
    manager = system.manager
    link = manager.shared_port
    stream = _Stream(system, settings["depth"], settings["task_seconds"])

    def state() -> dict[str, Any]:
        counters = link.counters
        return {
            "address": str(link.address),
            "secret_file": os.path.abspath(link.secret_file),
            "port": manager.port,
            "porter_pid": link.porter_pid,
            "by_shared_port": counters.accepted,
            "by_tcp": counters.by_tcp,
            "pending": counters.pending,
            "refused": counters.refused,
            "workers": manager.stats.workers_connected,
        }

    orders.answer(state())
    while not orders.ended:
        stream.fill()
        task = manager.wait(1)
        if task is not None:
            stream.take(task)
        for order in orders.read(0):
            if order["do"] == "submit":
                stream.submit(order["seconds"], order["feature"])
                orders.answer({})
            elif order["do"] == "tasks_of":
                orders.answer(stream.special.get(order["feature"]))
            elif order["do"] == "pause":
                stream.paused = order["on"]
                orders.answer({})
            elif order["do"] == "tasks":
                orders.answer(stream.report())
            else:
                orders.answer(state())
    manager._free()


if __name__ == "__main__":
    main()
