"""What a manager's job is known by: whether it failed, and its last lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from vine_sharedport.condor.manager_job.status import ManagerJob


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a directory with a program, and in a small environment."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.py").write_text("")
    return tmp_path


def job(tmp_path: Path, **values: Any) -> ManagerJob:
    return ManagerJob(
        **{
            "name": "s", "id": 7, "state": "ended", "since": 0.0, "submitted": 0.0,
            "program": "s.py", "directory": "/", "output": str(tmp_path / "o"),
            "error": str(tmp_path / "e"), "log": "/l", **values,
        }
    )  # fmt: skip


def test_last_lines_are_stderrs_if_there_are_any(here: Path) -> None:
    failed = job(here, exit_status=1)
    assert failed.failed
    assert str(failed).endswith("It has printed nothing.")
    (here / "o").write_text("from stdout\n")
    assert failed.last_lines() == (str(here / "o"), ["from stdout"])
    (here / "e").write_text("".join(f"{n}\n" for n in range(100_000)))
    assert failed.last_lines()[1] == [str(n) for n in range(99_990, 100_000)]


def test_what_ended_well_did_not_fail(here: Path) -> None:
    assert not job(here, exit_status=0).failed
    assert not job(here, state="removed").failed
    assert job(here, exit_signal=9).failed
