"""Files of the user's that are called like modules of Python: no process of ours runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.daemon.factory_helpers import SWIFT, drive, kill, processes_of
from vine_sharedport.condor.manager_job import job as manager_job
from vine_sharedport.condor.manager_job.description import ManagerProgram

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")

STANDARD = sorted(
    getattr(sys, "stdlib_module_names", None)
    or (path.stem for path in Path(os.__file__).parent.glob("*.py"))
)
OURS = ("htcondor2", "classad2", "vine_sharedport", "ndcctools", "rich", "sitecustomize")


@pytest.fixture
def shadowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a directory with a file for every module's name; each tells that it has run."""
    place = tmp_path / "files"
    place.mkdir()
    ran = tmp_path / "ran"
    ran.mkdir()
    for name in (*STANDARD, *OURS):
        (place / f"{name}.py").write_text(
            f"open({str(ran / name)!r}, 'w').close()\nraise SystemExit(3)\n"
        )
    monkeypatch.chdir(place)
    return ran


def none_ran(ran: Path) -> bool:
    return not os.listdir(ran)


@pytest.mark.parametrize("path", ["", ":{there}", ".:{there}", "{here}:{there}", "../files"])
def test_a_factory_and_the_one_after_it_run_no_file_of_the_working_directory(
    manager: Any, shadowed: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    if path:
        # An empty place is the working directory, as PYTHONPATH=$PYTHONPATH:DIR makes one.
        there = os.environ.get("PYTHONPATH") or str(helpers.ROOT)
        monkeypatch.setenv("PYTHONPATH", path.format(here=os.getcwd(), there=there))
    with vine.Factory("condor", manager=manager, **SWIFT) as workers:
        assert none_ran(shadowed)
        kill(workers.status().pid)
        other = helpers.wait_until(
            lambda: [p for p in processes_of(workers.directory) if p != workers.status().pid]
        )
        drive(manager, lambda: workers.status().pid in other)
    assert none_ran(shadowed)


@pytest.mark.parametrize("shared_port", [None, []], ids=["plain", "run"])
def test_a_managers_job_runs_no_file_of_the_working_directory(
    pool: Any, shadowed: Path, tmp_path: Path, shared_port: Any
) -> None:
    program = tmp_path / "elsewhere" / "program.py"
    program.parent.mkdir()
    program.write_text("import os; print('IN', os.getcwd())")
    job = manager_job.submit_manager(
        ManagerProgram(str(program), log_dir=str(tmp_path / "logs"), shared_port=shared_port)
    )
    found = helpers.wait_until(
        lambda: (now := manager_job.find_manager(str(job.id))).done and now, timeout=60
    )
    assert not found.failed, Path(job.error).read_text()
    assert Path(job.output).read_text() == f"IN {os.getcwd()}\n"
    assert none_ran(shadowed)


def test_a_worker_by_relay_runs_no_file_of_the_working_directory(
    manager: Any, shadowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = os.path.join(os.path.dirname(sys.executable), "vine_sharedport")
    if not os.path.exists(command):
        pytest.skip("the command is not installed here")
    link = manager.shared_port
    environment = {**os.environ, "VINE_SHAREDPORT_TRANSPORT": "relay"}
    environment.pop("PYTHONPATH", None)
    with helpers.worker_process(
        command, "worker", "--address", str(link.address), "--secret-file", link.secret_file,
        "--", "--cores", "1", "--memory", "500", "--disk", "500", env=environment,
    ):  # fmt: skip
        manager.submit(vine.Task("echo hello"))
        assert len(drive(manager, manager.empty)) == 1
    assert none_ran(shadowed)


def test_the_command_by_its_files_runs_none_of_the_working_directory(shadowed: Path) -> None:
    main = Path(vine.__file__).with_name("__main__.py")
    said = subprocess.run(
        [sys.executable, str(main), "factory", "list"], capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip
    assert (said.returncode, none_ran(shadowed)) == (0, True), said.stderr
