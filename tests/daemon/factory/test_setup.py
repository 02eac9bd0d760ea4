"""A factory finds its manager's secret and its own place, or says what is missing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.daemon.factory_helpers import SWIFT, drive, finish, read, wait_until_gone
from tests.values import naming
from vine_sharedport.errors import OptionError
from vine_sharedport.factory.manager_view.lookup import find_by_name
from vine_sharedport.factory.options.stored import read_config
from vine_sharedport.factory.report import paths

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")


def start(cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vine_sharedport", "factory", *arguments],
        cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(helpers.ROOT)},
    )  # fmt: skip


def test_a_missing_secret_is_told_at_the_start_with_the_place_where_it_was_looked_for(
    make_manager: Any, tmp_path: Path
) -> None:
    name = f"gate{os.getpid()}"
    manager = make_manager(shared_port=vine.SharedPort(name=name))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    found = start(elsewhere, "-M", name)
    said = found.communicate(timeout=30)[1]
    assert found.returncode == 2
    assert f"{elsewhere}/vine-run-info/shared_port-{name}.secret" in said
    assert "--secret-file" in said
    assert "Traceback" not in said
    assert not list(elsewhere.iterdir())
    address = str(manager.shared_port.address)
    found = start(elsewhere, "--address", address)
    assert "--secret-file" in found.communicate(timeout=30)[1]


def test_a_manager_without_a_gate_needs_no_secret(make_manager: Any, tmp_path: Path) -> None:
    name = f"open{os.getpid()}"
    manager = make_manager(shared_port=vine.SharedPort(name=name, gate=False))
    with vine.Factory("condor", manager_name=name, **SWIFT, directory=str(tmp_path / "f")):
        manager.submit(vine.Task("echo open"))
        (task,) = finish(manager)
    assert task.output == "open\n"


def test_a_manager_is_found_by_its_own_name_where_it_was_started(
    make_manager: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manager = make_manager(name="my sweep")
    found = start(tmp_path, "-M", "my sweep", "--min-workers", "0")
    try:
        status = tmp_path / f"vine-factory-{manager.shared_port.sock_id}"
        drive(
            manager,
            lambda: (now := read(str(status))) is not None and now.manager.reachable,
        )
    finally:
        found.terminate()
        found.communicate(timeout=30)
    # Of two with the same name none is taken.
    make_manager(name="my sweep")
    found = start(tmp_path, "-M", "my sweep")
    assert "'my sweep'" in found.communicate()[1]
    # One that has ended is none.
    manager._free()
    assert find_by_name("my sweep").address != manager.shared_port.address


@pytest.mark.parametrize("form", ["of the shared port", "of the manager"])
def test_a_manager_may_be_started_after_its_factory(
    pool: Any, make_manager: Any, tmp_path: Path, form: str
) -> None:
    name = f"late{os.getpid()}"
    found = start(tmp_path, "-M", name, "-w", "0", "-W", "1", "--cycle", "0.5")
    status = str(tmp_path / f"vine-factory-{name}")
    try:
        helpers.wait_until(lambda: (now := read(status)) is not None and now.manager.error)
        told = read(status)
        assert told is not None
        assert told.phase == "waiting-for-manager"
        assert repr(name) in told.message
        assert f" {name} " in str(told.manager.error)
        make: dict[str, Any] = {"name": name}
        if form == "of the shared port":
            make = {"shared_port": vine.SharedPort(name=name)}
        manager = make_manager(run_info_path=str(tmp_path / "vine-run-info"), **make)
        manager.submit(vine.Task("echo late"))
        (task,) = finish(manager)
        assert task.output == "late\n"
    finally:
        found.terminate()
        found.communicate(timeout=60)
    wait_until_gone(manager.shared_port.sock_id)


def test_a_name_that_nobody_has_is_told(make_manager: Any, tmp_path: Path) -> None:
    found = start(tmp_path, "-M", "no such name")
    said = found.communicate(timeout=30)[1]
    assert found.returncode == 2
    assert "'no such name'" in said
    assert "Traceback" not in said


def test_a_work_queues_factory_is_in_the_directory_of_its_run(
    pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vine_sharedport.work_queue as wq

    monkeypatch.chdir(tmp_path)
    queue = wq.WorkQueue(0, shared_port=True)
    try:
        run = os.path.dirname(queue.shared_port.secret_file)
        with wq.Factory("condor", manager=queue, **SWIFT) as workers:
            sock_id = queue.shared_port.sock_id
            assert workers.directory == os.path.join(run, f"vine-factory-{sock_id}")
            status = start(tmp_path, "status", "--json")
            assert json.loads(status.communicate(timeout=30)[0])["pid"] == workers.status().pid
        assert [path.name for path in tmp_path.iterdir()] == ["work-queue-run-info"]
    finally:
        queue._free()


def test_an_attribute_tells_what_holds_while_it_runs(make_manager: Any, tmp_path: Path) -> None:
    manager = make_manager()
    config = tmp_path / "mine.json"
    config.write_text(json.dumps({"max-workers": 2}))
    options = {name: value for name, value in SWIFT.items() if name != "max_workers"}
    with vine.Factory("condor", manager=manager, config_file=str(config), **options) as workers:
        with pytest.raises(OptionError, match=naming("max_workers", 2, config, 50)):
            workers.max_workers = 50
        assert workers.max_workers == 2
        config.write_text(json.dumps({"max-workers": 1}))
        assert workers.max_workers == 1
        workers.min_workers = 9  # it is max_workers that holds
        drive(manager, lambda: workers.status().workers.connected == 1)
        assert (workers.status().submitted, workers.status().max_workers) == (1, 1)
        (problem,) = workers.status().problems
        assert problem.explanation == (
            "min_workers is 9, but max_workers is 1: 1 holds for both"
        )
        config.write_text("{}")
        workers.max_workers = 3
        drive(manager, lambda: workers.status().workers.connected == 3)
        workers.min_workers = 3
        drive(manager, lambda: not workers.status().problems)


def test_of_two_that_start_at_once_one_has_the_directory_and_its_own_configuration(
    make_manager: Any, tmp_path: Path
) -> None:
    link = make_manager().shared_port
    directory = str(tmp_path / "there")
    place = ["--address", str(link.address), "--secret-file", link.secret_file, "-S", directory]
    started = {n: start(tmp_path, *place, "-w", "0", "-W", str(n)) for n in (1, 2, 3, 4)}
    with contextlib.ExitStack() as stack:
        for process in started.values():
            stack.callback(process.communicate, timeout=60)
            stack.callback(process.send_signal, signal.SIGTERM)
        helpers.wait_until(lambda: sum(p.poll() is None for p in started.values()) == 1)
        helpers.wait_until(lambda: read(directory))
        ((most, winner),) = ((n, p) for n, p in started.items() if p.poll() is None)
        assert read(directory).pid == winner.pid  # type: ignore[union-attr]
        assert read_config(os.path.join(directory, paths.CONFIG)).max_workers == most
        for process in set(started.values()) - {winner}:
            assert process.returncode == 1
            assert process.stderr is not None
            assert "factory stop" in process.stderr.read()
