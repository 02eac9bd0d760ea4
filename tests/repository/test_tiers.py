"""A required tier that did not run is a failure, whatever the reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS = """
import pytest

def test_without_a_tier(): pass

@pytest.mark.daemon
def test_daemon(): {daemon}

@pytest.mark.shim
def test_shim(): pass
"""
INI = "[pytest]\nmarkers =\n    daemon\n    shim\n    container\n"


def run(
    directory: Path, require: str, *options: str, daemon: str = "pass"
) -> subprocess.CompletedProcess[str]:
    (directory / "pytest.ini").write_text(INI)
    (directory / "test_some.py").write_text(TESTS.format(daemon=daemon))
    # Without plugins it is soon there.
    options = ("-p", "tests.tiers", "-p", "no:cacheprovider", *options)
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        env={**own, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
             "VINE_SHAREDPORT_REQUIRE": require},
        cwd=directory, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def not_run(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the tiers that did not run, as the end says it."""
    words = "VINE_SHAREDPORT_REQUIRE names "
    found = [line for line in done.stdout.splitlines() if line.startswith(words)]
    assert done.returncode == (1 if found else 0), done.stdout + done.stderr
    return [line.split()[2].rstrip(",") for line in found]


def test_what_is_required_and_runs_is_fine(tmp_path: Path) -> None:
    assert not_run(run(tmp_path, "daemon,shim,sandbox")) == []
    assert not_run(run(tmp_path, "", "-k", "without")) == []


def test_a_tier_of_which_nothing_ran_is_a_failure(tmp_path: Path) -> None:
    skipped = "pytest.skip('no daemon')"
    assert not_run(run(tmp_path, "container,daemon,shim", daemon=skipped)) == [
        "container",
        "daemon",
    ]
    assert not_run(run(tmp_path, "shim", "-k", "nothing")) == ["shim"]


def test_so_it_is_with_several_processes(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    assert not_run(run(tmp_path, "container,daemon", "-p", "xdist", "-n2")) == ["container"]


def test_a_word_that_names_no_tier_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "daemon,deamon")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "VINE_SHAREDPORT_REQUIRE names deamon; tiers are container, daemon," in done.stderr
