"""``vine_sharedport worker``: the launcher, the relay, and the worker whose end is ours."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.fake_shared_port import FakeSharedPort
from tests.unit import helpers
from tests.values import naming
from vine_sharedport.bundle import local_worker, shim_build
from vine_sharedport.bundle.local_worker import (
    run_worker,
)
from vine_sharedport.environment import ADDRESS as ADDRESS_VARIABLE
from vine_sharedport.environment import CONNECT_TIMEOUT, PRIVATE_NETWORK
from vine_sharedport.errors import LaunchError, SettingError, SinfulError
from vine_sharedport.serving.endpoint import Endpoint
from vine_sharedport.units import parse_seconds
from vine_sharedport.worker import relay

# Nobody has to be there for a worker that does not connect.
ADDRESS = "<127.0.0.1:1?sock=vine_1>"
PASSED_ON = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]


@pytest.fixture
def make_worker(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a worker and returns its path."""

    def make(script: str, *, shell: str = "/bin/sh", name: str = "fake_worker") -> str:
        path = tmp_path / name
        ask = '[ "$1" != --version ] || exit 0'  # the launcher tries whether it runs
        if shell == sys.executable:
            ask = "import sys; sys.argv[1:] != ['--version'] or sys.exit()"
        path.write_text(f"#!{shell}\n{ask}\n{textwrap.dedent(script)}")
        path.chmod(0o755)
        return str(path)

    return make


def command_line(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "vine_sharedport", *arguments]


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        command_line(*arguments),
        capture_output=True, text=True, timeout=30, check=False, cwd=helpers.ROOT,
        env=_environment(environment), stdin=subprocess.DEVNULL,
    )  # fmt: skip


