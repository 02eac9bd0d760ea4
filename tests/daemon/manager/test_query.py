"""Real managers, asked from another process as the factory asks them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.values import naming
from vine_sharedport.errors import Verdict
from vine_sharedport.factory.demand import workers_needed
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.manager_protocol.query import ManagerUnreachable, query_manager
from vine_sharedport.registry.reference import Reference
from vine_sharedport.wire.sinful import Sinful

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")

# The interpreter's lock is held while a manager waits: nothing else of its process runs.
ASKER = """
import json, sys
from vine_sharedport.errors import DialError
from vine_sharedport.manager_protocol.query import query_manager
from vine_sharedport.registry.reference import Reference
from vine_sharedport.wire.sinful import Sinful
place, questions, timeout = json.loads(sys.argv[1])
manager = Reference(**{**place, "address": Sinful.parse(place["address"])})
for what in questions:
    try:
        print(json.dumps(query_manager(manager, what, timeout=timeout)), flush=True)
    except DialError as error:
        print(json.dumps(f"{type(error).__name__}: {error}"), flush=True)
"""


@dataclass(frozen=True)
class System:
    """What a test needs to know of TaskVine or Work Queue."""

    name: str
    worker: str
    make: Callable[..., Any]
    task: Callable[[str], Any]


@pytest.fixture(params=["taskvine", "work_queue"])
def system(request: pytest.FixtureRequest, pool: Any, tmp_path: Path) -> Iterator[System]:
    """Return each of the two; their managers end with the test."""
    managers: list[Any] = []
    before = os.getcwd()
    os.chdir(tmp_path)  # where Work Queue's directory appears
    if request.param == "taskvine":
        library, worker = vine, "vine_worker"
    else:
        import vine_sharedport.work_queue as wq

        library, worker = wq, "work_queue_worker"

    def make(password: str | None = None, **kwargs: Any) -> Any:
        kwargs.setdefault("shared_port", True)
        if request.param == "taskvine":
            manager = vine.Manager(0, run_info_path=str(tmp_path / "run-info"), **kwargs)
            set_password_file = manager.set_password_file
        else:
            manager = library.WorkQueue(0, **kwargs)
            set_password_file = manager.specify_password_file
        managers.append(manager)
        if password:
            set_password_file(password)
        return manager

    yield System(request.param, worker, make, library.Task)
    for manager in managers:
        manager._free()
    os.chdir(before)


def place_of(system: System, manager: Any, way: str, **more: Any) -> Reference:
    """Return where the manager is, by TCP or by its shared port."""
    if way == "tcp":
        return Reference(Sinful("127.0.0.1", manager.port), system=system.name, **more)
    found: Reference = manager.shared_port.reference
    assert found.system == system.name
    return dataclasses.replace(found, **more)


def asked(manager: Any, place: Reference, *questions: str, timeout: float = 30.0) -> list[Any]:
    """Ask from another process while the manager waits for tasks; return the answers."""
    plain = {**dataclasses.asdict(place), "address": str(place)}
    argument = json.dumps([plain, questions, timeout])
    with tempfile.TemporaryFile("w+") as output:  # has room, which a pipe may not have
        with subprocess.Popen(
            [sys.executable, "-W", "error", "-c", ASKER, argument],
            stdout=output, env=dict(os.environ, PYTHONPATH=str(helpers.ROOT)),
        ) as process:  # fmt: skip
            try:
                helpers.wait_until(lambda: (manager.wait(1), process.poll())[1] is not None)
            finally:
                process.kill()
        assert process.returncode == 0
        output.seek(0)
        return [json.loads(line) for line in output]


def password_in(tmp_path: Path, content: bytes = b"open sesame") -> str:
    path = tmp_path / "password"
    path.write_bytes(content)
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize("way", ["tcp", "shared port"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("password", [False, True], ids=["open", "password"])
def test_a_manager_tells_its_tasks_and_workers(
    system: System, tmp_path: Path, password: bool, tls: bool, way: str
) -> None:
    file = password_in(tmp_path) if password else None
    manager = system.make(file, **({"ssl": True} if tls else {}))
    for _ in range(3):
        task = system.task("true")
        if system.name == "taskvine":
            task.set_cores(2)  # no worker has them
        else:
            task.specify_cores(2)
        manager.submit(task)
    options = (["--ssl"] if tls else []) + (["--password", file] if file else [])
    with helpers.worker_process(
        system.worker, "--cores", "1", "--memory", "500", "--disk", "500", *options,
        "--workdir", str(tmp_path), "127.0.0.1", str(manager.port),
    ) as process:  # fmt: skip
        helpers.wait_until(lambda: manager.wait(1) or manager.stats.workers_connected == 1)
        place = place_of(system, manager, way, tls=tls, password_file=file)
        if way == "shared port":
            assert place == manager.shared_port.reference, "it knows all by itself"
        (status,), (worker,), tasks = asked(manager, place, "manager", "workers", "tasks")
        process.kill()  # with TLS it takes 10 s to end by itself
    assert status["tasks_waiting"] == 3
    assert status["workers"] == 1
    assert len(tasks) == 3
    assert workers_needed([status], Options()) == 3
    assert workers_needed([status], Options(cores=2)) == 3, "two tasks of two cores each"
    # What a list of jobs is joined with; the start is in microseconds.
    assert worker["hostname"]
    assert worker.get("addrport", worker.get("address_port")).startswith("127.0.0.1:")
    assert abs(worker["start_time"] / 1e6 - time.time()) < 600


def test_the_name_of_the_system_need_not_be_right(system: System) -> None:
    manager = system.make(shared_port=False)
    other = {"taskvine": "work_queue", "work_queue": "taskvine"}[system.name]
    place = Reference(Sinful("127.0.0.1", manager.port), system=other)
    ((status,),) = asked(manager, place, "manager")
    assert status["port"] == manager.port


def test_a_line_break_at_the_passwords_end_counts_as_for_the_manager(
    system: System, tmp_path: Path
) -> None:
    file = password_in(tmp_path, b"open sesame\n")
    manager = system.make(file, shared_port=False)
    place = place_of(system, manager, "tcp", password_file=file)
    ((status,),) = asked(manager, place, "manager")
    assert status["port"] == manager.port


@pytest.mark.parametrize("way", ["tcp", "shared port"])
def test_what_the_manager_wants_is_named(system: System, tmp_path: Path, way: str) -> None:
    file = password_in(tmp_path)
    manager = system.make(file)
    place = place_of(system, manager, way, password_file=None)
    (none,) = asked(manager, place, "manager")
    assert "password_file" in none
    other = tmp_path / "other"
    other.write_bytes(b"another")
    (wrong,) = asked(manager, dataclasses.replace(place, password_file=str(other)), "manager")
    assert str(other) in wrong
    (tls,) = asked(manager, dataclasses.replace(place, password_file=file, tls=True), "manager")
    assert "TLS" in tls
    ((status,),) = asked(manager, dataclasses.replace(place, password_file=file), "manager")
    assert status["workers"] == 0, "who only asks is no worker"


def test_a_manager_that_wants_tls_is_named(system: System) -> None:
    manager = system.make(ssl=True, shared_port=False)
    (said,) = asked(manager, place_of(system, manager, "tcp"), "manager")
    assert "ssl" in said


def test_a_manager_without_a_password_is_named(system: System, tmp_path: Path) -> None:
    manager = system.make(shared_port=False)
    place = place_of(system, manager, "tcp", password_file=password_in(tmp_path))
    (said,) = asked(manager, place, "manager")
    assert "password_file" in said


def test_a_wrong_secret_is_named(system: System, tmp_path: Path) -> None:
    manager = system.make()
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(32))
    place = dataclasses.replace(
        place_of(system, manager, "shared port"), secret_file=str(secret)
    )
    with pytest.raises(ManagerUnreachable, match=naming(secret)):
        query_manager(place, "manager", timeout=20)  # its porter alone answers


def test_a_busy_manager_is_told_from_one_that_is_gone(system: System) -> None:
    manager = system.make()
    busy = place_of(system, manager, "shared port")
    with pytest.raises(ManagerUnreachable, match=naming("0.3 s")) as caught:
        query_manager(busy, "manager", timeout=0.3)
    assert caught.value.verdict is Verdict.TIMED_OUT
    by_tcp = place_of(system, manager, "tcp")
    with pytest.raises(ManagerUnreachable, match=naming("0.3 s")) as caught:
        query_manager(by_tcp, "manager", timeout=0.3)
    assert caught.value.verdict is Verdict.TIMED_OUT
    manager._free()
    with pytest.raises(ManagerUnreachable) as caught:
        query_manager(busy, "manager", timeout=20)
    assert caught.value.verdict is not Verdict.TIMED_OUT
    with pytest.raises(ManagerUnreachable, match="Connection refused"):
        query_manager(by_tcp, "manager", timeout=20)


def test_asking_does_not_hold_the_manager_up(system: System) -> None:
    """While one client asks without pause and another says nothing, tasks go on."""
    manager = system.make()
    place = place_of(system, manager, "tcp")
    with contextlib.ExitStack() as stack:
        stack.enter_context(socket.create_connection(("127.0.0.1", manager.port)))
        stack.enter_context(helpers.relay_worker(manager.shared_port, worker=system.worker))
        for _ in range(20):
            manager.submit(system.task("true"))
        answers = asked(manager, place, *["manager"] * 100)
        helpers.wait_until(lambda: manager.wait(1) or manager.empty())
    ((first,), *_, (last,)) = answers
    assert len(answers) == 100
    # What the manager has counted itself, in microseconds; most of it is for us.
    spent = last["time_status_msgs"] - first["time_status_msgs"]
    assert spent / 99 < 50_000
