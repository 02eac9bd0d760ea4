"""A working directory that is gone by the time that jobs start, or are submitted."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.daemon.factory_helpers import SWIFT, drive
from vine_sharedport.condor.schedd import Schedd

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")


def rename(place: Path) -> None:
    place.rename(place.with_name("renamed"))


def make_unreadable(place: Path) -> None:
    place.chmod(0)


def replace_by_a_file(place: Path) -> None:
    place.rmdir()
    place.write_text("")


GONE = [rename, make_unreadable, os.rmdir, replace_by_a_file]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = tmp_path / "place"
    found.mkdir()
    monkeypatch.chdir(found)
    yield found
    if found.is_dir():
        found.chmod(0o700)


@pytest.mark.parametrize("how", GONE)
def test_jobs_that_wait_outlive_the_working_directory(
    manager: Any, place: Path, tmp_path: Path, how: Any
) -> None:
    logs = str(tmp_path / "logs")
    with vine.submit_workers(
        manager, cores=1, memory=100, disk=100, directory=logs, commands={"hold": "true"}
    ) as jobs:
        helpers.wait_until(lambda: jobs.status().held == 1)
        how(place)
        Schedd().act("release", f"ClusterId == {jobs.cluster}", "test")
        manager.submit(vine.Task("echo hello"))
        drive(manager, manager.empty)
        assert jobs.status().hold_reasons == ()


@pytest.mark.parametrize("how", GONE)
def test_a_factory_goes_on_when_its_working_directory_is_gone(
    manager: Any, place: Path, tmp_path: Path, how: Any
) -> None:
    with vine.Factory(
        "condor", manager=manager, directory=str(tmp_path / "factory"), **SWIFT
    ) as workers:
        how(place)
        manager.submit(vine.Task("echo hello"))
        drive(manager, manager.empty)
        assert workers.status().workers.held == 0


# In a process of its own: htcondor2 may end it.
PROGRAM = """
    import os, sys, warnings
    warnings.simplefilter("ignore")
    import vine_sharedport as vine
    from vine_sharedport.condor.schedd import Schedd
    from vine_sharedport.condor.submit_description import Commands, SubmitDescription
    from vine_sharedport.condor.manager_job.description import ManagerProgram
    from vine_sharedport.condor.manager_job.job import submit_manager

    scratch = sys.argv[1]
    os.mkdir(f"{scratch}/gone")
    os.chdir(f"{scratch}/gone")
    with vine.Manager(0, shared_port=True, run_info_path=f"{scratch}/info") as m:
        os.rmdir(f"{scratch}/gone")
        for what in (
            lambda: vine.submit_workers(m, 1, directory=f"{scratch}/w").remove(),
            lambda: vine.submit_workers(m, 1).remove(),
            lambda: vine.submit_workers(m, 1, directory="here"),
            lambda: vine.submit_workers(m, 1, commands={"transfer_output_files": "a"}),
            lambda: Schedd().submit(
                SubmitDescription(commands=Commands({"executable": "/bin/true"}))
            ),
            lambda: submit_manager(ManagerProgram("p.py")),
            lambda: vine.Factory("condor", manager=m, directory="here").start(),
        ):
            try:
                what()
                print("submitted")
            except vine.SettingError as error:
                assert f"{scratch}/gone" in str(error), error
                print("refused")
"""


def test_no_submission_ends_the_program_in_a_directory_that_was_removed(
    pool: Any, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path)], capture_output=True, text=True,
        timeout=60, check=False, env=dict(os.environ, PYTHONPATH=str(helpers.ROOT)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["submitted"] * 2 + ["refused"] * 5


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("factory list", 0),
        ("factory status", 1),
        ("factory start sweep", 2),
        ("manager submit p.py", 2),
        ("manager list", 0),
        ("worker --address '<127.0.0.1:1?sock=a>' --secret-file s", 78),
        ("connect '<127.0.0.1:1?sock=a>' --secret-file s", 2),
        ("pool status", 0),
    ],
)
def test_commands_say_what_is_wrong_in_a_directory_that_was_removed(
    pool: Any, tmp_path: Path, words: str, status: int
) -> None:
    main = Path(vine.__file__).with_name("__main__.py")
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", f'rmdir ../gone && exec "$@" {words}', "sh", sys.executable, str(main)],
        cwd=gone, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["it's", "o'neil's \u00e9t\u00e9", "a\\b'c"])
def test_a_manager_in_a_directory_with_an_odd_name_is_understood(
    make_manager: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    manager = make_manager()
    with vine.Factory(
        "condor", manager=manager, directory=str(tmp_path / "factory"), **SWIFT
    ) as workers:
        drive(manager, lambda: workers.status().manager.reachable)
