"""An unmodified manager, real workers, a real condor_shared_port between them."""

from __future__ import annotations

import contextlib
import inspect
import os
import random
import re
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.values import naming

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")


def _tasks(count: int) -> list[Any]:
    return [vine.Task(f"echo {number}") for number in range(count)]


def test_the_workers_socket_is_in_the_manager_and_in_no_process_of_ours(
    make_manager: Any,
) -> None:
    manager = make_manager()
    link = manager.shared_port
    environment = {**os.environ, "VINE_SHAREDPORT_TRANSPORT": "relay"}
    with helpers.relay_worker(link, env=environment) as worker:
        (task,) = helpers.run_tasks(manager, _tasks(1))
        relay = int(Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text())
        inode = helpers.tcp_inode(link.address.port, task.addrport)
        assert inode in helpers.socket_inodes(os.getpid())
        others = {link.porter_pid: "porter", worker.pid: "command", relay: "relay"}
        others |= helpers.pids_named("condor_shared_p", "vine_porter")
        assert "condor_shared_p" in others.values()
        for pid, name in others.items():
            assert inode not in helpers.socket_inodes(pid), f"{name} still holds the connection"
        # The other end is the relay's: the manager sees the worker's true address.
        _, port = task.addrport.rsplit(":", 1)
        back = helpers.tcp_inode(int(port), f"127.0.0.1:{link.address.port}")
        assert back in helpers.socket_inodes(relay)
    assert link.accepted(task.addrport)
    assert (link.counters.accepted, link.counters.by_tcp) == (1, 0)


def _descriptor_of(inode: int) -> int:
    """Return this process's descriptor of a socket."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one of listdir() itself
            if os.readlink(f"/proc/self/fd/{name}") == f"socket:[{inode}]":
                return int(name)
    raise AssertionError(f"no descriptor of socket {inode}")


@pytest.mark.parametrize(
    "keepalive", [None, "60/20/30", pytest.param(f"{random.randint(2, 999)}/5/7", id="drawn")]
)
def test_a_workers_connection_is_probed_as_the_manager_has_it_set(
    make_manager: Any, keepalive: str | None
) -> None:
    manager = make_manager(shared_port=vine.SharedPort(keepalive=keepalive))
    link = manager.shared_port
    with helpers.relay_worker(link):
        (task,) = helpers.run_tasks(manager, _tasks(1))
        inode = helpers.tcp_inode(link.address.port, task.addrport)
        fd = _descriptor_of(inode)
        with socket.socket(fileno=os.dup(fd)) as copy:
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            found = [copy.getsockopt(socket.IPPROTO_TCP, option) for option in options]
            assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert "/".join(map(str, found)) == (keepalive or "8/8/75")


def test_tcp_workers_work_beside_those_by_the_shared_port(make_manager: Any) -> None:
    manager = make_manager()
    with helpers.relay_worker(manager.shared_port), helpers.tcp_worker(manager.port):
        tasks: list[Any] = []
        for _ in range(20):  # until each of the two has had a task
            batch = [vine.Task("sleep 0.2") for _ in range(2)]
            for task in batch:
                task.set_cores(1)
            tasks += helpers.run_tasks(manager, batch)
            brought = {manager.shared_port.accepted(task.addrport) for task in tasks}
            if brought == {True, False}:
                break
    assert brought == {True, False}
    counters = manager.shared_port.counters
    assert (counters.accepted, counters.by_tcp, counters.refused) == (1, 1, {})


def test_htcondor_jobs_come_in_by_the_shared_port_alone(make_manager: Any) -> None:
    manager = make_manager()
    with vine.submit_workers(manager, 3, cores=1, memory=200, disk=500) as jobs:
        done = helpers.run_tasks(manager, _tasks(30))
        helpers.wait_until(
            lambda: manager.wait(1) or manager.shared_port.counters.accepted == 3
        )
        assert jobs.status().running == 3
    assert all(manager.shared_port.accepted(task.addrport) for task in done)
    assert sorted(int(task.output) for task in done) == list(range(30))
    assert manager.shared_port.counters.by_tcp == 0
    assert jobs.status().left == 0
    assert jobs.status().ended == 3


def test_a_program_of_three_lines_works(pool: Any, tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import vine_sharedport as vine
        m = vine.Manager(0, shared_port=True)
        m.submit(vine.Task("echo done"))
        with vine.submit_workers(m, 1):
            print(m.wait(60).output, m.shared_port.counters)
        """
    )
    environment = dict(os.environ, PYTHONPATH=str(helpers.ROOT))
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert result.stderr == ""
    assert result.stdout.startswith("done\n")
    counts = "Counts(accepted=1, by_tcp=0, refused={}, pending=0, workers=1, queries=0, "
    assert counts in result.stdout
    assert result.returncode == 0


