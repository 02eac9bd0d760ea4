"""The benchmark of faults, shortened: what docs/reliability.md promises holds here, too."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import parallel
from tests.daemon import helpers

pytestmark = pytest.mark.daemon

# Machines are busy; the table has the true numbers.
_LONGEST_HOLD = 2.0
# The quick ones. The benchmark itself has them all; with restarting daemons they take
# minutes.
_FAULTS = (*("silent", "header-noise", "wrong-secret", "replay", "crowd", "porter-killed"),)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what the benchmark measured."""

    def measure(place: Path) -> None:
        file = place / "faults.json"
        program = Path(helpers.ROOT, "benchmarks", "faults.py")
        result = subprocess.run(
            [sys.executable, "-W", "ignore", str(program), "--quick", "--json", str(file)]
            + [word for name in _FAULTS for word in ("--only", name)],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert file.exists(), result.stderr

    place = parallel.made_once(tmp_path_factory, "faults", measure)
    found: list[dict[str, Any]] = json.loads((place / "faults.json").read_text())["rows"]
    return found


def _broken(
    rows: list[dict[str, Any]], what: str, wrong: Callable[[dict[str, Any]], Any]
) -> dict[str, Any]:
    return {row["name"]: row[what] for row in rows if wrong(row)}


def test_every_fault_is_inflicted(rows: list[dict[str, Any]]) -> None:
    assert {row["name"] for row in rows} == set(_FAULTS)
    assert not _broken(rows, "tried", lambda row: not row["tried"])
    assert not _broken(rows, "failures", lambda row: row["failures"])


def test_no_honest_worker_is_lost(rows: list[dict[str, Any]]) -> None:
    assert not _broken(rows, "workers_lost", lambda row: row["workers_lost"])


def test_no_task_is_lost(rows: list[dict[str, Any]]) -> None:
    assert not _broken(rows, "tasks_lost", lambda row: row["tasks_lost"])
    assert not _broken(rows, "tasks", lambda row: not row["tasks"])


def test_nothing_leaks(rows: list[dict[str, Any]]) -> None:
    assert not _broken(rows, "leaked", lambda row: row["leaked"])


def test_the_managers_loop_is_not_held(rows: list[dict[str, Any]]) -> None:
    def too_long(row: dict[str, Any]) -> bool:
        own = row["held"] - row["no_processor"]
        return own > _LONGEST_HOLD

    assert not _broken(rows, "held", too_long)
    # Questions were asked and answered, or none of this would mean anything.
    assert not _broken(rows, "questions", lambda row: row["questions"] < 5 and row["tried"])
    assert not _broken(rows, "unanswered", lambda row: row["unanswered"])


def test_refusals_are_counted_by_their_reason(rows: list[dict[str, Any]]) -> None:
    by_name = {row["name"]: row for row in rows}
    for name in ("wrong-secret", "replay", "header-noise"):
        row = by_name[name]
        assert row["refused"]["wrong-secret"] == row["tried"], name
    assert by_name["silent"]["refused"] == {}, "it never reached the porter"
