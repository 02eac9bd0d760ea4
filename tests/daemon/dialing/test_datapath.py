"""With the shim nothing stands between a manager and its worker once they are connected."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vine_sharedport as vine
from tests.daemon import helpers
from vine_sharedport.bundle import shim_build

pytestmark = pytest.mark.daemon

_TASKS = 40


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the files that travel to an execute point."""
    directory = tmp_path_factory.mktemp("kit")
    shutil.copy(Path(vine.__file__).parent / "worker/launcher.sh", directory)
    os.chmod(directory / "launcher.sh", 0o755)
    if not any(shutil.which(name) for name in ("gcc", "cc", "clang")):
        pytest.skip("no C compiler found")
    shim_build.build(str(directory / shim_build.LIBRARY))
    return directory


@contextlib.contextmanager
def _worker(kit: Path, route: str, manager: Any, *prefix: str) -> Iterator[int]:
    """Run a worker by TCP or by the shim until the block ends; yield its process's number."""
    options = ["--cores", "1", "--memory", "500", "--disk", "500", "--single-shot"]
    environment = dict(os.environ)
    if route == "shim":
        link = manager.shared_port
        environment.update(
            VINE_SHAREDPORT_ADDRESS=str(link.address),
            VINE_SHAREDPORT_SECRET_FILE=os.path.abspath(link.secret_file),
            VINE_SHAREDPORT_TRANSPORT="shim",
        )
        command = [str(kit / "launcher.sh"), "vine_worker", *options]
    else:
        command = ["vine_worker", *options, "127.0.0.1", str(manager.port)]
    with helpers.worker_process(*prefix, *command, env=environment, cwd=kit) as process:
        _wait_for_workers(manager, 1)
        yield process.pid
    _wait_for_workers(manager, 0)


def _wait_for_workers(manager: Any, count: int) -> None:
    def there() -> bool:
        manager.wait(1)
        return bool(helpers.stats_now(manager).workers_connected == count)

    helpers.wait_until(there)


class _Trace:
    """The system calls of a worker from its start, with where in memory each was made.

    The shim makes its calls itself, without the C library, so they are known by the place.
    """

    def __init__(self, path: Path, library: range, steady_since: float) -> None:
        self.shims: list[tuple[float, str]] = []
        self.steady: Counter[str] = Counter()
        for line in path.read_text(errors="replace").splitlines():
            found = re.match(r"([0-9.]+) \[([0-9a-f]+)\] (\w+)\(", line)
            if not found:
                continue  # a signal, or the end
            when, place, name = float(found[1]), int(found[2], 16), found[3]
            if name == "execve":
                self.shims.clear()  # what came before was another program
            elif place in library:
                self.shims.append((when, name))
            if when > steady_since:
                self.steady[name] += 1


def _trace(kit: Path, route: str, manager: Any, tmp_path: Path) -> tuple[_Trace, float]:
    """Let a worker work under strace; return its calls and when it was connected."""
    output = tmp_path / f"{route}.strace"
    source = tmp_path / "input"
    source.write_bytes(os.urandom(2**20))
    with _worker(kit, route, manager, "strace", "-i", "-ttt", "-o", str(output)) as strace:
        (worker,) = _children(strace)
        try:
            library = _place_of(shim_build.LIBRARY, worker)
            helpers.run_tasks(manager, [vine.Task(":")])
            since = time.time()
            tasks = [vine.Task("cat input") for _ in range(_TASKS)]
            for task in tasks:
                task.add_input(manager.declare_file(str(source), cache=False), "input")
            helpers.run_tasks(manager, tasks)
        finally:
            os.kill(worker, signal.SIGTERM)  # strace would let it live on
    return _Trace(output, library, since), since


