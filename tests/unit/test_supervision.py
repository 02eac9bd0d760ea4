"""Processes are told from later ones with their number, and pauses grow between restarts."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vine_sharedport.supervision import (
    Process,
    Restarts,
    descendants,
    find_process,
    is_alive,
    isolated_command,
    open_pidfd,
    send_signal,
    with_descendants,
    without_working_directory,
)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_process_is_known_by_its_number_and_its_start(
    sleeper: subprocess.Popen[bytes],
) -> None:
    found = find_process(sleeper.pid)
    assert found is not None
    assert Process.parse(str(found)) == found
    assert is_alive(found)
    assert not is_alive(found._replace(start=found.start - 1))
    assert send_signal(found._replace(start=found.start - 1), signal.SIGKILL) is False
    assert send_signal(found, signal.SIGKILL) is True
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert find_process(sleeper.pid) is None, "a zombie has ended"
    sleeper.wait()
    assert send_signal(found, signal.SIGKILL) is False
    with pytest.raises(ValueError):
        Process.parse("17")


def test_what_is_below_a_process_is_found_without_the_caller(
    sleeper: subprocess.Popen[bytes],
) -> None:
    assert sleeper.pid in [process.pid for process in descendants(os.getpid())]
    parents = {10: 1, os.getpid(): 10, sleeper.pid: os.getpid(), 4_000_000: 2}
    assert [p.pid for p in with_descendants({10}, parents) if p.pid != 10] == [sleeper.pid]


def test_a_pidfd_is_readable_at_the_end(sleeper: subprocess.Popen[bytes]) -> None:
    fd = open_pidfd(sleeper.pid)
    if fd is None:
        pytest.skip("this Python or kernel has no pidfd")
    try:
        assert select.select([fd], [], [], 0)[0] == []
        sleeper.kill()
        assert select.select([fd], [], [], 20)[0] == [fd]
    finally:
        os.close(fd)
    sleeper.wait()
    with pytest.raises(ProcessLookupError):
        open_pidfd(sleeper.pid)


def test_pauses_grow_and_a_long_life_forgives() -> None:
    restarts = Restarts(1.0, 5.0, settled=10.0)
    pauses = []
    for _ in range(5):
        restarts.ended(restarts.pause + 1.0)
        pauses.append(restarts.pause)
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0]
    restarts.ended(14.0)
    assert restarts.pause == 5.0, "the pause is no part of its life"
    restarts.ended(16.0)
    assert restarts.pause == 0.0


def test_an_isolated_process_has_nothing_of_the_users_python(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the user's')\n")
    (tmp_path / "data").write_text("[1]")
    command = isolated_command("json.tool", "--compact", "data")
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout == "[1]\n"
    assert Path(command[5], "vine_sharedport").is_dir(), "where the package is"


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("", None),
        (":", None),
        (".", None),
        ("{here}", None),
        ("{here}/:{here}/./.", None),
        ("{here}/../{name}", None),
        (":/a:", "/a"),
        ("/a::/b", "/a:/b"),
        ("lib:/b", "{here}/lib:/b"),
        ("/a:/b", "/a:/b"),
    ],
)
def test_pythonpath_loses_the_working_directory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, left: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    words = {"here": str(tmp_path), "name": tmp_path.name}
    found = without_working_directory({"PYTHONPATH": path.format(**words), "HOME": "/h"})
    assert found.pop("HOME") == "/h"
    assert found.get("PYTHONPATH") == (None if left is None else left.format(**words))


def test_pythonpath_in_a_directory_that_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    os.rmdir(gone)
    assert without_working_directory({"PYTHONPATH": "lib:/a::."}) == {"PYTHONPATH": "/a"}
