"""Tests side by side: each process has its own home, and a test may be alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("xdist")

ROOT = Path(__file__).parents[2]

TESTS = """
import json, os, pytest, time

def spend(name, seconds=0.2):
    began = time.monotonic()
    time.sleep(seconds)
    with open("times", "a") as file:
        line = [name, began, time.monotonic(), os.environ["HOME"]]
        file.write(json.dumps(line) + "\\n")

@pytest.mark.parametrize("number", range(12))
def test_beside_others(number):
    spend("beside")

@pytest.mark.alone
@pytest.mark.parametrize("number", range(3))
def test_alone(number):
    spend("alone")
"""


def run(directory: Path, *options: str) -> list[Any]:
    """Run the tests; return the name, begin, end and home of each."""
    (directory / "pytest.ini").write_text("[pytest]\nmarkers =\n    alone\n")
    (directory / "test_some.py").write_text(TESTS)
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "tests.parallel", *options],
        env={**own, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=directory, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "15 passed" in done.stdout, done.stdout + done.stderr
    return [json.loads(line) for line in (directory / "times").read_text().splitlines()]


def beside(one: Any, others: list[Any]) -> list[Any]:
    """Return those that ran at the same time."""
    return [other for other in others if other[1] < one[2] and one[1] < other[2]]


def test_what_is_alone_has_nothing_beside_it(tmp_path: Path) -> None:
    found = run(tmp_path, "-n", "3", "--dist", "worksteal")
    for one in found:
        if one[0] == "alone":
            assert beside(one, found) == [one]
    assert any(len(beside(one, found)) > 1 for one in found)
    homes = {home for *_, home in found}
    assert len(homes) == 3
    assert os.environ["HOME"] not in homes


def test_one_file_is_run_by_one_process(tmp_path: Path) -> None:
    found = run(tmp_path, "test_some.py")
    assert all(beside(one, found) == [one] for one in found)
    assert {home for *_, home in found} == {os.environ["HOME"]}


@pytest.mark.parametrize(
    ("wanted", "cores", "megabytes", "processes"),
    [
        (["tests"], 2, 16_000, 6),
        (["tests"], 2, 4_500, 4),
        (["tests"], 8, 1_500, 0),
        (["a.py", "b.py", "c.py::test"], 2, 16_000, 3),
        (["a.py::one", "a.py::two"], 2, 16_000, 0),
        (["tests", "a.py"], 1, 16_000, 3),
    ],
)
def test_processes_follow_cores_memory_and_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: list[str],
    cores: int,
    megabytes: int,
    processes: int,
) -> None:
    from tests import parallel

    (tmp_path / "tests").mkdir()
    for name in "abc":
        (tmp_path / f"{name}.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: range(cores))
    monkeypatch.setattr(parallel, "megabytes_free", lambda: megabytes)
    config: Any = SimpleNamespace(args=wanted)
    assert parallel.count(config) == processes
