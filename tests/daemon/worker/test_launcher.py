"""Real workers by the launcher: shim and relay, other shells, a root without Python."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import vine_sharedport as vine
from tests.daemon import helpers
from vine_sharedport.bundle import local_worker, package, shim_build

pytestmark = pytest.mark.daemon

_RESOURCES = ["--cores", "1", "--memory", "500", "--disk", "500"]


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """Return a directory as a worker's job finds it: launcher, shim and relay."""
    directory = tmp_path / "job"
    directory.mkdir()
    launcher = Path(local_worker.launcher_path())
    shutil.copy(launcher, directory)
    library = shim_build.library_path()
    assert library is not None
    shutil.copy(library, directory)
    package.write_package(str(directory / "vine_sharedport.pyz"))
    return directory


def _variables(job: Path, link: Any, **variables: str) -> dict[str, str]:
    (job / "vine_sharedport.address").write_text(f"{link.address}\n")
    if link.secret_file:
        shutil.copy(link.secret_file, job / "vine_sharedport.secret")
    return {**os.environ, "_CONDOR_SCRATCH_DIR": str(job), **variables}


@contextmanager
def _launched(job: Path, link: Any, *words: str, **variables: str) -> Iterator[Any]:
    """Run the launcher in the job's directory; its messages go to the file stderr there."""
    with open(job / "stderr", "wb") as stderr:
        process = subprocess.Popen(
            words, cwd=job, env=_variables(job, link, **variables),
            stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(20)
            sys.stderr.write((job / "stderr").read_text())  # pytest shows it if the test fails


@pytest.mark.parametrize("transport", ["shim", "relay"])
@pytest.mark.parametrize("shell", ["dash", "busybox sh"])
def test_a_real_worker_runs_tasks(
    make_manager: Any, job: Path, transport: str, shell: str
) -> None:
    manager = make_manager()
    words = [*shell.split(), "./launcher.sh", "vine_worker", *_RESOURCES]
    with _launched(job, manager.shared_port, *words, VINE_SHAREDPORT_TRANSPORT=transport):
        tasks = [vine.Task("env; echo preload ${LD_PRELOAD-none}") for _ in range(5)]
        for task in helpers.run_tasks(manager, tasks):
            assert "VINE_SHAREDPORT_" not in task.output
            assert "preload none" in task.output
    assert f": {transport}, as VINE_SHAREDPORT_TRANSPORT says;" in (job / "stderr").read_text()
    counters = manager.shared_port.counters
    assert (counters.accepted, counters.by_tcp) == (1, 0)


def test_a_work_queue_worker_too(pool: Any, job: Path, tmp_path: Path) -> None:
    import vine_sharedport.work_queue as wq

    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        queue = wq.WorkQueue(0, shared_port=True)
        words = ["sh", "./launcher.sh", "work_queue_worker", *_RESOURCES]
        with _launched(job, queue.shared_port, *words, VINE_SHAREDPORT_TRANSPORT="shim"):
            queue.submit(wq.Task("echo ${LD_PRELOAD-none}"))
            task = helpers.wait_until(lambda: queue.wait(1), timeout=60)
            assert task.output.strip() == "none"
        assert queue.shared_port.counters.by_tcp == 0
        queue._free()
    finally:
        os.chdir(before)


@pytest.mark.parametrize("settings", [{"gate": False}, {}], ids=["open", "gate"])
def test_the_shim_leaves_the_managers_password_and_tls_alone(
    make_manager: Any, job: Path, settings: dict[str, bool]
) -> None:
    manager = make_manager(ssl=True, shared_port=vine.SharedPort(**settings))
    password = job / "password"
    password.write_text("open sesame")
    password.chmod(0o600)
    manager.set_password_file(str(password))
    words = ["sh", "./launcher.sh", "vine_worker", *_RESOURCES, "--ssl", "-P", "password"]
    with _launched(job, manager.shared_port, *words, VINE_SHAREDPORT_TRANSPORT="shim"):
        helpers.run_tasks(manager, [vine.Task("true")])


def test_no_process_stands_between(make_manager: Any, job: Path) -> None:
    manager = make_manager()
    words = ["sh", "./launcher.sh", "vine_worker", *_RESOURCES]
    with _launched(job, manager.shared_port, *words) as process:
        helpers.run_tasks(manager, [vine.Task("true")])
        assert Path(f"/proc/{process.pid}/comm").read_text().strip() == "vine_worker"
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert str(job / "libvine_sharedport.so") in maps


def test_an_evicted_worker_says_goodbye(make_manager: Any, job: Path) -> None:
    manager = make_manager()
    words = ["sh", "./launcher.sh", "vine_worker", *_RESOURCES]
    with _launched(job, manager.shared_port, *words) as process:
        helpers.run_tasks(manager, [vine.Task("true")])
        assert helpers.stats_now(manager).workers_connected == 1
        assert list(job.glob("worker-*"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        helpers.wait_until(
            lambda: manager.wait(1) or helpers.stats_now(manager).workers_connected == 0
        )
    assert list(job.glob("worker-*")) == []


@pytest.mark.parametrize("transport", ["shim", "relay"])
@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "<&- 2>&-", "2>&-"])
def test_closed_standard_files_do_not_get_in_the_way(
    make_manager: Any, job: Path, transport: str, closed: str
) -> None:
    manager = make_manager()
    script = f"exec ./launcher.sh vine_worker {' '.join(_RESOURCES)} {closed}"
    with _launched(
        job, manager.shared_port, "sh", "-c", script, VINE_SHAREDPORT_TRANSPORT=transport
    ):
        helpers.run_tasks(manager, [vine.Task("true") for _ in range(3)], timeout=20)
    assert manager.shared_port.counters.accepted == 1


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM])
@pytest.mark.parametrize("transport", ["shim", "relay"])
def test_every_goodbye_of_a_batch_system_reaches_the_worker(
    make_manager: Any, job: Path, transport: str, number: int
) -> None:
    manager = make_manager()
    words = ["sh", "./launcher.sh", "vine_worker", *_RESOURCES]
    with _launched(
        job, manager.shared_port, *words, VINE_SHAREDPORT_TRANSPORT=transport
    ) as process:
        helpers.run_tasks(manager, [vine.Task("true")])
        process.send_signal(number)
        assert process.wait(20) == 0
    assert list(job.glob("worker-*")) == []