def _place_of(library: str, pid: int) -> range:
    """Return the addresses of a library's code in a process."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        addresses, rights, *_ = line.split()
        if line.endswith(f"/{library}") and "x" in rights:
            start, end = addresses.split("-")
            return range(int(start, 16), int(end, 16))
    return range(0)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace not found")
def test_connected_worker_makes_no_system_call_of_the_shim(
    make_manager: Any, kit: Path, tmp_path: Path
) -> None:
    manager = make_manager()
    by_tcp, _ = _trace(kit, "tcp", manager, tmp_path)
    by_shim, since = _trace(kit, "shim", manager, tmp_path)

    assert "connect" in {name for _, name in by_shim.shims}, "the trace does not see the shim"
    assert not [call for call in by_shim.shims if call[0] > since]
    # All of both went through the trace, and the worker did the same by both ways.
    assert by_shim.steady["read"] > _TASKS
    assert by_tcp.steady["read"] > _TASKS
    for name in ("socket", "connect", "clone", "fork", "vfork", "execve"):
        assert by_shim.steady[name] == by_tcp.steady[name], name


def _names(mark: str) -> list[str]:
    """Return the programs that a worker's environment has reached, once they stay the same."""
    last: list[list[str]] = []

    def stay() -> bool:
        names = []
        for pid in helpers.processes_with(mark):
            with contextlib.suppress(OSError):  # it has just ended
                names.append(Path(f"/proc/{pid}/comm").read_text().strip())
        # A task's own come and go: its shell's sleeps.
        last.append(sorted(name for name in names if name != "sleep"))
        time.sleep(0.1)
        return len(last) > 3 and last[-1] == last[-2] == last[-3]

    helpers.wait_until(stay)
    return last[-1]


def _surroundings(kit: Path, route: str, manager: Any, tmp_path: Path) -> dict[str, Any]:
    """Return what exists because of a worker, while it is idle and while it has a task."""
    runs, go_on = tmp_path / f"{route}.runs", tmp_path / f"{route}.go-on"
    mark = str(tmp_path / route)
    task = vine.Task(f"touch {runs}; while [ ! -e {go_on} ]; do sleep 0.1; done")
    found: dict[str, Any] = {}
    with _worker(kit, route, manager, "env", f"OF_THIS_WORKER={mark}") as worker:
        helpers.run_tasks(manager, [vine.Task(":")])
        found["idle"] = _names(mark)
        found["threads"] = len(os.listdir(f"/proc/{worker}/task"))
        found["sockets"] = len(helpers.socket_inodes(worker))
        found["descriptors"] = len(os.listdir(f"/proc/{worker}/fd"))
        found["program"] = os.path.basename(os.readlink(f"/proc/{worker}/exe"))
        manager.submit(task)

        def task_runs() -> bool:
            manager.wait(1)
            return runs.exists()

        helpers.wait_until(task_runs)
        found["busy"] = _names(mark)
        go_on.touch()
        assert helpers.wait_until(lambda: manager.wait(1)).successful()
    return found


def test_shim_leaves_no_process_thread_or_descriptor_behind(
    make_manager: Any, kit: Path, tmp_path: Path
) -> None:
    manager = make_manager()
    by_tcp = _surroundings(kit, "tcp", manager, tmp_path)
    by_shim = _surroundings(kit, "shim", manager, tmp_path)
    # It has a child of its own, which serves other workers.
    assert set(by_tcp["idle"]) == {"vine_worker"}
    assert set(by_tcp["busy"]) == {"vine_worker", "sh"}
    assert by_shim == by_tcp


def test_benchmark_of_the_data_path_works(kit: Path, tmp_path: Path) -> None:
    file = tmp_path / "datapath.json"
    program = Path(helpers.ROOT, "benchmarks", "datapath.py")
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(program), "--quick", "--json", str(file)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    last = result.stdout.splitlines()[-3:]
    number = r"\d+\.\d\d"
    for route, line in zip(("tcp", "shim", "relay"), last):
        assert re.fullmatch(f"{route} tasks_per_s={number} put={number} get={number}", line), (
            line
        )
    measured = json.loads(file.read_text())
    assert set(measured["rounds"][0]) == {"tcp", "shim", "relay", "stock"}
    assert measured["setting"]["cores"] > 0
    # One short round is no report.
    assert "verdict: none" in result.stdout


def test_copying_benchmark_of_the_relay_works() -> None:
    program = Path(helpers.ROOT, "benchmarks", "relay_copy.py")
    result = subprocess.run(
        [sys.executable, str(program), "--rounds", "1", "--mib", "16",
         "--ways", "copy-1M,splice-64K"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = [line.split("|")[1].strip() for line in result.stdout.splitlines()[2:]]
    assert rows == ["direct", "copy-1M", "splice-64K"]
