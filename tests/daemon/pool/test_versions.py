"""Bindings from PyPI and daemons of a distribution: what the message says makes it work."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vine_sharedport as vine
from tests.daemon import helpers
from vine_sharedport.condor.versions import SETTING

pytestmark = pytest.mark.daemon

BASE = f"{sys.base_exec_prefix}/bin/python3.{sys.version_info[1]}"

WORKFLOW = """
import sys, time, warnings
warnings.simplefilter("ignore")
import vine_sharedport as vine

with vine.Manager(0, shared_port=True) as manager:
    if sys.argv[1] == "factory":
        workers = vine.Factory(manager=manager)
        workers.max_workers, workers.cycle = 1, 1
        workers.cores, workers.memory, workers.disk = 1, 100, 100
    else:
        workers = vine.submit_workers(manager, 1, cores=1, memory=100, disk=100)
    with workers:
        manager.submit(vine.Task("echo hello"))
        while not manager.empty():
            task = manager.wait(1)
            if task is not None:
                print("TASK", task.std_output.strip())
            for problem in workers.status().problems if sys.argv[1] == "factory" else ():
                if problem.cause == "schedd":
                    sys.exit(f"{problem.explanation}; {problem.remedy}")
"""

# As a user calls them: the arguments after the Python, and what it prints where it works.
INPUTS = {
    "submit_workers": (["{here}/work.py", "workers"], "TASK hello"),
    "factory": (["{here}/work.py", "factory"], "TASK hello"),
    "manager-submit": (
        ["-m", "vine_sharedport", "manager", "submit", "--name", "{name}", "/bin/true"],
        "{name}",
    ),
    "manager-list": (["-m", "vine_sharedport", "manager", "list"], ""),
    "manager-stop": (["-m", "vine_sharedport", "manager", "stop", "nobody"], "nobody"),
    "doctor": (["-m", "vine_sharedport", "doctor"], "usable"),
}


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(helpers.ROOT)}
    return subprocess.run(
        [str(word) for word in command], env=environment, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def number(text: str) -> str:
    found = re.search(r"\d+\.\d+\.\d+", text)
    assert found is not None, text
    return found[0]


@pytest.fixture(scope="module")
def daemons() -> Iterator[str]:
    """Run a pool that is set up as a real site; return its version."""
    theirs = number(subprocess.check_output(["condor_version"], text=True))
    import htcondor2

    if theirs == number(htcondor2.version()):
        pytest.skip("the daemons are as new as PyPI's bindings")
    with vine.PersonalPool(config={"SEC_FS_ENFORCE_CHANNEL_BINDING": ""}):
        yield theirs


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Return the Python of an environment with the bindings that these tests have of PyPI."""
    place = tmp_path / "my venv"
    # As the installation's page says, since cctools are the system's; the system's pip will do.
    command = [BASE, "-m", "venv", "--system-site-packages", "--without-pip", place]
    subprocess.run(command, check=True, timeout=60)
    (site,) = place.glob("lib/python3*/site-packages")
    files = importlib.metadata.files("htcondor")
    assert files is not None
    for file in files:
        if ".." not in file.parts:
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file.locate(), target)
    return place / "bin/python"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        *((name, "setting") for name in INPUTS),
        *((name, "bindings") for name in ("submit_workers", "factory", "manager-submit")),
    ],
)
def test_the_command_in_the_message_makes_the_same_call_work(
    name: str,
    remedy: str,
    daemons: str,
    python: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "work.py").write_text(WORKFLOW)
    monkeypatch.chdir(tmp_path)
    words, shown = INPUTS[name]
    manager = f"{remedy}-{name}"
    call = [python, *(word.format(here=tmp_path, name=manager) for word in words)]
    said = run(*call)
    message = said.stdout + said.stderr
    assert said.returncode == 1, message
    own = number(run(python, "-c", "import htcondor2; print(htcondor2.version())").stdout)
    assert own != daemons
    assert own in message
    assert daemons in message
    assert str(python.parents[1] / "lib") in message
    found = re.search(r" '(\S.* htcondor)'; or '(export \S+)'", message)
    assert found is not None, message
    bindings, setting = found.groups()
    assert setting == f"export {SETTING}"
    if remedy == "bindings":
        done = run("sh", "-c", bindings)
        assert done.returncode == 0, done.stderr
        again = run(*call)
    else:
        again = run("sh", "-c", f'{setting}; exec "$@"', "sh", *call)
    message = again.stdout + again.stderr
    assert "FS:1004" not in message
    assert shown.format(name=manager) in message
    assert again.returncode == (1 if name == "manager-stop" else 0), message
