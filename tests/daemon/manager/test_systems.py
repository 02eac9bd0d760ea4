"""TaskVine and Work Queue alike: gate, password, TLS, modes, TCP port, unedited programs."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from vine_sharedport.errors import Verdict

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")


@dataclass(frozen=True)
class System:
    """What a test needs to know of TaskVine or Work Queue."""

    name: str
    worker: str
    make: Callable[..., Any]
    task: Callable[[str], Any]
    output: Callable[[Any], str]
    set_password_file: str


@pytest.fixture(params=["taskvine", "work_queue"])
def system(request: pytest.FixtureRequest, pool: Any, tmp_path: Path) -> Iterator[System]:
    """Return each of the two; their managers end with the test."""
    managers: list[Any] = []
    before = os.getcwd()
    os.chdir(tmp_path)  # where Work Queue's directory appears

    def make(**kwargs: Any) -> Any:
        kwargs.setdefault("shared_port", True)
        if request.param == "taskvine":
            managers.append(vine.Manager(0, run_info_path=str(tmp_path / "run-info"), **kwargs))
        else:
            import vine_sharedport.work_queue as wq

            managers.append(wq.WorkQueue(0, **kwargs))
        return managers[-1]

    if request.param == "taskvine":
        yield System(
            "taskvine", "vine_worker", make, vine.Task, lambda t: t.output, "set_password_file"
        )
    else:
        import vine_sharedport.work_queue as wq

        yield System(
            "work_queue", "work_queue_worker", make, wq.Task, lambda t: t.output,
            "specify_password_file",
        )  # fmt: skip
    for manager in managers:
        manager._free()
    os.chdir(before)


def _run(system: System, manager: Any, count: int = 3) -> list[str]:
    """Run tasks to their end; return their outputs in order."""
    done = []
    for number in range(count):
        manager.submit(system.task(f"echo {number}"))
    helpers.wait_until(
        lambda: ((task := manager.wait(1)) and done.append(task)) or len(done) == count,
        timeout=60,
    )
    return sorted(system.output(task).strip() for task in done)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("password", [False, True], ids=["open", "password"])
def test_password_and_tls_work_through_the_shared_port(
    system: System, tmp_path: Path, password: bool, tls: bool
) -> None:
    manager = system.make(**({"ssl": True} if tls else {}))
    options = ["--ssl"] if tls else []
    if password:
        file = tmp_path / "password"
        file.write_text("open sesame")  # no line break: it would be part of it
        file.chmod(0o600)
        getattr(manager, system.set_password_file)(str(file))
        options += ["--password", str(file)]
    with helpers.relay_worker(manager.shared_port, *options, worker=system.worker):
        assert _run(system, manager) == ["0", "1", "2"]
    counters = manager.shared_port.counters
    assert (counters.accepted, counters.by_tcp) == (1, 0)


def test_htcondor_jobs_bring_the_secret_and_nobody_sees_it(system: System) -> None:
    import htcondor2

    manager = system.make()
    secret_file = Path(manager.shared_port.secret_file)
    assert secret_file.stat().st_mode & 0o777 == 0o600
    secret = secret_file.read_bytes()
    assert len(secret) == 32
    with vine.submit_workers(manager, 2, cores=1) as jobs:
        assert _run(system, manager) == ["0", "1", "2"]
        (ad, *_) = htcondor2.Schedd().query(f"ClusterId == {jobs.cluster}")
        public = str(ad) + Path(manager.shared_port._porter._settings.log_file).read_text()
        public += Path(f"/proc/{manager.shared_port.porter_pid}/cmdline").read_text()
        public += Path(f"/proc/{manager.shared_port.porter_pid}/environ").read_text()
        assert secret.hex() not in public
        assert secret not in public.encode(errors="surrogateescape")
    assert "wrong-secret" not in manager.shared_port.counters.refused


def test_a_worker_with_another_secret_is_refused_and_counted(
    system: System, tmp_path: Path
) -> None:
    manager = system.make()
    link = manager.shared_port
    other = tmp_path / "other.secret"
    other.write_bytes(bytes(32))
    with pytest.raises(vine.WrongSecretError) as caught:
        vine.connect(link.address, secret=bytes(32))
    assert caught.value.verdict is Verdict.WRONG_SECRET
    helpers.wait_until(lambda: link.counters.refused == {"wrong-secret": 1})
    with helpers.relay_worker(link, worker=system.worker):
        assert _run(system, manager, 1) == ["0"]
    assert link.counters.accepted == 1


def test_without_the_gate_a_warning_says_so(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        manager = system.make(shared_port=vine.SharedPort(gate=False))
    assert "gate=False" in caplog.text
    assert manager.shared_port.secret_file is None
    with helpers.relay_worker(manager.shared_port, worker=system.worker):
        assert _run(system, manager, 1) == ["0"]


def test_a_named_manager_started_again_is_found_by_its_workers(system: System) -> None:
    settings = vine.SharedPort(name=f"again-{system.name}")
    first = system.make(shared_port=settings)
    secret = Path(first.shared_port.secret_file).read_bytes()
    with helpers.relay_worker(first.shared_port, worker=system.worker):
        assert _run(system, first, 1) == ["0"]
        first._free()
        second = system.make(shared_port=settings)
        assert Path(second.shared_port.secret_file).read_bytes() == secret
        assert _run(system, second, 1) == ["0"]


def test_a_relay_serves_where_the_library_cannot_be_extended(
    system: System, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise vine.HookError("accept() is imported through 2 slots")

    from vine_sharedport.hook import accept_hook

    monkeypatch.setattr(accept_hook, "attach", refuse)
    with pytest.raises(vine.HookError, match="2 slots"):
        system.make(shared_port=vine.SharedPort(mode="direct"))
    with caplog.at_level(logging.WARNING):
        manager = system.make()
    assert caplog.text.count("cannot be extended (accept() is imported through 2 slots)") == 1
    link = manager.shared_port
    assert link.mode == "relay"
    with helpers.relay_worker(link, worker=system.worker):
        assert _run(system, manager) == ["0", "1", "2"]
    assert link.counters.accepted == 1
    before = link.porter_pid
    os.kill(before, signal.SIGKILL)
    helpers.wait_until(lambda: manager.wait(1) or link.porter_pid not in (None, before))
    with helpers.relay_worker(link, worker=system.worker):
        assert _run(system, manager, 1) == ["0"]


@pytest.mark.parametrize("tcp", ["all", "loopback", "off"])
def test_the_tcp_port_listens_where_the_user_wishes(system: System, tcp: str) -> None:
    manager = system.make(shared_port=vine.SharedPort(tcp=tcp))
    port = manager.port
    assert port > 0

    def answers(host: str) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex((host, port)) == 0

    if tcp == "off":  # another test may have the port by now
        assert port not in _ports_that_we_listen_on()
    else:
        assert answers("127.0.0.1")
        assert answers("127.0.0.2") is (tcp == "all")
    with helpers.relay_worker(manager.shared_port, worker=system.worker):
        assert _run(system, manager, 1) == ["0"]
    manager.shared_port.close()
    assert manager.port == port
    assert answers("127.0.0.2"), "closing the shared port did not give the TCP port back"


def _ports_that_we_listen_on() -> set[int]:
    """Return the TCP ports of this process, as the kernel knows them."""
    ours = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            ours.add(os.readlink(f"/proc/self/fd/{fd}"))
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    listening = "0A"
    return {
        int(line[1].rpartition(":")[2], 16)
        for line in lines
        if line[3] == listening and f"socket:[{line[9]}]" in ours
    }


PROGRAMS = {
    "taskvine": """
        import ndcctools.taskvine as vine
        m = vine.Manager(0)
        task = lambda: vine.Task("echo done")
    """,
    "work_queue": """
        import ndcctools.work_queue as wq
        m = wq.WorkQueue(0)
        task = lambda: wq.Task("echo done")
    """,
}
REST = """
    import sys
    print("AT", sys.argv[1:], m.shared_port.address, m.shared_port.secret_file, flush=True)
    m.submit(task())
    while not (t := m.wait(5)):
        pass
    print("END", t.output.strip(), m.shared_port.counters.by_tcp, flush=True)