@pytest.mark.parametrize("transport", ["shim", "relay"])
def test_a_wrong_secret_ends_the_worker_at_once(
    make_manager: Any, job: Path, transport: str
) -> None:
    manager = make_manager()
    other = job / "other.secret"
    other.write_bytes(bytes(32))
    words = ["sh", "./launcher.sh", "vine_worker", *_RESOURCES]
    started = time.monotonic()
    with _launched(
        job, manager.shared_port, *words,
        VINE_SHAREDPORT_TRANSPORT=transport, VINE_SHAREDPORT_SECRET_FILE=str(other),
    ) as process:  # fmt: skip
        assert process.wait(30) == 77
    assert time.monotonic() - started < 15
    assert "it has another secret than this worker" in (job / "stderr").read_text()
    assert list(job.glob("worker-*")) == []  # it has cleaned up
    helpers.wait_until(lambda: manager.shared_port.counters.refused.get("wrong-secret", 0) >= 2)


@pytest.mark.parametrize("transport", ["shim", "relay"])
def test_a_manager_that_is_gone_is_given_up_in_time(
    make_manager: Any, job: Path, transport: str
) -> None:
    manager = make_manager()
    words = ["sh", "./launcher.sh", "vine_worker", *_RESOURCES, "-t", "5"]
    link = manager.shared_port
    address = str(link.address).replace(link.sock_id, "nobody_42")
    started = time.monotonic()
    with _launched(
        job, link, *words,
        VINE_SHAREDPORT_TRANSPORT=transport, VINE_SHAREDPORT_ADDRESS=address,
    ) as process:  # fmt: skip
        assert process.wait(60) == 75
    assert 3 < time.monotonic() - started < 30
    assert "no manager serves this sock id" in (job / "stderr").read_text()


