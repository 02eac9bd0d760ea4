"""A manager's job: its name among others, and its output as it grows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vine_sharedport.condor.manager_job import job as manager_job
from vine_sharedport.condor.personal_pool.user import owner
from vine_sharedport.condor.schedd import Schedd
from vine_sharedport.errors import NoStatusError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a directory with a program, and in a small environment."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.py").write_text("")
    return tmp_path


def test_names_in_use_get_a_number() -> None:
    assert manager_job._free_name("a", set()) == "a"
    assert manager_job._free_name("a", {"a", "a-2"}) == "a-3"


def test_output_that_was_emptied_is_read_from_its_beginning(here: Path) -> None:
    path = here / "o"
    path.write_text("first start\n")
    data, offset = manager_job._read_from(str(path), 0)
    assert (data, offset) == (b"first start\n", 12)
    path.write_text("again\n")
    assert manager_job._read_from(str(path), offset) == (b"again\n", 6)
    assert manager_job._read_from(str(here / "none"), 3) == (b"", 3)


def test_a_number_means_a_job_of_this_user_as_a_name_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Schedd, "query", lambda _, wanted, *__: asked.append(wanted) or [])
    monkeypatch.setattr(
        Schedd, "history", lambda _, wanted, *__, **___: asked.append(wanted) or []
    )
    for name in ("12", "12.0", "sweep"):
        with pytest.raises(NoStatusError):
            manager_job.find_manager(name)
    assert len(asked) == 6
    assert {wanted.rpartition(" && ")[2] for wanted in asked} == {f'Owner is "{owner()}"'}