@contextlib.contextmanager
def command(
    *arguments: str, environment: dict[str, str] | None = None, **kwargs: Any
) -> Iterator[subprocess.Popen[str]]:
    """Run the command for the length of the block."""
    process = subprocess.Popen(
        command_line(*arguments),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=helpers.ROOT, env=_environment(environment or {}), **kwargs,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def _environment(more: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "VINE_SHARED" not in name}
    return {**kept, "PYTHONPATH": str(helpers.ROOT), **more}


# ---- how it ends ----


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_exit_status_is_the_workers(make_worker: Callable[..., str], status: int) -> None:
    assert run_worker(ADDRESS, worker=make_worker(f"exit {status}")) == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_worker_that_a_signal_ended_gives_128_and_its_number(
    make_worker: Callable[..., str], number: int
) -> None:
    worker = make_worker(f"ulimit -c 0; kill -{int(number)} $$; sleep 60")
    assert run_worker(ADDRESS, worker=worker) == 128 + number


def test_exit_status_of_the_command_is_the_workers(make_worker: Callable[..., str]) -> None:
    worker = make_worker("echo out; echo err >&2; exit 7")
    result = run_command("worker", "--address", ADDRESS, "--worker", worker)
    assert (result.returncode, result.stdout) == (7, "out\n")
    assert "err\n" in result.stderr
    assert "fake_worker " in result.stderr


@pytest.mark.parametrize("number", PASSED_ON)
def test_signals_that_ask_to_end_are_the_workers(
    make_worker: Callable[..., str], number: signal.Signals
) -> None:
    worker = make_worker(
        f"""
        import signal, sys
        signal.signal({int(number)}, lambda *_: sys.exit(9))
        print("ready", flush=True)
        while True:
            signal.pause()
        """,
        shell=sys.executable,
    )
    with command("worker", "--address", ADDRESS, "--worker", worker) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(10) == 9


def test_worker_may_ignore_a_signal_and_live_on(make_worker: Callable[..., str]) -> None:
    worker = make_worker(
        """
        trap '' TERM
        echo ready
        read -r line < "$1"
        exit 5
        """
    )
    fifo = worker + ".fifo"
    os.mkfifo(fifo)
    with command("worker", "--address", ADDRESS, "--worker", worker, "--", fifo) as process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        with open(fifo, "w") as go_on:
            go_on.write("go on\n")
        assert process.wait(10) == 5


def test_signals_that_we_were_told_to_ignore_stay_ignored(
    make_worker: Callable[..., str],
) -> None:
    """With nohup the end of the terminal is nobody's end."""
    worker = make_worker(
        """
        import signal, sys
        print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
        signal.signal(signal.SIGHUP, lambda *_: sys.exit(8))
        print("ready", flush=True)
        while True:
            signal.pause()
        """,
        shell=sys.executable,
    )

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    arguments = ("worker", "--address", ADDRESS, "--worker", worker)
    with command(*arguments, preexec_fn=ignore) as process:
        assert process.stdout.readline() == "True\n"
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        process.terminate()
        assert process.wait(60) == 9


def test_the_command_takes_the_shim_where_it_loads(
    tmp_path: Path, short_directory: Path
) -> None:
    library = shim_build.library_path()
    compiler = shutil.which("gcc")
    if library is None or compiler is None:
        pytest.skip("this installation has no shim")
    source = tmp_path / "worker.c"
    source.write_text("int main(void) { return 0; }")
    worker = str(tmp_path / "own_worker")
    subprocess.run([compiler, "-o", worker, str(source)], check=True)
    result = run_command("worker", "--address", ADDRESS, "--worker", worker)
    assert result.returncode == 0, result.stderr
    assert f"shim, because it loads into {worker}" in result.stderr
    result = run_command(
        "worker", "--address", ADDRESS, "--worker", worker, VINE_SHAREDPORT_TRANSPORT="relay"
    )
    assert result.returncode == 0, result.stderr
    assert "own_worker " in result.stderr


def test_signal_that_comes_before_the_worker_is_kept_for_it(
    make_worker: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return popen(*args, **kwargs)

    monkeypatch.setattr(local_worker.subprocess, "Popen", interrupted)
    assert run_worker(ADDRESS, worker=make_worker("sleep 60")) == 128 + signal.SIGTERM


def test_handlers_and_port_are_given_back(
    make_worker: Callable[..., str], tmp_path: Path
) -> None:
    before = [signal.getsignal(number) for number in PASSED_ON]
    report = tmp_path / "port"
    assert run_worker(ADDRESS, worker=make_worker(f'echo "$2" > {report}')) == 0
    assert [signal.getsignal(number) for number in PASSED_ON] == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(report.read_text())))


# ---- what the worker gets ----


def test_options_come_before_the_relays_address(
    make_worker: Callable[..., str], tmp_path: Path
) -> None:
    report = tmp_path / "arguments"
    worker = make_worker(f'for word in "$@"; do echo "$word" >> {report}; done')
    options = ["--cores", "4", "--password", "a b", "$HOME", ""]
    run_worker(ADDRESS, options, worker=worker)
    *given, host, port = report.read_text().splitlines()
    assert given == options
    assert host == "127.0.0.1"
    assert 0 < int(port) < 65536


