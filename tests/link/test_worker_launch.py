"""``vine_sharedport worker``: a relay, and the worker whose end is ours."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from vine_sharedport.errors import LaunchError, SinfulError
from vine_sharedport.link.endpoint import Endpoint
from vine_sharedport.worker import launch
from vine_sharedport.worker.launch import ADDRESS_VARIABLE, run_worker

from ..fake_shared_port import FakeSharedPort
from . import helpers

# Nobody has to be there for a worker that does not connect.
ADDRESS = "<127.0.0.1:1?sock=vine_1>"
PASSED_ON = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]


@pytest.fixture
def make_worker(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a worker and returns its path."""

    def make(script: str, *, shell: str = "/bin/sh", name: str = "fake_worker") -> str:
        path = tmp_path / name
        path.write_text(f"#!{shell}\n{textwrap.dedent(script)}")
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
def command(*arguments: str, **kwargs: Any) -> Iterator[subprocess.Popen[str]]:
    """Run the command for the length of the block."""
    process = subprocess.Popen(
        command_line(*arguments),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=helpers.ROOT, env=_environment({}), **kwargs,
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
    assert "fake_worker started, pid " in result.stderr


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
        assert process.wait(10) == 9


def test_signal_that_comes_before_the_worker_is_kept_for_it(
    make_worker: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return popen(*args, **kwargs)

    monkeypatch.setattr(launch.subprocess, "Popen", interrupted)
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
        "worker", "--worker", worker, **{ADDRESS_VARIABLE: ADDRESS, "KEPT": "yes"}
    )
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


# ---- what can be wrong ----


def test_missing_worker_program_is_named_with_the_remedy() -> None:
    with pytest.raises(LaunchError) as caught:
        run_worker(ADDRESS, worker="no_such_worker")
    assert str(caught.value) == (
        "there is no worker program 'no_such_worker'; give its path with --worker, "
        "or put the directory of vine_worker on PATH"
    )


def test_worker_without_the_right_to_be_run_counts_as_missing(
    make_worker: Callable[..., str],
) -> None:
    worker = make_worker("exit 0")
    os.chmod(worker, 0o644)
    with pytest.raises(LaunchError, match="there is no worker program"):
        run_worker(ADDRESS, worker=worker)


def test_worker_that_is_no_program_is_named(make_worker: Callable[..., str]) -> None:
    worker = make_worker("exit 0", shell="/nonexistent/shell")
    before = [signal.getsignal(number) for number in PASSED_ON]
    with pytest.raises(LaunchError, match=f"cannot start {worker}: No such file or directory"):
        run_worker(ADDRESS, worker=worker)
    assert [signal.getsignal(number) for number in PASSED_ON] == before


def test_address_without_a_sock_id_names_no_manager() -> None:
    with pytest.raises(SinfulError, match=r"<192\.0\.2\.7:9618> names no manager"):
        run_worker("<192.0.2.7:9618>", worker="true")


def test_text_that_is_no_address_is_a_sinful_error() -> None:
    with pytest.raises(SinfulError):
        run_worker("192.0.2.7:9618", worker="true")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["worker"], 2, f"no address: give --address or set {ADDRESS_VARIABLE}"),
        (["worker", "--address", ""], 2, "no address"),
        (["worker", "--address", "host:9618"], 2, "is no HTCondor address"),
        (["worker", "--address", "<192.0.2.7:9618>", "--worker", "true"], 2, "no sock="),
        (["worker", "--address", ADDRESS, "--worker", "none"], 1, "no worker program 'none'"),
        (["worker", "--address", ADDRESS, "--connect-timeout", "x"], 2, "'x' is not a"),
        (
            ["worker", "--address", ADDRESS, "--cores", "4"],
            2,
            "unrecognized arguments: --cores",
        ),
        (["worker", "--address"], 2, "expected one argument"),
        ([], 2, "NOUN"),
    ],
)
def test_command_says_what_is_wrong(arguments: list[str], status: int, message: str) -> None:
    result = run_command(*arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_help_tells_how_to_use_it() -> None:
    result = run_command("worker", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    text = " ".join(result.stdout.split())
    for wanted in (
        "--address SINFUL",
        "--worker PROGRAM",
        "--connect-timeout SECONDS",
        f"(default: ${ADDRESS_VARIABLE})",
        "the worker's own options, after --",
        "example: vine_sharedport worker --address '<192.0.2.7:9618?sock=vine_42>'",
    ):
        assert wanted in text
