"""In native mode the machine is asked for all that is needed, and COMMAND runs as it is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.daemon  # HTCondor and ndcctools, but it starts none of them

ROOT = Path(__file__).resolve().parents[2]
RUN = (ROOT / "sandbox/run").read_text()
# The function alone: within the sandbox, sandbox/run takes another way.
(NATIVE,) = re.findall(r"^run_natively\(\) \{\n.*?^\}\n", RUN, re.MULTILINE | re.DOTALL)
PROGRAM = f"""set -euo pipefail
checkout={ROOT} here={ROOT}/sandbox
. "$here/common.sh"
run_here() {{ exec "$@"; }}
{NATIVE}
run_natively "$@"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the one directory on PATH: this Python as python3, and a worker."""
    place = tmp_path / "bin"
    place.mkdir()
    script(place / "python3", f'exec {sys.executable} "$@"')
    (place / "vine_worker").symlink_to(shutil.which("vine_worker") or "")
    return place


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def native(path: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # Nor the pool of other tests.
    own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CONDOR_CONFIG")}
    return subprocess.run(
        ["/bin/bash", "-c", PROGRAM, "sandbox/run", *command],
        env={**own, "PATH": str(path), **variables},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def failure(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """Return what is missing and the next step; everything that is said, in three lines."""
    assert done.returncode == 125, done.stderr
    first, found, step = done.stderr.splitlines()
    assert first.startswith("sandbox/run: VINE_SHAREDPORT_NATIVE=1, but ")
    assert step.endswith(", or unset VINE_SHAREDPORT_NATIVE")
    return found.partition("found:")[2].strip(), step.partition("next:")[2].strip()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("python", "-c", "print(6 * 7)"), "42"),
        (("python3", "-c", "import vine_sharedport as v; print(v.__file__)"), str(ROOT)),
        (("vine_sharedport", "pool", "status"), "No pool runs"),
    ],
)
def test_the_command_runs_with_the_checkout_where_only_python3_is_installed(
    path: Path, tmp_path: Path, command: tuple[str, ...], said: str
) -> None:
    done = native(path, *command, TMPDIR=str(tmp_path))
    assert said in done.stdout
    assert done.stderr == ""


def test_the_status_is_the_commands(path: Path) -> None:
    assert native(path, "python", "-c", "raise SystemExit(7)").returncode == 7


def test_a_missing_worker_is_told_before_anything_runs(path: Path) -> None:
    (path / "vine_worker").unlink()
    found, step = failure(native(path, "python", "-c", "print('ran')"))
    assert found.startswith("there is no worker program 'vine_worker' on PATH")
    assert "coop-computing-tools" in step or "ndcctools" in step


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("htcondor2", "cannot be loaded (libcondor.so: cannot open"),
        ("cloudpickle", "needs the Python package cloudpickle"),
    ],
)
def test_a_package_that_is_there_and_cannot_be_imported_is_missing(
    path: Path, tmp_path: Path, module: str, text: str
) -> None:
    reason = "libcondor.so: cannot open shared object file"
    (tmp_path / f"{module}.py").write_text(f"raise ImportError({reason!r}, name={module!r})")
    found, step = failure(native(path, "python", "-c", "", PYTHONPATH=str(tmp_path)))
    assert text in found
    assert "install it with '" in step


def test_python_itself_may_be_missing(path: Path) -> None:
    (path / "python3").unlink()
    assert "Python 3.9 or newer" in native(path, "python").stderr
    script(path / "python3", 'case $1 in --version) echo "Python 3.6.8" ;; *) exit 1 ;; esac')
    found, _ = failure(native(path, "python"))
    assert found == "Python 3.6.8"


def test_a_command_that_is_not_there_is_named(path: Path) -> None:
    found, step = failure(native(path, "no-such-command"))
    assert found == "there is no command no-such-command on PATH"
    assert step.startswith("install it")


def test_the_tests_need_their_packages(path: Path, tmp_path: Path) -> None:
    # As in a Python that has none of them; pytest itself is on PATH.
    script(path / "pytest", "exit 0")
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u; f = u.find_spec\n"
        "u.find_spec = lambda n, *p: None if n == 'hypothesis' else f(n, *p)\n"
    )
    found, step = failure(native(path, "pytest", PYTHONPATH=str(tmp_path)))
    assert "hypothesis" in found
    assert "pip install pytest hypothesis" in step or "python3-hypothesis" in step
    assert native(path, "pytest").returncode == 0
