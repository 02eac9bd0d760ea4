"""The real condor_shared_port, and the abstract name that it tries before the socket file."""

from __future__ import annotations

import contextlib
import re
import secrets
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from vine_sharedport import fdpass

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")

_DAEMON = re.compile(r" 00010000 0001 01 +\d+ @([0-9a-f]{64})/(?:collector|master_\S+)$", re.M)


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1 and pid != ancestor:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == ancestor


def _cookies(pool: Any) -> set[str]:
    """Return the cookies of a pool's daemons: other tests' pools are here, too."""
    found = set()
    for match in _DAEMON.finditer(Path("/proc/net/unix").read_text()):
        name = match[0].partition("@")[2]
        with socket.socket(socket.AF_UNIX) as asking, contextlib.suppress(OSError):
            asking.connect("\0" + name)
            pid = fdpass.peer_credentials(asking).pid
            if pid and _descends(pid, pool._guardian.pid):
                found.add(match[1])
    return found


def _bind(name: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind("\0" + name)
    except OSError:
        sock.close()
        raise
    return sock


def _is_free(name: str) -> bool:
    with contextlib.suppress(OSError):
        _bind(name).close()
        return True
    return False


@pytest.mark.parametrize("sock_id", ["sweep.abstract", "x" * 41, None], ids=str)
def test_nobody_else_gets_the_name_and_workers_join_by_the_file(
    pool: Any, make_manager: Any, sock_id: str | None
) -> None:
    sock_id = sock_id or f"drawn_{secrets.token_hex(6)}"
    cookies = _cookies(pool)
    assert cookies
    manager = make_manager(shared_port=vine.SharedPort(name=sock_id))
    link = manager.shared_port
    assert link.sock_id == sock_id
    assert [cookie for cookie in cookies if _is_free(f"{cookie}/{sock_id}")] == []
    with helpers.relay_worker(link):
        helpers.run_tasks(manager, [vine.Task("true")])
    assert link.counters.workers == 1
    assert link.counters.name_taken == 0


def test_taken_name_is_told_and_got_back(
    pool: Any, make_manager: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sock_id = f"drawn_{secrets.token_hex(6)}"
    with contextlib.ExitStack() as taken:
        for cookie in _cookies(pool):
            taken.enter_context(_bind(f"{cookie}/{sock_id}")).listen(8)
        manager = make_manager(shared_port=vine.SharedPort(name=sock_id))
        link = manager.shared_port

        def is_told() -> bool:
            manager.wait(0)
            return "has taken the abstract socket name" in caplog.text

        helpers.wait_until(is_told)
        assert link.counters.name_taken >= 1
        assert "has taken the abstract socket name" in Path(link.log_file).read_text()
    helpers.wait_until(
        lambda: not any(_is_free(f"{cookie}/{sock_id}") for cookie in _cookies(pool)), timeout=5
    )
    with helpers.relay_worker(link):
        helpers.run_tasks(manager, [vine.Task("true")])


def test_name_is_held_again_after_a_restart_of_htcondor(tmp_path: Path) -> None:
    with vine.PersonalPool() as own:
        before = _cookies(own)
        manager = vine.Manager(0, shared_port=True, run_info_path=str(tmp_path / "run-info"))
        try:
            sock_id = manager.shared_port.sock_id
            assert not any(_is_free(f"{cookie}/{sock_id}") for cookie in before)
            subprocess.run(["condor_restart"], check=True, stdout=subprocess.DEVNULL)
            new = helpers.wait_until(lambda: _cookies(own) - before)
            since = time.monotonic()
            helpers.wait_until(
                lambda: not any(_is_free(f"{cookie}/{sock_id}") for cookie in new), timeout=5
            )
            assert time.monotonic() < since + 5
        finally:
            manager._free()
