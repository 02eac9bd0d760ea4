"""Between two processes of a factory: slow starts, and what is done meanwhile."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.daemon.factory_helpers import (
    SWIFT,
    drive,
    kill,
    processes_of,
    queued,
    wait_until_gone,
)
from vine_sharedport.factory.report import paths

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")

# What a Python may take to start from a busy file server.
SLOW = 4.0

SITE = """
import os, time
if os.path.exists({mark!r}):
    with open("/proc/self/cmdline", "rb") as file:
        words = file.read().split(b"\\0")
    time.sleep({slow} if b"factory" in words else 0)
"""


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what makes the start of a factory's Python slow from then on."""
    home, mark = tmp_path / "site", tmp_path / "slow"
    home.mkdir()
    (home / "sitecustomize.py").write_text(SITE.format(mark=str(mark), slow=SLOW))
    monkeypatch.setenv("PYTHONPATH", f"{home}:{helpers.ROOT}")
    return mark.touch


def factory(manager: Any, **options: Any) -> Any:
    return vine.Factory(
        "condor", manager=manager, **{**SWIFT, "min_workers": 2, "max_workers": 2, **options}
    )


def ready(manager: Any, workers: Any) -> None:
    drive(manager, lambda: workers.status().workers.connected == workers.min_workers)


@contextlib.contextmanager
def never_without_factory(directory: str) -> Iterator[None]:
    """Look all the time, in a thread, whether a factory runs."""
    over = threading.Event()
    gaps = []

    def look() -> None:
        while not over.wait(0.0005):
            if paths.is_running(directory) is False:
                gaps.append(time.monotonic())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not gaps


def test_who_becomes_supervisor_has_the_directory_all_the_time(
    manager: Any, slow: Callable[[], None]
) -> None:
    workers = factory(manager).start()
    ready(manager, workers)
    mark, directory = workers.status().factory, workers.directory
    supervisor, worker = processes_of(directory)
    slow()
    with never_without_factory(directory):
        kill(supervisor)
        # It notices within a cycle, and then its Python starts.
        helpers.wait_until(lambda: b"--lock" in Path(f"/proc/{worker}/cmdline").read_bytes())
        assert "not running" not in repr(workers)
        assert workers.start() is workers
        workers.max_workers = 1
        drive(manager, lambda: workers.status().pid == worker)
        drive(manager, lambda: workers.status().max_workers == 1)
    now = processes_of(directory)
    assert len(now) == 2, "the program has started none"
    assert worker in now
    for pid in now:
        assert_that_children_have_no_lock(pid, directory)
    workers.stop()
    assert not paths.is_running(directory)
    assert not queued(mark)
    assert workers.status().state == "ended"


def assert_that_children_have_no_lock(pid: int, directory: str) -> None:
    """Look at the flags of the process's descriptor with the lock."""
    found = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        if os.readlink(f"/proc/{pid}/fd/{fd}") == os.path.join(directory, paths.LOCK):
            text = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
            (flags,) = re.findall(r"flags:\s*(\d+)", text)
            assert int(flags, 8) & os.O_CLOEXEC
            found += 1
    assert found == 1


def test_what_is_done_while_a_killed_factory_starts_again_is_done_to_it(
    manager: Any, slow: Callable[[], None]
) -> None:
    workers = factory(manager).start()
    ready(manager, workers)
    mark, directory = workers.status().factory, workers.directory
    before = processes_of(directory)
    slow()
    for pid in before:
        kill(pid)
    helpers.wait_until(lambda: set(processes_of(directory)) - set(before))
    (now,) = processes_of(directory)
    workers.max_workers = 1
    assert workers.start() is workers
    assert workers.directory == directory
    drive(manager, lambda: workers.status().pid == now)
    drive(manager, lambda: workers.status().max_workers == 1)
    assert "not running" not in repr(workers)
    workers.stop()
    assert not paths.is_running(directory)
    assert not queued(mark)


@pytest.mark.parametrize("killed", ["supervisor", "both"])
def test_stop_in_the_moment_in_which_a_factory_starts_again_leaves_nothing(
    manager: Any, slow: Callable[[], None], killed: str
) -> None:
    workers = factory(manager).start()
    ready(manager, workers)
    mark, directory = workers.status().factory, workers.directory
    before = processes_of(directory)
    slow()
    for pid in before if killed == "both" else before[:1]:
        kill(pid)

    def begins() -> bool:
        """Whether a Python has just begun, in the old worker's process or a new one."""
        now = processes_of(directory)
        if killed == "both":
            return bool(set(now) - set(before))
        return b"--lock" in Path(f"/proc/{before[1]}/cmdline").read_bytes()

    helpers.wait_until(begins)
    workers.stop()
    assert not processes_of(directory)
    assert not queued(mark)


def test_the_program_starts_it_again_when_there_is_room_again(
    manager: Any, caplog: pytest.LogCaptureFixture
) -> None:
    workers = factory(manager, min_workers=1).start()
    ready(manager, workers)
    mark, before = workers.status().factory, processes_of(workers.directory)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limit[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for pid in before:
            kill(pid)
        said = "cannot check on the factory, trying again"
        helpers.wait_until(lambda: said in caplog.text, timeout=10)
        time.sleep(4)  # for another attempt
        assert caplog.text.count(said) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        for fd in taken:
            os.close(fd)
    drive(manager, lambda: workers.status().pid not in before)
    drive(manager, lambda: workers.status().workers.connected == 1)
    workers.stop()
    assert not queued(mark)


def test_a_factory_has_one_keeper_however_often_it_is_started(manager: Any) -> None:
    def keepers() -> int:
        return sum(thread.name == "keep-factory" for thread in threading.enumerate())

    helpers.wait_until(lambda: keepers() == 0)
    workers = factory(manager, min_workers=0)
    for _ in range(3):
        workers.start()
        workers.start()
        workers.stop()
    workers.start()
    helpers.wait_until(lambda: keepers() == 1, timeout=0.5)
    workers.stop()
    helpers.wait_until(lambda: keepers() == 0, timeout=0.5)


def test_a_damaged_id_is_told_with_what_removes_the_jobs(manager: Any) -> None:
    workers = factory(manager).start()
    ready(manager, workers)
    mark, directory = workers.status().factory, workers.directory
    _, worker = processes_of(directory)
    Path(directory, "factory.id").write_text("")
    kill(worker)
    helpers.wait_until(lambda: not processes_of(directory))
    log = Path(directory, paths.LOG).read_text()
    (command,) = set(re.findall(r"remove the jobs by (condor_rm .*), then the file", log))
    assert len(queued(mark)) == 2
    subprocess.run(shlex.split(command), check=True, capture_output=True, timeout=30)
    wait_until_gone(mark)
    assert "factory.log says why" in workers.status().message
    workers.stop()
