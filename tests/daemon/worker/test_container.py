"""Workers in real containers: apptainer, an image that has not even Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tiers
from tests.daemon import helpers
from tests.daemon.factory_helpers import SWIFT, drive, finish

pytestmark = [pytest.mark.daemon, pytest.mark.container]

vine = pytest.importorskip("vine_sharedport")

# The execute points see the image.
THERE = {"transfer_container": "false"}

LOOK = """
cat /image
ls -l "$_CONDOR_SCRATCH_DIR"
grep -c libvine_sharedport /proc/$PPID/maps
env | grep -E 'LD_PRELOAD|VINE_SHAREDPORT' || echo "nothing of ours"
"""


@pytest.fixture(scope="module")
def apptainer() -> str:
    """Return the program that HTCondor starts containers with."""
    found = shutil.which("apptainer")
    if found is None:
        tiers.missing("container", "apptainer not found")
    return found


@pytest.fixture(scope="module")
def pool(apptainer: str) -> Iterator[Any]:
    """Return a pool that runs containers, instead of the other tests' pool."""
    with vine.PersonalPool(config={"SINGULARITY": apptainer}) as running:
        yield running


def make_image(apptainer: str, parent: Path) -> str:
    """Return an unpacked image with the libraries that the worker needs, and no program."""
    content = parent / "content"
    content.mkdir()
    (content / "image").write_text("this is the image\n")
    worker = str(shutil.which("vine_worker"))
    linked = subprocess.run(["ldd", worker], capture_output=True, text=True, check=True)
    for library in re.findall(r"/\S+\.so\S*", linked.stdout):
        copy = content / library[1:]
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, copy)
    image = parent / "image"
    made = subprocess.run(
        [apptainer, "build", "--sandbox", str(image), str(content)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return str(image)


def add_shell(image: str) -> None:
    """Add a small system, without Python."""
    busybox = str(shutil.which("busybox"))
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    programs = Path(image, "bin")
    programs.mkdir()
    shutil.copy(busybox, programs / "busybox")
    for name in names.stdout.split():
        if name != "busybox":
            (programs / name).symlink_to("busybox")


def test_a_worker_in_a_container_without_python_comes_by_the_shared_port(
    manager: Any, apptainer: str, tmp_path: Path
) -> None:
    image = make_image(apptainer, tmp_path)
    add_shell(image)
    with vine.submit_workers(manager, 1, container_image=image, commands=THERE) as jobs:
        (task,) = helpers.run_tasks(manager, [vine.Task(LOOK)], timeout=60)
        assert task.successful(), task.output
        assert manager.shared_port.accepted(task.addrport)
        assert "this is the image" in task.output
        assert "nothing of ours" in task.output
        assert re.search(r"^[1-9]\d*$", task.output, re.M), "the library is not in the worker"
        secret = os.path.basename(manager.shared_port.secret_file)
        assert re.search(rf"^-rw-------.* {re.escape(secret)}$", task.output, re.M)
        # Asked to end, it says goodbye instead of being lost.
        manager.workers_shutdown(0)
        drive(manager, lambda: jobs.status().ended == 1)


def test_a_container_that_does_not_start_is_told_with_what_to_do(
    manager: Any, apptainer: str, tmp_path: Path
) -> None:
    image = make_image(apptainer, tmp_path)
    options = {**SWIFT, "max_workers": 1, "container_image": image, "commands": THERE}
    with vine.Factory("condor", manager=manager, **options) as workers:
        manager.submit(vine.Task("cat /image"))
        drive(manager, lambda: workers.status().problems, timeout=120)
        (problem,) = workers.status().problems
        assert problem.cause == "container"
        assert "the container did not start" in problem.explanation
        assert "Singularity test failed" in problem.explanation
        assert "apptainer test" in problem.remedy
        # Once it is right, the job that waits goes on by itself.
        add_shell(image)
        finish(manager, timeout=120)
        assert workers.status().submitted == 1
        drive(manager, lambda: workers.status().problems == ())
