"""A personal pool's processes and notes, without HTCondor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vine_sharedport.condor import standalone_pool
from vine_sharedport.condor.personal_pool import guardian
from vine_sharedport.condor.personal_pool.status import pool_status
from vine_sharedport.supervision import find_process, is_alive, send_signal

# Starts a child without the variable, and says its pid.
FAMILY = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={})
print(child.pid, flush=True)
child.wait()
"""


@contextmanager
def _family(token: str) -> Iterator[tuple[int, int]]:
    """Run a process of the pool and a child that does not carry the token."""
    parent = subprocess.Popen(
        [sys.executable, "-c", FAMILY],
        stdout=subprocess.PIPE,
        env={**os.environ, guardian.POOL_VARIABLE: token},
    )
    assert parent.stdout is not None
    child = find_process(int(parent.stdout.readline()))
    assert child is not None
    try:
        yield parent.pid, child.pid
    finally:
        send_signal(child, signal.SIGKILL)
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_pools_processes_are_those_with_its_token_and_their_children() -> None:
    with _family("one-pool") as mine, _family("one-pool-2"):
        assert {p.pid for p in guardian.pool_processes("one-pool")} == set(mine)


def test_killing_a_pool_kills_no_other() -> None:
    with _family("one-pool") as mine, _family("another-pool") as others:
        assert guardian.kill_pool("one-pool") == []
        assert [find_process(pid) for pid in mine] == [None, None]
        assert None not in [find_process(pid) for pid in others]


def test_calling_process_is_not_among_the_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from vine_sharedport.condor.personal_pool import guardian as _guardian\n"
        "print(_guardian.pool_processes('one-pool'))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(Path(guardian.__file__).parents[3])],
        env={**os.environ, guardian.POOL_VARIABLE: "one-pool"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "[]\n"


def test_signal_never_reaches_a_later_process_with_the_same_pid() -> None:
    with _family("one-pool") as (pid, _):
        now = find_process(pid)
        assert now is not None
        earlier = now._replace(start=now.start - 1)
        assert send_signal(earlier, signal.SIGKILL) is False
        assert is_alive(now)


def test_notes_of_an_ended_process_name_nobody() -> None:
    own = find_process(os.getpid())
    assert own is not None
    assert guardian.noted_process({"master": list(own)}, "master") == own
    assert guardian.noted_process({"master": [own.pid, own.start - 1]}, "master") is None
    for junk in ({}, {"master": None}, {"master": "x"}, {"master": ["a", "b"]}):
        assert guardian.noted_process(junk, "master") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_damaged_notes_are_no_pool(tmp_path: Path, text: str) -> None:
    (tmp_path / guardian.STATE_FILE).write_text(text)
    assert guardian.read_state(str(tmp_path)) == {}
    assert standalone_pool.stop_pool(tmp_path) is False
    assert pool_status(tmp_path).running is False


def test_directory_that_a_job_made_read_only_is_removed(tmp_path: Path) -> None:
    inner = tmp_path / "pool" / "execute" / "dir_1"
    inner.mkdir(parents=True)
    (inner / "file").write_text("")
    inner.chmod(0o500)
    (tmp_path / "pool" / "link").symlink_to(tmp_path)
    guardian.remove_tree(str(tmp_path / "pool"))
    assert os.listdir(tmp_path) == []