def test_options_after_two_dashes_are_the_workers_whatever_they_look_like(
    make_worker: Callable[..., str],
) -> None:
    worker = make_worker('echo "$@"')
    result = run_command(
        "worker", "--address", ADDRESS, "--worker", worker,
        "--", "--cores", "4", "--address", "x", "--help", "-v",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("--cores 4 --address x --help -v 127.0.0.1 ")


def test_tasks_are_not_told_where_the_manager_is(make_worker: Callable[..., str]) -> None:
    worker = make_worker("env")
    result = run_command(
        "worker", "--worker", worker,
        **{ADDRESS_VARIABLE: ADDRESS, CONNECT_TIMEOUT: "9", PRIVATE_NETWORK: "net",
           "VINE_SHAREDPORT_OF_A_LATER_VERSION": "1", "KEPT": "yes"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "KEPT=yes\n" in result.stdout
    assert "VINE_SHARED" not in result.stdout


def test_worker_reaches_its_manager(
    make_worker: Callable[..., str], short_directory: Path
) -> None:
    worker = make_worker(
        """
        import socket, sys
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as manager:
            manager.sendall(b"hello")
            sys.exit(0 if manager.recv(100) == b"welcome" else 1)
        """,
        shell=sys.executable,
    )
    with contextlib.ExitStack() as stack:
        fake = stack.enter_context(FakeSharedPort(str(short_directory)))
        endpoint = stack.enter_context(Endpoint("vine_1", str(short_directory)))
        address = fake.address("vine_1")
        arguments = ("worker", "--address", address, "--worker", worker)
        process = stack.enter_context(command(*arguments))
        with endpoint.accept(10) as server:
            server.settimeout(10)
            assert server.recv(100) == b"hello"
            server.sendall(b"welcome")
            assert helpers.is_closed(server)
        assert process.wait(10) == 0
        assert [name for name, _ in fake.names] == ["fake_worker"]


def test_worker_may_have_any_name(
    make_worker: Callable[..., str], short_directory: Path
) -> None:
    worker = make_worker(
        """
        import socket, sys
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as manager:
            manager.sendall(b"hello")
            manager.recv(1)
        """,
        shell=sys.executable,
        name="vïne_wörker",
    )
    with contextlib.ExitStack() as stack:
        fake = stack.enter_context(FakeSharedPort(str(short_directory)))
        endpoint = stack.enter_context(Endpoint("vine_1", str(short_directory)))
        address = fake.address("vine_1")
        process = stack.enter_context(
            command("worker", "--address", address, "--worker", worker)
        )
        with endpoint.accept(10) as server:
            server.sendall(b"x")
            assert process.wait(10) == 0


# ---- a manager that is not reached ----


# Connects, and says how that ends and whether it was asked to end.
CLIENT = """
    import signal, socket, sys
    signal.signal(signal.SIGTERM, lambda *_: (print("asked to end", flush=True), sys.exit(3)))
    with socket.create_connection((sys.argv[-2], int(sys.argv[-1])), 60) as manager:
        manager.sendall(b"hello")
        print("connected", flush=True)
        print("heard", manager.recv(100), flush=True)
"""


@contextlib.contextmanager
def dead_end(directory: Path) -> Iterator[str]:
    """Give the address of a sock id that nobody serves."""
    with FakeSharedPort(str(directory)) as fake:
        yield fake.address("vine_1")


@pytest.mark.alone  # its advice names the one manager that runs
def test_manager_that_is_not_reached_in_time_ends_the_worker(
    make_worker: Callable[..., str], short_directory: Path
) -> None:
    worker = make_worker(CLIENT, shell=sys.executable)
    with dead_end(short_directory) as address:
        before = time.monotonic()
        result = run_command(
            "worker", "--address", address, "--worker", worker, "--connect-timeout", "2s"
        )
        took = time.monotonic() - before
    assert (result.returncode, result.stdout) == (75, "connected\nasked to end\n")
    assert 2 < took < 15
    assert " 2 s; " in result.stderr
    first, *others = (line.partition("; ")[0] for line in result.stderr.splitlines()[1:-1])
    assert first not in others, "the cause is told once"
    assert len(set(others)) < len(others), others
    assert result.stderr.endswith(f"connect --explain '{address}'\n")


def test_worker_that_does_not_end_when_asked_is_killed(
    make_worker: Callable[..., str], short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_TIME_TO_CLEAN_UP", 1.5)
    monkeypatch.setenv(CONNECT_TIMEOUT, "1")
    worker = make_worker(
        """
        import signal, socket, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        manager = socket.create_connection((sys.argv[-2], int(sys.argv[-1])))
        time.sleep(60)
        """,
        shell=sys.executable,
    )
    with dead_end(short_directory) as address:
        monkeypatch.setenv(ADDRESS_VARIABLE, address)
        before = time.monotonic()
        assert relay.run_behind_relay(worker) == 75
        assert 2.4 < time.monotonic() - before < 15


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ([], None, 900),
        (["-t", "10"], None, 10),
        (["-t10m"], None, 600),
        (["--timeout", "2h"], None, 7200),
        (["--timeout=90s"], None, 90),
        (["--connect-timeout", "1d"], None, 86400),
        (["--connect-timeout=5"], None, 5),
        (["--timeout", "10", "--cores", "4", "--connect-timeout", "20"], None, 20),
        (["--connect-timeout", "20", "-t", "10"], None, 10),
        (["--idle-timeout", "7", "--tls-sni", "x"], None, 900),
        (["-t"], None, 900),
        (["-t", "soon"], None, 900),
        (["-t", "10"], "30m", 1800),
        ([], "7", 7),
        ([], "9" * 5000, 99_999_999),
        ([], "99999999d", 99_999_999),
        ([], "0" * 5000 + "7", 7),
    ],
)
def test_time_limit_is_the_environments_or_the_workers_own(
    make_worker: Callable[..., str],
    tmp_path: Path,
    options: list[str],
    environment: str | None,
    expected: float,
) -> None:
    shutil.copy(local_worker.launcher_path(), tmp_path)
    (tmp_path / "vine_sharedport.pyz").write_text(
        f"import os; print(os.environ[{CONNECT_TIMEOUT!r}] or {relay._DEFAULT_LIMIT!r})"
    )
    words = ["sh", str(tmp_path / "launcher.sh"), make_worker("exit 0"), *options]
    variables = {ADDRESS_VARIABLE: ADDRESS}
    if environment is not None:
        variables[CONNECT_TIMEOUT] = environment
    told = subprocess.check_output(words, env=_environment(variables), text=True)
    assert float(told) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1.5.", ".5", "1e3", "nan", "inf", "1w", "10 minutes", "\u0661"]
)
def test_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=naming(repr(text), "90s", "10m")):
        parse_seconds(text)