def test_the_port_stays_right_and_open(make_manager: Any) -> None:
    manager = make_manager([20000, 30000])
    assert 20000 <= manager.port <= 30000
    with helpers.tcp_worker(manager.port):
        helpers.run_tasks(manager, _tasks(1))
    assert manager.shared_port.counters.by_tcp == 1


def test_the_stock_signature_is_kept_and_shared_port_is_by_keyword_only(pool: Any) -> None:
    import ndcctools.taskvine as stock

    signature = inspect.signature(vine.Manager.__init__)
    assert signature.parameters["shared_port"].kind is inspect.Parameter.KEYWORD_ONLY
    assert issubclass(vine.Manager, stock.Manager)


def test_without_shared_port_the_manager_is_the_stock_one(make_manager: Any) -> None:
    manager = make_manager(shared_port=False)
    assert manager.shared_port is None
    with helpers.tcp_worker(manager.port):
        helpers.run_tasks(manager, _tasks(1))


def test_init_fn_sees_the_shared_port(make_manager: Any) -> None:
    seen = []
    make_manager(init_fn=lambda manager: seen.append(manager.shared_port.address.sock))
    assert seen
    assert seen[0].startswith("vine_")


def test_positional_arguments_reach_the_stock_manager(make_manager: Any) -> None:
    manager = make_manager(0, "a-name-of-ours")
    assert manager.name == "a-name-of-ours"


def test_settings_choose_the_name(make_manager: Any) -> None:
    manager = make_manager(shared_port=vine.SharedPort(name="sweep-1"))
    assert manager.shared_port.sock_id == "sweep-1"
    assert manager.shared_port.address.sock == "sweep-1"
    with helpers.relay_worker(manager.shared_port):
        helpers.run_tasks(manager, _tasks(1))


def test_a_name_in_use_is_refused_and_leaves_no_manager(make_manager: Any) -> None:
    first = make_manager(shared_port=vine.SharedPort(name="taken"))
    with pytest.raises(vine.EndpointError, match=naming("'taken'")):
        make_manager(shared_port=vine.SharedPort(name="taken"))
    with helpers.relay_worker(first.shared_port):
        helpers.run_tasks(first, _tasks(1))


def test_two_managers_in_one_process_have_workers_of_their_own(make_manager: Any) -> None:
    first, second = make_manager(), make_manager()
    with helpers.relay_worker(first.shared_port):
        helpers.run_tasks(first, _tasks(2))
    with helpers.relay_worker(second.shared_port):
        helpers.run_tasks(second, _tasks(2))
    assert first.shared_port.counters.accepted == second.shared_port.counters.accepted == 1


def test_closing_leaves_no_porter_and_no_socket(make_manager: Any, pool: Any) -> None:
    manager = make_manager()
    link, pid = manager.shared_port, manager.shared_port.porter_pid
    path = Path(vine.discover().socket_dir, link.sock_id)
    assert path.exists()
    manager._free()
    assert not path.exists()
    assert not Path(f"/proc/{pid}").exists()
    assert not link.is_open