@pytest.mark.parametrize("transport", ["shim", "relay"])
def test_a_worker_waits_for_its_manager(make_manager: Any, job: Path, transport: str) -> None:
    first = make_manager(shared_port=vine.SharedPort(name="waited_for"))
    words = ["sh", "./launcher.sh", "vine_worker", *_RESOURCES]
    _variables(job, first.shared_port)
    address = first.shared_port.address
    first._free()
    with open(job / "stderr", "wb") as stderr:
        process = subprocess.Popen(
            words, cwd=job, stdout=subprocess.DEVNULL, stderr=stderr,
            env={**os.environ, "VINE_SHAREDPORT_TRANSPORT": transport},
        )  # fmt: skip
    try:
        helpers.wait_until(lambda: "no manager serves" in (job / "stderr").read_text())
        second = make_manager(shared_port=vine.SharedPort(name="waited_for"))
        assert second.shared_port.address == address
        helpers.run_tasks(second, [vine.Task("true")])
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("transport", ["shim", "relay"])
@pytest.mark.parametrize(
    ("addrs", "by"),
    [
        ("[--1]-{port}", "::1"),
        ("127.0.0.1-1+[--1]-{port}", "::1"),
        ("[--1]-1+127.0.0.1-{port}", "127.0.0.1"),
    ],
)
def test_workers_come_by_either_family(
    make_manager: Any, job: Path, dual: tuple[int, str], transport: str, addrs: str, by: str
) -> None:
    port, directory = dual
    address = f"<127.0.0.1:1?addrs={addrs.format(port=port)}>"
    manager = make_manager(shared_port=vine.SharedPort(socket_dir=directory, address=address))
    words = ["sh", "./launcher.sh", "vine_worker", *_RESOURCES]
    with _launched(job, manager.shared_port, *words, VINE_SHAREDPORT_TRANSPORT=transport):
        helpers.run_tasks(manager, [vine.Task("true") for _ in range(3)], timeout=30)
    counters = manager.shared_port.counters
    assert (counters.accepted, counters.by_tcp) == (1, 0)
    if transport == "shim":
        assert f"by {by} port {port}, through the gate" in (job / "stderr").read_text()


@pytest.fixture
def bare_root(tmp_path: Path, job: Path) -> Path:
    """Return a root with busybox, a worker and its libraries: no Python, no bash."""
    busybox, unshare = shutil.which("busybox"), shutil.which("unshare")
    if busybox is None or unshare is None:
        pytest.skip("no busybox or no unshare")
    if subprocess.run([unshare, "-r", "true"], check=False).returncode != 0:
        pytest.skip("no user namespaces here")
    root = tmp_path / "root"
    for name in ("bin", "tmp", "job", "dev", "proc"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin" / "busybox")
    subprocess.run(
        [unshare, "-r", "chroot", str(root), "/bin/busybox", "--install", "-s", "/bin"],
        check=True,
    )
    worker = shutil.which("vine_worker")
    assert worker is not None
    shutil.copy(os.path.realpath(worker), job / "vine_worker")
    listed = subprocess.run(["ldd", worker], capture_output=True, text=True, check=True)
    for word in listed.stdout.split():
        if word.startswith("/"):
            target = root / word[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, target)
    return root


def test_a_root_without_python_is_enough(make_manager: Any, job: Path, bare_root: Path) -> None:
    manager = make_manager()
    variables = _variables(job, manager.shared_port)
    (job / "vine_sharedport.pyz").unlink()  # nothing there could run it
    shutil.copytree(job, bare_root / "job", dirs_exist_ok=True)
    script = (
        f"busybox mount --rbind /dev {bare_root}/dev &&"
        f" busybox mount --rbind /proc {bare_root}/proc &&"
        f" exec chroot {bare_root} /bin/sh -c 'cd /job && exec ./launcher.sh ./vine_worker"
        f" {' '.join(_RESOURCES)}'"
    )
    with open(job / "stderr", "wb") as stderr:
        process = subprocess.Popen(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
            stdout=stderr, stderr=stderr,
            env={**variables, "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
                 "_CONDOR_SCRATCH_DIR": "/job"},
        )  # fmt: skip
    try:
        tasks = [vine.Task("python3 -V || echo no python") for _ in range(3)]
        outputs = {task.output for task in helpers.run_tasks(manager, tasks, timeout=20)}
        assert all("no python" in output for output in outputs), outputs
    finally:
        process.terminate()
        process.wait(20)
        sys.stderr.write((job / "stderr").read_text())
    assert "shim, because" in (job / "stderr").read_text()
    assert manager.shared_port.counters.by_tcp == 0