def test_time_limit_of_the_environment_that_is_none_is_named(
    make_worker: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONNECT_TIMEOUT, "soon")
    with pytest.raises(SettingError, match=naming(CONNECT_TIMEOUT, "'soon'")):
        run_worker(ADDRESS, worker=make_worker("exit 0"))


def test_private_network_of_the_environment_is_tried_first(
    make_worker: Callable[..., str], short_directory: Path
) -> None:
    worker = make_worker(CLIENT, shell=sys.executable)
    with contextlib.ExitStack() as stack:
        fake = stack.enter_context(FakeSharedPort(str(short_directory)))
        endpoint = stack.enter_context(Endpoint("vine_1", str(short_directory)))
        private = f"PrivNet=here&PrivAddr=%3c127.0.0.1:{fake.port}%3e"
        elsewhere = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        address = f"<127.0.0.1:{elsewhere.getsockname()[1]}?{private}&sock=vine_1>"
        process = stack.enter_context(
            command(
                "worker", "--address", address, "--worker", worker,
                environment={PRIVATE_NETWORK: "here"},
            )
        )  # fmt: skip
        with endpoint.accept(10) as server:
            server.sendall(b"welcome")
        assert process.wait(10) == 0
        elsewhere.settimeout(0)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_worker_of_ipv6_alone_gets_an_address_it_takes(
    make_worker: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = tmp_path / "arguments"
    worker = make_worker(f'echo "$1" > {report}')
    for mode, host in (("IPV6", "::ffff:127.0.0.1"), ("AUTO", "127.0.0.1")):
        monkeypatch.setenv("CCTOOLS_IP_MODE", mode)
        run_worker(ADDRESS, worker=worker)
        assert report.read_text() == f"{host}\n"


# ---- our own parent ----


@pytest.mark.parametrize("option", ["--parent-death", "--single-shot"])
def test_worker_ends_with_our_parent_if_it_asked_for_that(
    make_worker: Callable[..., str], option: str, tmp_path: Path
) -> None:
    worker = make_worker(
        """
        import os, signal, sys
        print(os.getpid(), flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.pause()
        """,
        shell=sys.executable,
    )
    words = command_line("worker", "--address", ADDRESS, "--worker", worker, "--", option)
    parent = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.call(sys.argv[1:])", *words],
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        cwd=helpers.ROOT, env=_environment({}), text=True,
    )  # fmt: skip
    with parent:
        pid = int(parent.stdout.readline())
        ours = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        parent.kill()
        parent.wait()
        try:
            if option == "--parent-death":
                helpers.wait_until(lambda: not helpers.is_alive(pid))
                helpers.wait_until(lambda: not helpers.is_alive(ours))
            else:
                time.sleep(2)
                assert helpers.is_alive(pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


# ---- what can be wrong ----


def test_missing_worker_program_is_named_with_the_remedy() -> None:
    with pytest.raises(LaunchError) as caught:
        run_worker(ADDRESS, worker="no_such_worker")
    values = ("'no_such_worker'", "PATH", os.path.dirname(sys.executable), "--worker")
    for value in values:
        assert value in str(caught.value)


def test_worker_without_the_right_to_be_run_counts_as_missing(
    make_worker: Callable[..., str],
) -> None:
    worker = make_worker("exit 0")
    os.chmod(worker, 0o644)
    with pytest.raises(LaunchError, match=naming(repr(worker))):
        run_worker(ADDRESS, worker=worker)


def test_worker_that_is_no_program_is_named(
    make_worker: Callable[..., str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = make_worker("exit 0", shell="/nonexistent/shell")
    before = [signal.getsignal(number) for number in PASSED_ON]
    assert run_worker(ADDRESS, worker=worker) == 127
    assert f"no worker program that runs here: {worker}: " in capfd.readouterr().err
    monkeypatch.setenv(ADDRESS_VARIABLE, ADDRESS)
    with pytest.raises(LaunchError, match=naming(worker, "No such file or directory")):
        relay.run_behind_relay(worker)
    assert [signal.getsignal(number) for number in PASSED_ON] == before


def test_address_without_a_sock_id_names_no_manager() -> None:
    with pytest.raises(SinfulError, match=naming("<192.0.2.7:9618>", "sock=")):
        run_worker("<192.0.2.7:9618>", worker="true")


def test_text_that_is_no_address_is_a_sinful_error() -> None:
    with pytest.raises(SinfulError):
        run_worker("192.0.2.7:9618", worker="true")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["worker"], 2, ADDRESS_VARIABLE),
        (["worker", "--address", ""], 2, "address"),
        (["worker", "--address", "host:9618"], 78, "'host:9618'"),
        (["worker", "--address", "<192.0.2.7:9618>", "--worker", "true"], 78, "no sock="),
        (
            ["worker", "--address", "<192.0.2.7?sock=a>"],
            78,
            "<192.0.2.7?sock=a>",
        ),
        (["worker", "--address", "<192.0.2.7:0?sock=a>"], 78, "<192.0.2.7:0?sock=a>"),
        (
            ["worker", "--address", "<192.0.2.7:0?sock=a>", "--bundle", "/none/b"],
            2,
            "<192.0.2.7:0?sock=a>",
        ),
        (["worker", "--address", ADDRESS, "--bundle", ""], 2, "--bundle"),
        (
            ["worker", "--address", ADDRESS, "--worker", "true", "--secret-file", "/none"],
            78,
            "/none: No such file",
        ),
        (["worker", "--address", ADDRESS, "--worker", "none"], 127, "'none'"),
        (["worker", "--address", ADDRESS, "--connect-timeout", "x"], 2, "'x'"),
        (
            ["worker", "--address", ADDRESS, "--cores", "4"],
            2,
            "-- --cores 4",
        ),
        (["worker", "--address"], 2, "expected one argument"),
        ([], 2, ": doctor, worker, "),
    ],
)
def test_command_says_what_is_wrong(arguments: list[str], status: int, message: str) -> None:
    result = run_command(*arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_time_of_the_environment_is_named_and_no_option(
    make_worker: Callable[..., str],
) -> None:
    words = ("worker", "--address", ADDRESS, "--worker", make_worker("exit 0"))
    result = run_command(*words, **{CONNECT_TIMEOUT: "soon"})
    assert result.returncode == 78
    assert f"{CONNECT_TIMEOUT}: 'soon'" in result.stderr
    assert "--connect-timeout" not in result.stderr
    assert run_command(*words, **{CONNECT_TIMEOUT: "0"}).returncode == 0


def test_address_of_a_private_network_alone_has_no_port_elsewhere(
    make_worker: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PRIVATE_NETWORK, raising=False)
    address = "<192.0.2.7:0?PrivNet=here&PrivAddr=%3c127.0.0.1:1%3e&sock=vine_1>"
    worker = make_worker("exit 0")
    with pytest.raises(SinfulError, match=naming(address)):
        run_worker(address, worker=worker)
    assert run_worker(address, worker=worker, private_network="here") == 0


# Tells which of its standard files are not open, or not those of /dev/null.
STANDARD_FILES = """
    import os, sys
    null = os.stat("/dev/null").st_rdev
    open(sys.argv[1], "w").write(" ".join(
        str(fd) for fd in range(3) if os.fstat(fd).st_rdev != null))
"""


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_files_are_open_to_nowhere(
    make_worker: Callable[..., str], tmp_path: Path, closed: str
) -> None:
    """Else the worker's connection gets the number, and what it prints goes to the manager."""
    report = tmp_path / "report"
    worker = make_worker(STANDARD_FILES, shell=sys.executable)
    words = command_line("worker", "--address", ADDRESS, "--worker", worker, "--", str(report))
    result = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *words],
        capture_output=True, text=True, timeout=30, check=False, cwd=helpers.ROOT,
        env=_environment({}), input="",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert set(report.read_text().split()) == {"0", "1", "2"} - set(closed)


