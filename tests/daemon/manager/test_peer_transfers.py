"""Workers that do not reach each other: no workflow stands still for it."""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import vine_sharedport as vine
from tests.daemon.helpers import ROOT, relay_worker, wait_until, worker_process
from vine_sharedport.manager import peer_transfers

SEED = random.randrange(1 << 32)
RANDOM = random.Random(SEED)
UNREACHABLE = ("refused", "dropped", "silent")


@contextlib.contextmanager
def nowhere(kind: str) -> Iterator[str]:
    """Give an address, as the NAT's own, at which no worker answers."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        host, port = listener.getsockname()
        if kind == "dropped":  # who is in the queue fills it: no SYN is answered any more
            listener.listen(0)
            for _ in range(2):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex((host, port))
        elif kind == "silent":
            listener.listen(100)
        elif kind == "noise":
            listener.listen(100)
            threading.Thread(target=_talk, args=(listener,), daemon=True).start()
        yield f"{host}:{port}"


def _talk(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            with client, contextlib.suppress(OSError):
                client.sendall(random.Random(SEED).randbytes(50) + b"\n")


@contextlib.contextmanager
def strangers(manager: Any, kind: str, count: int = 2) -> Iterator[None]:
    """Run workers that cannot be reached by each other, with a feature each."""
    with contextlib.ExitStack() as stack:
        for number in range(count):
            at = stack.enter_context(nowhere(kind))
            stack.enter_context(
                relay_worker(
                    manager.shared_port, "--contact-hostport", at, "--feature", f"w{number}"
                )
            )
        yield


def collect(manager: Any, *, seconds: float = 18) -> list[Any]:
    """Return the tasks that have come back, all of them unless the time is over."""
    done = []
    until = time.monotonic() + seconds
    while not manager.empty() and time.monotonic() < until:
        task = manager.wait(1)
        if task is not None:
            done.append(task)
    return done


def kinds() -> list[str]:
    return [*UNREACHABLE, "noise"]


@pytest.mark.parametrize("kind", kinds())
def test_a_cached_file_reaches_every_worker(
    make_manager: Any, tmp_path: Any, kind: str
) -> None:
    content = RANDOM.randbytes(RANDOM.randrange(1, 5_000_000))
    (tmp_path / "big").write_bytes(content)
    manager = make_manager()
    file = manager.declare_file(str(tmp_path / "big"), cache=True)
    with strangers(manager, kind):
        for number in range(12):
            task = vine.Task("sha256sum big")
            task.add_input(file, "big")
            task.add_feature(f"w{number % 2}")
            manager.submit(task)
        done = collect(manager)
    digest = hashlib.sha256(content).hexdigest()
    assert [task.std_output.split()[0] for task in done] == [digest] * 12, SEED
    assert manager.empty()


@pytest.mark.parametrize("kind", kinds())
def test_chains_of_temps_are_computed_to_the_end(make_manager: Any, kind: str) -> None:
    manager = make_manager()
    fan_in, depth = RANDOM.randrange(2, 6), RANDOM.randrange(2, 4)
    files, texts = [], []
    for number in range(fan_in):
        text = f"{RANDOM.random()}"
        task = vine.Task(f"echo {text} > out")
        files.append(manager.declare_temp())
        task.add_output(files[-1], "out")
        task.add_feature(f"w{number % 2}")
        manager.submit(task)
        texts.append(f"{text}\n")
    for level in range(depth):
        made = []
        for number in range(fan_in):
            task = vine.Task(f"cat {' '.join(f'in{i}' for i in range(fan_in))} > out")
            for i, file in enumerate(files):
                task.add_input(file, f"in{i}")
            made.append(manager.declare_temp())
            task.add_output(made[-1], "out")
            task.add_feature(f"w{(number + level) % 2}")
            manager.submit(task)
        files, texts = made, ["".join(texts)] * fan_in
    last = vine.Task("cat in* | sha256sum")
    for i, file in enumerate(files):
        last.add_input(file, f"in{i}")
    manager.submit(last)
    with strangers(manager, kind):
        done = collect(manager)
    assert [task.result for task in done] == ["success"] * (fan_in * (depth + 1) + 1), SEED
    assert last.std_output.split()[0] == hashlib.sha256("".join(texts).encode()).hexdigest()


def chain(manager: Any, length: int) -> list[Any]:
    """Submit tasks each of which adds a line to the temp of the one before."""
    tasks: list[Any] = []
    before = None
    for number in range(length):
        task = vine.Task(f"cat in > out 2> /dev/null; echo {number} >> out; cat out")
        if before is not None:
            task.add_input(before, "in")
        before = manager.declare_temp()
        task.add_output(before, "out")
        task.set_tag(f"step {number}")
        manager.submit(task)
        tasks.append(task)
    return tasks


@pytest.mark.parametrize("how", ["id", "tag", "forever", "turned round"])
def test_the_last_of_a_chain_comes_though_nobody_waits_for_the_others(
    make_manager: Any, how: str
) -> None:
    manager = make_manager()
    length = RANDOM.randrange(3, 6)
    tasks = chain(manager, length)
    with relay_worker(manager.shared_port):
        if how == "id":
            last = manager.wait_for_task_id(tasks[-1].id, 18)
        elif how == "tag":
            last = manager.wait_for_tag(f"step {length - 1}", timeout=18)
        elif how == "forever":
            last = manager.wait_for_task_id(tasks[-1].id)
        else:
            for task in reversed(tasks):
                last = last_or(manager.wait_for_task_id(task.id, 18), tasks[-1])
    assert last is tasks[-1]
    assert last.std_output.split() == [str(n) for n in range(length)], SEED


def last_or(task: Any, last: Any) -> Any:
    assert task is not None
    return last


def test_a_task_that_waits_for_a_temp_is_there_for_all_who_ask(make_manager: Any) -> None:
    manager = make_manager()
    tasks = chain(manager, 4)
    assert not manager.empty()
    stats = wait_until(lambda: manager.wait(1) or manager.stats)
    assert stats.tasks_waiting == 4
    assert {task.state for task in tasks} == {"READY"}
    assert manager.cancel_by_task_id(tasks[3].id)
    cancelled = manager.wait(5)
    assert cancelled is tasks[3]
    assert cancelled.result == "cancelled"
    assert cancelled.resources_requested.start == -1  # as it was given
    with relay_worker(manager.shared_port):
        assert collect(manager) == tasks[:3]
    assert tasks[2].std_output.split() == ["0", "1", "2"]


@pytest.mark.parametrize("start", [0, -5, 3])
def test_a_task_keeps_the_start_time_that_it_was_given(make_manager: Any, start: int) -> None:
    manager = make_manager()
    moment = int(time.time() + start) if start else 0
    maker, user = vine.Task("echo x > out"), vine.Task("cat in; date +%s")
    temp = manager.declare_temp()
    maker.add_output(temp, "out")
    user.add_input(temp, "in")
    user.set_time_start(moment * 1_000_000)
    manager.submit(user)  # before the one that makes its input
    manager.submit(maker)
    with relay_worker(manager.shared_port):
        done = collect(manager)
    assert done == [maker, user]
    text, ran = user.std_output.split()
    assert text == "x"
    assert int(ran) >= moment
    assert user.resources_requested.start == (moment or -1)


FAILURES = {
    "writes nothing": "true",
    "fails": "exit 3",
    "is killed": "kill -9 $$",
    "is never sent": "echo made > out",
}


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("claimed", [True, False])
def test_who_needs_what_is_never_made_comes_back(
    make_manager: Any, how: str, claimed: bool
) -> None:
    manager = make_manager()
    temps = [manager.declare_temp() for _ in range(2)]
    maker, user, further = vine.Task(FAILURES[how]), vine.Task("cp a b"), vine.Task("cat b")
    if how == "is never sent":
        maker.set_time_end(int((time.time() + 1) * 1_000_000))
        maker.add_feature("that no worker has")
    maker.add_output(temps[0], "out")
    user.add_input(temps[0], "a")
    user.add_output(temps[1], "b")
    further.add_input(temps[1], "b")
    for task in (maker, user, further):
        manager.submit(task)
    with relay_worker(manager.shared_port):
        if not claimed:
            assert manager.wait_for_task_id(further.id, 18) is further
        done = collect(manager)
    assert {*done, further} == {maker, user, further}
    assert not maker.successful() or how == "writes nothing"
    assert (user.result, further.result) == ("cancelled", "cancelled")


def test_a_failed_task_that_is_submitted_again_makes_its_temp(make_manager: Any) -> None:
    manager = make_manager()
    temp = manager.declare_temp()
    user = vine.Task("cat in")
    user.add_input(temp, "in")

    def submit_maker(command: str) -> None:
        maker = vine.Task(command)
        maker.add_output(temp, "out")
        manager.submit(maker)

    submit_maker("exit 1")
    manager.submit(user)
    tries, done = 0, []
    with relay_worker(manager.shared_port):
        until = time.monotonic() + 18
        while not manager.empty() and time.monotonic() < until:
            task = manager.wait(1)
            if task is not None and task is not user and not task.successful():
                tries += 1
                submit_maker("exit 1" if tries < 2 else "echo made > out")
            elif task is not None:
                done.append(task)
    assert tries == 2
    assert len(done) == 2
    assert done[1] is user
    assert user.std_output == "made\n"


@pytest.mark.parametrize("what", ["untar", "minitask", "directory"])
def test_what_is_made_of_temps_waits_for_them(make_manager: Any, what: str) -> None:
    manager = make_manager()
    temp = manager.declare_temp()
    maker = vine.Task("sleep 1; mkdir d; echo inside > d/file; tar cf t d")
    maker.add_output(temp, "d" if what == "directory" else "t")
    maker.add_feature("w0")
    manager.submit(maker)
    user = vine.Task("cat in/file in/d/file 2> /dev/null || true")
    if what == "directory":
        file = temp
    elif what == "untar":
        file = manager.declare_untar(temp)
    else:
        mini = vine.Task("tar xf t")
        mini.add_input(temp, "t")
        file = manager.declare_minitask(mini, "d")
    user.add_input(file, "in")
    user.add_feature("w1")
    manager.submit(user)
    with strangers(manager, "refused"):
        done = collect(manager)
    assert [task.result for task in done] == ["success"] * 2
    assert user.std_output == "inside\n"


@pytest.mark.parametrize("enabled", [False, True])
def test_a_program_that_enables_them_is_obeyed_or_told(
    make_manager: Any, enabled: bool, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    manager = make_manager(ssl=not enabled)
    assert manager.shared_port.reference.peer_transfers == "off"
    caplog.clear()
    manager.enable_peer_transfers()
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1, told
    assert "peer transfers" in told[0]
    temp = vine.cvine.VINE_TEMP if enabled else vine.cvine.VINE_FILE
    assert manager.declare_temp().type() == temp
    manager.disable_peer_transfers()
    assert manager.declare_temp().type() == vine.cvine.VINE_FILE
    assert "Peer Transfers" not in capfd.readouterr().err  # the stock notice


@pytest.mark.parametrize("setting", ["off", "site"])
@pytest.mark.parametrize("ssl", [False, True])
def test_one_line_says_what_was_chosen(
    make_manager: Any, setting: str, ssl: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="vine_sharedport")
    manager = make_manager(ssl=ssl, shared_port=vine.SharedPort(peer_transfers=setting))
    chosen = "off" if ssl else setting
    assert manager.shared_port.reference.peer_transfers == chosen
    lines = [text for text in caplog.messages if text.startswith("peer transfers: ")]
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"peer transfers: {chosen}"), lines
    kept = manager.declare_temp().type() == vine.cvine.VINE_FILE
    assert kept == (chosen == "off")


def test_a_place_with_little_room_for_temps_is_told(
    make_manager: Any, tmp_path: Any, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    manager = make_manager(staging_path=str(tmp_path / "one"))
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(peer_transfers, "_LITTLE_ROOM", free // 2)
    manager.declare_temp()
    assert not [text for text in caplog.messages if "staging_path=" in text]
    monkeypatch.setattr(peer_transfers, "_LITTLE_ROOM", free * 2)
    manager.declare_temp()
    assert not [text for text in caplog.messages if "staging_path=" in text]
    monkeypatch.setattr(peer_transfers, "_ROOM_INTERVAL", 0.0)
    for _ in range(3):  # it has become less; told once
        manager.declare_temp()
    (told,) = [text for text in caplog.messages if "staging_path=" in text]
    assert str(tmp_path / "one") in told
    caplog.clear()
    small = make_manager(staging_path=str(tmp_path / "two"))
    for _ in range(3):
        assert small.declare_temp().source().startswith(str(tmp_path / "two"))
    (told,) = [text for text in caplog.messages if "staging_path=" in text]
    assert str(tmp_path / "two") in told


@pytest.mark.parametrize("setting", ["off", "site"])
def test_a_program_that_nobody_edits_can_have_them(
    pool: vine.PersonalPool, tmp_path: Path, setting: str
) -> None:
    (tmp_path / "program.py").write_text(
        "import ndcctools.taskvine as vine\nm = vine.Manager(0)\n"
        "print(m.declare_temp().type())\n"
    )
    words = [sys.executable, "-m", "vine_sharedport", "run", "--peer-transfers", setting]
    ended = subprocess.run(
        [*words, "program.py"], capture_output=True, text=True, cwd=tmp_path, timeout=30
    )
    temp = {"off": vine.cvine.VINE_FILE, "site": vine.cvine.VINE_TEMP}
    assert ended.stdout == f"{temp[setting]}\n", ended.stderr
    # What is printed for workers brings it along.
    assert ("--peer-transfers site" in ended.stderr) == (setting == "site")


@contextlib.contextmanager
def program(path: Any, text: str, *arguments: str) -> Iterator[Any]:
    """Run a program that nobody edits, with two workers; give its further output."""
    (path / "program.py").write_text(text)
    words = [sys.executable, "-m", "vine_sharedport", "run", str(path / "program.py")]
    with subprocess.Popen(
        [*words, *arguments], stdout=subprocess.PIPE, text=True, cwd=path
    ) as running:
        assert running.stdout is not None
        address, secret = running.stdout.readline().split()
        link = SimpleNamespace(address=address, secret_file=secret)
        with relay_worker(link), relay_worker(link):
            yield running.stdout
        assert running.wait(20) == 0


TEMP = """
import ndcctools.taskvine as vine
manager = vine.Manager(0)
print(manager.shared_port.address, manager.shared_port.secret_file, flush=True)
temp, task = manager.declare_temp(), vine.Task("head -c 100000 /dev/zero > out")
task.add_output(temp, "out")
manager.submit(task)
while not manager.empty():
    task = manager.wait(1)
