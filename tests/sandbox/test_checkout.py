"""sandbox/run keeps the library of a checkout up to date."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from vine_sharedport.bundle import shim_build

pytestmark = pytest.mark.shim

ROOT = Path(__file__).resolve().parents[2]
WORKER = "vine_sharedport/worker"
SHIM = "vine_sharedport/shim"
BUILD = "vine_sharedport/bundle/shim_build.py"


@pytest.fixture
def checkout(compiler: str, tmp_path: Path) -> Path:
    """Return a copy of what sandbox/run needs; its sources are a minute old."""
    if not (ROOT / "sandbox").is_dir():
        pytest.skip("this is no checkout: no sandbox/")
    place = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "*.so", ".lib*")
    shutil.copytree(ROOT / "vine_sharedport", place / "vine_sharedport", ignore=ignored)
    shutil.copytree(ROOT / "sandbox", place / "sandbox")
    for path in (place / BUILD, *(place / SHIM).iterdir()):
        set_age(path, 60)
    return place


def set_age(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at))


def run(checkout: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Call what sandbox/run calls when it is within the sandbox, or needs none."""
    program = (
        'checkout=$1; shift; . "$checkout/sandbox/shim.sh"\n'
        'if shim_is_outdated; then exec sh -c "$BUILD_SHIM" "$checkout" "$@"; fi; exec "$@"'
    )
    return subprocess.run(
        ["bash", "-euc", program, "bash", str(checkout), *command],
        input="what COMMAND reads", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_missing_library_is_built_and_then_kept(checkout: Path) -> None:
    library = checkout / WORKER / shim_build.LIBRARY
    done = run(checkout, "cat")
    assert (done.returncode, done.stdout, done.stderr) == (0, "what COMMAND reads", "")
    built = library.stat()
    assert library.read_bytes()[:4] == b"\x7fELF"
    run(checkout, "true")
    assert library.stat().st_ino == built.st_ino


@pytest.mark.parametrize(
    "source", [f"{SHIM}/shim.c", f"{SHIM}/dial.c", f"{SHIM}/kernel.h", BUILD]
)
def test_a_changed_source_makes_a_new_library(checkout: Path, source: str) -> None:
    library = checkout / WORKER / shim_build.LIBRARY
    run(checkout, "true")
    built = library.stat()
    set_age(library, 30)
    set_age(checkout / source, 10)
    run(checkout, "true")
    assert library.stat().st_ino != built.st_ino
    assert os.listdir(checkout / WORKER).count(shim_build.LIBRARY) == 1


def test_what_does_not_compile_is_shown_and_hides_behind_no_older_library(
    checkout: Path,
) -> None:
    run(checkout, "true")
    set_age(checkout / WORKER / shim_build.LIBRARY, 30)
    (checkout / SHIM / "sinful.c").write_text("this is no C\n")
    done = run(checkout, "sh", "-c", "exit 3")
    assert done.returncode == 3  # COMMAND runs all the same
    assert "there is no preload library" in done.stderr
    assert "this is no C" in done.stderr
    assert not (checkout / WORKER / shim_build.LIBRARY).exists()


def test_a_checkout_that_cannot_be_written_is_left_alone(checkout: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (checkout / WORKER).chmod(0o555)
    done = run(checkout, "echo", "done")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_an_unknown_command_is_reported_as_ever(checkout: Path) -> None:
    assert run(checkout, "no-such-command").returncode == 127