def test_limit_that_leaves_no_thread_is_named(
    make_worker: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    worker = make_worker(f"touch {tmp_path}/started; exec sleep 60")
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", fail)
    monkeypatch.setenv(ADDRESS_VARIABLE, ADDRESS)
    with pytest.raises(LaunchError, match=naming("can't start new thread", "ulimit -v")):
        relay.run_behind_relay(worker)
    assert not (tmp_path / "started").exists()

    def fail_later(thread: threading.Thread) -> None:
        start(thread) if thread.name == "relay" else fail(thread)

    monkeypatch.setattr(threading.Thread, "start", fail_later)
    with pytest.raises(LaunchError, match="can't start new thread"):
        relay.run_behind_relay(worker)  # and the worker has ended: nothing waits for it


def test_bundle_is_written_instead_of_running_a_worker(
    make_worker: Callable[..., str], tmp_path: Path
) -> None:
    worker = make_worker(f"touch {tmp_path}/ran")
    bundle = tmp_path / "bundle"
    result = run_command(
        "worker", "--bundle", str(bundle), "--address", ADDRESS, "--worker", worker,
        "--", "--cores", "4",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "--cores 4" in result.stdout
    assert (bundle / "fake_worker").exists()
    assert not (tmp_path / "ran").exists()


def test_help_tells_how_to_use_it() -> None:
    result = run_command("worker", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    text = " ".join(result.stdout.split())
    for wanted in (
        "--address SINFUL",
        "--worker PROGRAM",
        "--connect-timeout TIME",
        "--private-network NAME",
        "--bundle DIR",
        f"(default: ${ADDRESS_VARIABLE})",
        "the worker's own options, after --",
        "example: vine_sharedport worker --address '<192.0.2.7:9618?sock=vine_42>'",
    ):
        assert wanted in text