"""


@pytest.mark.parametrize("child", [False, True], ids=["itself", "child"])
def test_an_unedited_program_gets_a_shared_port(
    system: System, tmp_path: Path, child: bool
) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAMS[system.name]) + textwrap.dedent(REST))
    if child:  # as Parsl does
        parent = tmp_path / "parent.py"
        parent.write_text(
            "import subprocess, sys\n"
            f"program = {str(program)!r}\n"
            "subprocess.run([sys.executable, '-W', 'ignore', program, *sys.argv[1:]])\n"
        )
        program = parent
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "vine_sharedport",
        "run",
        str(program),
        "a",
    ]
    with subprocess.Popen(
        [*command, "--b"],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(helpers.ROOT), PYTHONWARNINGS="ignore"),
        cwd=tmp_path,
    ) as process:
        try:
            line = _line_of(process, "AT")
            assert line[:2] == ["['a',", "'--b']"]
            link = _Known(line[2], line[3])
            with helpers.relay_worker(link, worker=system.worker):
                assert _line_of(process, "END") == ["done", "0"]
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_the_next_command_that_run_prints_brings_workers_from_anywhere(
    system: System, tmp_path: Path
) -> None:
    program, elsewhere = tmp_path / "program.py", tmp_path / "elsewhere"
    program.write_text(textwrap.dedent(PROGRAMS[system.name]) + textwrap.dedent(REST))
    elsewhere.mkdir()
    environment = dict(os.environ, PYTHONPATH=str(helpers.ROOT), PYTHONWARNINGS="ignore")
    with (tmp_path / "errors").open("w") as errors, subprocess.Popen(
        [sys.executable, "-m", "vine_sharedport", "run", str(program)],
        stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=tmp_path,
    ) as process:  # fmt: skip
        try:
            link = _Known(*_line_of(process, "AT")[-2:])
            said = (tmp_path / "errors").read_text().splitlines()
            (at,) = [n for n, line in enumerate(said) if "has its shared port" in line]
            command = said[at + 1]
            assert link.address in command
            assert link.secret_file in command
            with subprocess.Popen(
                ["sh", "-c", f"exec {command}"], cwd=elsewhere, env=environment,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ) as factory:  # fmt: skip
                try:
                    assert _line_of(process, "END") == ["done", "0"]
                finally:
                    factory.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()


def _line_of(process: subprocess.Popen[str], mark: str) -> list[str]:
    """Return the words of the next line with this mark; newer versions print more."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"{mark} "):
            return line.split()[1:]
    raise AssertionError(f"the program ended without a line {mark}")


@dataclass
class _Known:
    address: str
    secret_file: str


def test_expose_gives_any_manager_a_sock_id(system: System, tmp_path: Path) -> None:
    """Here a stock manager in a program that knows nothing of us, behind its TCP port."""
    manager = system.make(shared_port=False)
    command = [sys.executable, "-m", "vine_sharedport", "expose", "--port", str(manager.port)]
    with subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, text=True,
        cwd=tmp_path, env=dict(os.environ, PYTHONPATH=str(helpers.ROOT)),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            told = json.loads(process.stdout.readline())
            assert told.pop("schema") == 1
            link = _Known(**told)
            with helpers.relay_worker(link, worker=system.worker):
                assert _run(system, manager) == ["0", "1", "2"]
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
        finally:
            process.kill()
    assert not Path(link.secret_file).exists()


def test_expose_names_a_port_on_which_nothing_listens(pool: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = subprocess.run(
        [sys.executable, "-m", "vine_sharedport", "expose", "--port", str(port)],
        cwd=helpers.ROOT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert result.returncode == 2
    assert f" {port}" in result.stderr