def test_a_killed_managers_porter_removes_the_socket_and_ends(
    pool: Any, tmp_path: Path
) -> None:
    program = textwrap.dedent(
        """
        import vine_sharedport as vine
        m = vine.Manager(0, shared_port=True)
        print(m.shared_port.sock_id, m.shared_port.porter_pid, flush=True)
        m.wait(600)
        """
    )
    environment = dict(os.environ, PYTHONPATH=str(helpers.ROOT))
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        sock_id, pid = process.stdout.readline().split()
        path = Path(vine.discover().socket_dir, sock_id)
        assert path.exists()
        process.kill()
    helpers.wait_until(
        lambda: not path.exists() and not Path(f"/proc/{pid}").exists(), timeout=5
    )


def test_a_killed_porter_is_replaced_and_connected_workers_stay(make_manager: Any) -> None:
    manager = make_manager()
    link = manager.shared_port
    with helpers.relay_worker(link):
        helpers.run_tasks(manager, _tasks(1))
        before = link.porter_pid
        os.kill(before, signal.SIGKILL)
        helpers.wait_until(lambda: manager.wait(1) or link.porter_pid not in (None, before))
        helpers.run_tasks(manager, _tasks(2))
        assert link.counters.accepted == 1
    with helpers.relay_worker(link):
        helpers.run_tasks(manager, _tasks(1))
    assert link.counters.accepted == 2


def test_ctrl_c_during_wait_is_raised_when_the_wait_ends(make_manager: Any) -> None:
    manager = make_manager()
    with helpers.relay_worker(manager.shared_port):
        # The task sends it while the manager waits; the handler then runs in one of the
        # hook's callbacks, or after the wait, and must reach the program either way.
        manager.submit(vine.Task(f"kill -INT {os.getpid()}"))
        with pytest.raises(KeyboardInterrupt):
            helpers.wait_until(lambda: manager.wait(1) and False)
        helpers.run_tasks(manager, _tasks(1))


def test_the_porter_writes_its_log_beside_the_managers(make_manager: Any) -> None:
    manager = make_manager()
    log = Path(manager.logging_directory, "shared_port.log").read_text()
    assert f"serving sock_id={manager.shared_port.sock_id}" in log


def test_no_htcondor_is_a_clear_error_and_leaves_no_manager(tmp_path: Path) -> None:
    program = "import vine_sharedport as vine; vine.Manager(0, shared_port=True)"
    environment = dict(os.environ, PYTHONPATH=str(helpers.ROOT), CONDOR_CONFIG="/nonexistent")
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert re.search(r"DiscoveryError: .*/nonexistent", result.stderr)
    assert not list(tmp_path.iterdir()), "a run-info directory was left"


def test_workers_need_a_manager_with_a_shared_port(make_manager: Any) -> None:
    manager = make_manager(shared_port=False)
    with pytest.raises(vine.SettingError, match=naming("vine.Manager(shared_port=True)")):
        vine.submit_workers(manager)


def test_held_workers_tell_their_reason(make_manager: Any) -> None:
    manager = make_manager()
    missing = {"transfer_input_files": "/nonexistent/input"}
    with vine.submit_workers(manager, 1, commands=missing) as jobs:
        states = helpers.wait_until(lambda: (s := jobs.status()).held and s)
        assert states.left == 1
        assert "/nonexistent/input" in states.hold_reasons[0]


def test_the_worker_command_passes_sigterm_and_the_workers_status(make_manager: Any) -> None:
    manager = make_manager()
    with helpers.relay_worker(manager.shared_port) as worker:
        helpers.run_tasks(manager, _tasks(1))
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0  # vine_worker's own status when it is told to go
    helpers.wait_until(
        lambda: manager.wait(1) or helpers.stats_now(manager).workers_connected == 0
    )


def test_pythons_collector_stays_out_of_the_managers_c_code(
    make_manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Collected there, a FunctionCall would call the manager that is at work, or half freed."""
    import gc

    from vine_sharedport.hook import accept_hook

    seen: list[bool] = []
    look = accept_hook._detach_closed

    def note() -> None:
        seen.append(gc.isenabled())
        look()

    manager = make_manager()
    with helpers.relay_worker(manager.shared_port):
        helpers.run_tasks(manager, [vine.Task("true")])
    monkeypatch.setattr(accept_hook, "_detach_closed", note)
    manager.wait(1)
    manager._free()
    assert seen
    assert not any(seen)
    assert gc.isenabled()
