"""The first thing a newcomer runs."""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.daemon import helpers

pytestmark = pytest.mark.daemon


def _run(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "examples/quickstart.py", *options],
        cwd=helpers.ROOT,
        env=dict(environment, PYTHONPATH=str(helpers.ROOT)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _count_words_here() -> Counter[str]:
    """Count the same texts in another way than the workflow does."""
    sys.path.insert(0, str(helpers.ROOT / "examples"))
    try:
        import quickstart
    finally:
        sys.path.pop(0)
    paths = {
        os.path.realpath(path)
        for pattern in quickstart.TEXTS
        for path in glob.glob(pattern, recursive=True)
        if os.path.isfile(path) and os.access(path, os.R_OK)
    }
    words: Counter[str] = Counter()
    for path in paths:
        words.update(re.findall(rb"[a-z]+", Path(path).read_bytes().lower()))
    return Counter({word.decode(): number for word, number in words.items()})


@pytest.mark.parametrize("where", ["found", "personal"])
def test_every_task_came_through_the_shared_port(pool: Any, where: str, tmp_path: Path) -> None:
    environment = dict(os.environ, TMPDIR=tempfile.mkdtemp(prefix="qs"))
    if where == "personal":
        # A configuration of another name than the pool's: no HTCondor is found.
        environment["CONDOR_CONFIG"] = str(tmp_path / "none")
    result = _run(environment, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    expected = _count_words_here()
    assert found["words"] == sum(expected.values())
    assert found["distinct"] == len(expected)
    assert dict(found["most_common"]) == dict(expected.most_common(10))
    assert found["by_shared_port"] == found["tasks"] > 20
    assert {worker["came_by"] for worker in found["workers"]} == {"shared port"}
    first, second, third, bar = result.stderr.splitlines()
    if where == "found":
        assert first.startswith("Using HTCondor's shared port <127.0.0.1:")
    else:  # nothing that reads as an error
        assert first == "Starting a personal HTCondor pool for this run..."
        assert {_shape(line) for line in result.stderr.splitlines()} <= _picture()
    assert second.startswith("Manager at <127.0.0.1:")
    assert third.startswith("Submitted 3 workers as HTCondor cluster ")
    assert bar.startswith("Counting words")

    # Afterwards nothing is left: no porter, pool, job of its own. Its manager's sock id is in
    # the environment of its workers.
    (sock,) = re.findall(r"Manager at .*sock=([\w-]+)", result.stderr)
    marks = (environment["TMPDIR"], sock)
    helpers.wait_until(lambda: not helpers.processes_with(*marks), timeout=30)
    assert os.listdir(environment["TMPDIR"]) == []
    os.rmdir(environment["TMPDIR"])


def test_the_text_for_people_says_so_too(pool: Any) -> None:
    result = _run(dict(os.environ), "--tasks", "5")
    assert result.returncode == 0, result.stderr
    assert "6 tasks in" in result.stdout
    assert "every task came through the shared port" in result.stdout
    lines = result.stdout.splitlines()
    told = [lines[1], *(line for line in lines if line.startswith("worker")), lines[-1]]
    assert len(told) == 3
    assert {_shape(line) for line in told} <= _picture()


def test_the_program_in_the_readme_runs_and_submits_what_it_says(
    pool: Any, tmp_path: Path
) -> None:
    text = (helpers.ROOT / "README.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    result = subprocess.run(
        [sys.executable, "-c", program.replace("sleep 1", "sleep 0.1")],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(helpers.ROOT)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    done = re.findall(r"^task (\d+) ran on \S+$", result.stdout, re.MULTILINE)
    assert sorted(map(int, done)) == list(range(20))

    import htcondor2

    (factory,) = tmp_path.glob("vine-run-info/2*/vine-logs/vine-factory-*")
    of_factory = f'VineSharedPort == "{factory.name.removeprefix("vine-factory-")}"'
    sizes = ["RequestCpus", "RequestMemory"]
    jobs = helpers.wait_until(lambda: list(htcondor2.Schedd().history(of_factory, sizes)))
    assert {tuple(job[size] for size in sizes) for job in jobs} == {(1, 1000)}
    assert len(jobs) <= 20


def _shape(line: str) -> str:
    """Return a line without blanks and what is another one in each run."""
    return "".join(re.sub(r"<.*>|\d[\d,.]*", "0", line).split())


def _picture() -> set[str]:
    """Return the lines of the picture in the README, which docs/pictures.py makes."""
    lines: dict[str, str] = {}
    for text in ElementTree.parse(helpers.ROOT / "docs" / "quickstart.svg").iter():
        if text.tag.endswith("}text") and "y" in text.attrib:
            y = text.attrib["y"]
            lines[y] = lines.get(y, "") + (text.text or "")
    return {_shape(line) for line in lines.values()}


def test_an_htcondor_that_cannot_be_used_is_told_with_the_remedy(
    pool: Any, tmp_path: Path
) -> None:
    config = tmp_path / "condor_config"
    config.write_text(
        f"include : {pool.config_file}\nDAEMON_SOCKET_DIR = /nonexistent/daemon_sock\n"
    )
    result = _run(dict(os.environ, CONDOR_CONFIG=str(config)), "--tasks", "5")
    assert result.returncode == 0, result.stderr
    first, second = result.stderr.splitlines()[:2]
    assert first.startswith("This machine's HTCondor cannot be used: ")
    assert "'d /nonexistent/daemon_sock 1733 root root -'" in first
    assert second == "Starting a personal HTCondor pool for this run..."


def test_without_the_packages_it_leads_to_the_sandbox(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-I", "-S", str(helpers.ROOT / "examples" / "quickstart.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert "No module named 'vine_sharedport'" in result.stderr
    assert "./sandbox/run python examples/quickstart.py" in result.stderr
    assert "Traceback" not in result.stderr
