"""Temp files that come back to the manager, and the tasks held back until they are there.

With transfers between workers switched off, TaskVine makes a temp a file of the manager's. A
task that needs one is sent out as soon as a worker has announced the file, which may be before
the manager has it, and then fails for want of it (7.14), or is never sent if there will be no
such file. So such a task gets a start time far ahead, which the manager itself keeps: it waits,
is counted, found and cancelled as any other. When the file is there the task gets its own
start time back.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Temp", "Temps", "note_inputs", "note_outputs", "temps_of"]

log = logging.getLogger(__name__)

# Microseconds of the Unix time that no run reaches; below 2**63, rounded up too.
_NEVER = 1 << 62
# ``Task.state`` of one that may still make its files. The others are RETRIEVED and DONE.
_UNDER_WAY = {"INITIAL", "READY", "RUNNING", "WAITING_RETRIEVAL"}
# Seconds between two looks at tasks that have ended and that nobody has waited for.
_LOOK_INTERVAL = 0.5

_INPUTS, _OUTPUTS = "_shared_port_inputs", "_shared_port_outputs"


@dataclass(eq=False)
class Temp:
    """One temp.

    Attributes:
        path: Where the manager has it, when it is made.
        is_made: It is there.
        makers: Tasks that make it: submitted, and not returned yet.
        held: Tasks that wait for it, by the ``id()`` of each.
    """

    path: str
    is_made: bool = False
    makers: list[Any] = field(default_factory=list)
    held: dict[int, _Held] = field(default_factory=dict)

    def look(self) -> bool:
        """Whether it is made by now. The file alone is no sign: half of one is one, too."""
        if not self.is_made and any(task.state not in _UNDER_WAY for task in self.makers):
            self.is_made = os.path.lexists(self.path)
        return self.is_made

    @property
    def has_hope(self) -> bool:
        """Whether a task may still make it."""
        return any(task.state in _UNDER_WAY for task in self.makers)


@dataclass(eq=False)
class _Held:
    """A task that waits for temps; its own start time, in seconds, or less than 1."""

    task: Any
    missing: set[Temp]
    start: float
    is_cancelled: bool = False


def temps_of(thing: Any) -> tuple[Temp, ...]:
    """Return the temps that a file is, or is made of, or that a task needs."""
    found: tuple[Temp, ...] = getattr(thing, _INPUTS, ())
    return found


def note_inputs(thing: Any, temps: Iterable[Temp]) -> None:
    """Remember the temps that a file is, or is made of, or that a task needs."""
    _note(thing, _INPUTS, temps)


def note_outputs(task: Any, temps: Iterable[Temp]) -> None:
    """Remember the temps that a task makes."""
    _note(task, _OUTPUTS, temps)


def _note(thing: Any, name: str, temps: Iterable[Temp]) -> None:
    # A new tuple each time: a clone of a task has the first one's.
    noted = dict.fromkeys((*getattr(thing, name, ()), *temps))
    if noted:
        setattr(thing, name, tuple(noted))


class Temps:
    """The temps of one manager. Does not hold the manager itself, which ends by its count."""

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}
        self._awaited: dict[Temp, None] = {}
        self._unmade: set[Temp] = set()
        self._looked = 0.0

    @property
    def holds(self) -> bool:
        """Whether a task is held back."""
        return bool(self._held)

    def submitted(self, task: Any) -> None:
        """Take note of a task that the manager has just got; hold it back if it must wait."""
        for temp in getattr(task, _OUTPUTS, ()):
            temp.makers.append(task)
            self._unmade.discard(temp)
        missing = {temp for temp in temps_of(task) if not temp.look()}
        if not missing:
            return
        held = _Held(task, missing, task.resources_requested.start)
        task.set_time_start(_NEVER)
        self._held[id(task)] = held
        for temp in missing:
            temp.held[id(task)] = held
            self._awaited[temp] = None

    def before_wait(self, manager: Any) -> None:
        """Give up temps whose task has failed and was not submitted again since."""
        unmade, self._unmade = self._unmade, set()
        for temp in unmade:
            if not temp.makers:
                self._give_up(manager, temp)
        self.look(manager)

    def look(self, manager: Any) -> None:
        """Let those go whose temps are there, also of tasks that nobody has waited for."""
        now = time.monotonic()
        if now < self._looked + _LOOK_INTERVAL:
            return
        self._looked = now
        for temp in list(self._awaited):
            if temp.look():
                self._let_go(temp)
            elif temp.makers and not temp.has_hope:
                self._give_up(manager, temp)

    def returned(self, task: Any) -> None:
        """Take note of a task that has come back to the program."""
        held = self._held.pop(id(task), None)
        if held is not None:  # cancelled, or its time has run out
            self._restore(held)
            for temp in held.missing:
                temp.held.pop(id(task), None)
        for temp in getattr(task, _OUTPUTS, ()):
            temp.look()
            if task in temp.makers:
                temp.makers.remove(task)
            if temp.is_made:
                self._let_go(temp)
            elif temp.held and not temp.makers:
                self._unmade.add(temp)

    def _let_go(self, temp: Temp) -> None:
        """Let the manager send the tasks that have waited for this one alone."""
        self._awaited.pop(temp, None)
        for key, held in list(temp.held.items()):
            held.missing.discard(temp)
            if not held.missing and self._held.pop(key, None) is not None:
                self._restore(held)
        temp.held.clear()

    @staticmethod
    def _restore(held: _Held) -> None:
        held.task.set_time_start(int(held.start * 1_000_000) if held.start > 0 else 0)

    def _give_up(self, manager: Any, temp: Temp) -> None:
        """Cancel the tasks that would wait for ever; they come back as cancelled."""
        self._awaited.pop(temp, None)
        for held in list(temp.held.values()):
            if not held.is_cancelled:
                held.is_cancelled = True
                log.warning(
                    "task %s is cancelled: it needs a temp that no task will make, as the one "
                    "that should have has ended without it",
                    held.task.id,
                )
                manager.cancel_by_task_id(held.task.id)
