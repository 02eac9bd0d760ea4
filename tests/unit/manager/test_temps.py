"""Tasks wait for temps, whatever the order in which files and tasks come and go."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vine_sharedport.manager import temps as temps_module
from vine_sharedport.manager.temps import Temp, Temps, note_inputs, note_outputs

SEED = random.randrange(1 << 32)


class Task:
    """What is used of a stock task."""

    def __init__(self, number: int, start: float = -1.0) -> None:
        self.id = number
        self.state = "READY"
        self.resources_requested = SimpleNamespace(start=start)

    def set_time_start(self, microseconds: int) -> None:
        assert -(1 << 63) <= microseconds + 999_999 < 1 << 63
        self.resources_requested.start = -(-microseconds // 1_000_000) or -1.0

    @property
    def is_held(self) -> bool:
        return self.resources_requested.start > 1e12


class Manager:
    def __init__(self) -> None:
        self.cancelled: list[int] = []

    def cancel_by_task_id(self, number: int) -> None:
        self.cancelled.append(number)


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temps_module, "_LOOK_INTERVAL", 0.0)


def make(number: int, inputs: Any = (), outputs: Any = (), start: float = -1.0) -> Task:
    task = Task(number, start)
    note_inputs(task, inputs)
    note_outputs(task, outputs)
    return task


def test_a_task_goes_when_the_last_of_its_temps_is_there(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    files = [Temp(str(tmp_path / f"{n}")) for n in range(chance.randrange(1, 9))]
    makers = [make(n, outputs=[file]) for n, file in enumerate(files)]
    user = make(99, inputs=files, start=7.0)
    temps = Temps()
    tasks = [*makers, user]
    chance.shuffle(tasks)
    for task in tasks:
        temps.submitted(task)
    chance.shuffle(makers)
    for maker in makers:
        assert user.is_held, SEED
        Path(maker_file(maker)).write_text("x")
        maker.state = "RETRIEVED"
        if chance.random() < 0.5:
            temps.look(Manager())
        temps.returned(maker)
    assert not user.is_held, SEED
    assert user.resources_requested.start == 7.0
    assert not temps.holds


def maker_file(maker: Task) -> str:
    (temp,) = maker.__dict__[temps_module._OUTPUTS]
    return str(temp.path)


def test_half_a_file_of_a_task_that_goes_on_is_none(tmp_path: Path) -> None:
    file = Temp(str(tmp_path / "half"))
    maker, user = make(1, outputs=[file]), make(2, inputs=[file])
    temps = Temps()
    temps.submitted(maker)
    temps.submitted(user)
    (tmp_path / "half").write_text("h")
    for state in ("READY", "RUNNING", "WAITING_RETRIEVAL"):
        maker.state = state
        temps.look(Manager())
        assert user.is_held, state
    maker.state = "RETRIEVED"
    temps.look(Manager())
    assert not user.is_held


def test_a_temp_that_nobody_makes_yet_is_waited_for(tmp_path: Path) -> None:
    user, manager, temps = make(1, inputs=[Temp(str(tmp_path / "x"))]), Manager(), Temps()
    temps.submitted(user)
    temps.before_wait(manager)
    assert user.is_held
    assert manager.cancelled == []


def test_users_of_what_was_not_made_are_cancelled_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = Temp(str(tmp_path / "x"))
    maker, users = make(1, outputs=[file]), [make(n, inputs=[file]) for n in (2, 3)]
    manager, temps = Manager(), Temps()
    for task in (maker, *users):
        temps.submitted(task)
    maker.state = "DONE"
    temps.returned(maker)
    again = make(4, outputs=[file])
    temps.submitted(again)  # before the next wait: there is hope
    temps.before_wait(manager)
    assert manager.cancelled == []
    again.state = "DONE"
    temps.returned(again)
    for _ in range(3):
        temps.before_wait(manager)
    assert sorted(manager.cancelled) == [2, 3]
    assert len(caplog.messages) == 2
    for user in users:
        temps.returned(user)
        assert not user.is_held
    assert not temps.holds


def test_a_copy_of_a_task_has_its_own_notes(tmp_path: Path) -> None:
    import copy

    one, other = Temp(str(tmp_path / "1")), Temp(str(tmp_path / "2"))
    task = make(1, inputs=[one])
    clone = copy.copy(task)
    note_inputs(clone, [other, one])
    assert temps_module.temps_of(task) == (one,)
    assert temps_module.temps_of(clone) == (one, other)