print(temp.source(), len(temp.contents()), flush=True)
"""


def test_temps_are_gone_with_their_program(pool: vine.PersonalPool, tmp_path: Any) -> None:
    with program(tmp_path, TEMP) as output:
        path, size = output.read().split()
    assert size == "100000"
    assert str(tmp_path / "vine-run-info") in path
    assert not list(tmp_path.rglob("temp-*"))


FUTURES = """
import sys
from ndcctools.taskvine import FuturesExecutor
executor = FuturesExecutor(port=0, factory=False)
link = executor.manager.shared_port
print(link.address, link.secret_file, flush=True)
def add(a, b):
    return a + b
def task(*arguments):
    made = executor.future_task(add, *arguments)
    made.set_cores(1)
    return executor.submit(made)
numbers = [int(text) for text in sys.argv[1:]]
first = [task(number, 1) for number in numbers]
while len(first) > 1:
    first = [task(*pair) for pair in zip(first[::2], first[1::2])]
print(first[0].result(timeout=60), flush=True)
"""


def test_futures_that_take_futures_are_computed(pool: vine.PersonalPool, tmp_path: Any) -> None:
    numbers = [RANDOM.randrange(1000) for _ in range(4)]
    with program(tmp_path, FUTURES, *map(str, numbers)) as output:
        last = output.read().split("\n")[-2]
    assert int(last) == sum(numbers) + len(numbers)


SITE = vine.SharedPort(peer_transfers="site")


def log_of(manager: Any) -> str:
    """Return what the manager has written of its workers."""
    return Path(manager.logging_directory, "debug").read_text()


@pytest.mark.parametrize("how", ["job", "command", "preset"])
def test_on_one_site_workers_fetch_from_each_other(
    make_manager: Any, tmp_path: Path, how: str
) -> None:
    settings = vine.SharedPort() if how == "preset" else SITE
    manager = make_manager(shared_port=settings)
    content = RANDOM.randbytes(RANDOM.randrange(1_000_000, 5_000_000))
    with contextlib.ExitStack() as stack:
        if how == "job":
            stack.enter_context(vine.submit_workers(manager, 3, cores=1, memory=100, disk=100))
        elif how == "preset":
            factory = vine.Factory("condor", manager=manager, preset="personal")
            factory.min_workers = factory.max_workers = 3
            factory.memory = factory.disk = 100
            stack.enter_context(factory)
        else:
            for _ in range(3):
                # As it is printed, with one option more for the worker.
                words = shlex.split(manager.shared_port.worker_command)
                stack.enter_context(worker_process(*words, "--cores", "1", cwd=ROOT))
        # Three, as before cctools 7.16.5 one of two that start at once may end.
        wait_until(lambda: manager.wait(1) or manager.stats.workers_connected > 1)
        # Declared when the manager knows what its workers share.
        temp = manager.declare_temp()
        assert temp.type() == vine.cvine.VINE_TEMP
        make = vine.Task("cp in out; sha256sum out")
        make.add_input(manager.declare_buffer(content), "in")
        make.add_output(temp, "out")
        users = [vine.Task("sha256sum in; sleep 1; hostname") for _ in range(4)]
        for user in users:
            user.add_input(temp, "in")
        for task in (make, *users):
            task.set_cores(1)
            manager.submit(task)
        done = collect(manager)
    digest = hashlib.sha256(content).hexdigest()
    assert [task.std_output.split()[0] for task in done] == [digest] * 5, SEED
    hosts = re.findall(r"transfer-hostport (\S+) \d+", log_of(manager))
    assert len(hosts) > 1
    fetched = re.findall(r"puturl(?:_now)? workerip://([0-9.]+):", log_of(manager))
    assert fetched
    assert {*fetched} <= {*hosts}
    assert manager.stats.bytes_received < len(content)


def test_a_factory_of_another_program_says_where_to_allow_them(
    make_manager: Any, caplog: pytest.LogCaptureFixture
) -> None:
    manager = make_manager()
    address, secret = str(manager.shared_port.address), manager.shared_port.secret_file
    factory = vine.Factory(address=address, secret_file=secret, peer_transfers="site")
    factory.min_workers = factory.max_workers = 1
    factory.start()
    factory.stop()
    (told,) = [text for text in caplog.messages if "SharedPort(peer_transfers='site')" in text]
    assert manager.shared_port.sock_id in told
