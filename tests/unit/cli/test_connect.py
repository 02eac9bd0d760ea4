"""``vine_sharedport connect``: what it says about a way in, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_shared_port import FakeSharedPort
from tests.unit import helpers
from vine_sharedport.dialing.explain import attempt
from vine_sharedport.errors import ExitStatus, Verdict
from vine_sharedport.secret_file import make_secret_file
from vine_sharedport.serving.endpoint import Endpoint
from vine_sharedport.wire.gate import MAGIC
from vine_sharedport.wire.sinful import Sinful


def run(
    *arguments: str, noun: str = "connect", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    kept = {name: value for name, value in os.environ.items() if "VINE_SHARED" not in name}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "vine_sharedport", noun, *arguments],
        capture_output=True, text=True, timeout=30, check=False, cwd=helpers.ROOT,
        env={**kept, "PYTHONPATH": str(helpers.ROOT), **environment},
    )  # fmt: skip


def words(text: str) -> str:
    """Return the text in one line, however it was wrapped."""
    return " ".join(text.split())


@pytest.fixture
def fake(short_directory: Path) -> Iterator[FakeSharedPort]:
    with FakeSharedPort(str(short_directory)) as made:
        yield made


@contextlib.contextmanager
def served(directory: Path, secret: bytes | None = None) -> Iterator[None]:
    """Serve vine_1, and take whoever comes."""
    with Endpoint("vine_1", str(directory), secret=secret) as endpoint:
        ended = threading.Event()

        def serve() -> None:
            while not ended.wait(0.01):
                for client in endpoint.poll():
                    client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    path = str(tmp_path / "secret")
    make_secret_file(path)
    return path


def test_way_in_that_works_is_said_with_what_was_checked(
    fake: FakeSharedPort, short_directory: Path, secret_file: str
) -> None:
    secret = Path(secret_file).read_bytes()
    with served(short_directory, secret):
        result = run("--secret-file", secret_file, fake.address("vine_1"))
    assert (result.returncode, result.stderr) == (0, "")
    text = words(result.stdout)
    assert text.startswith(f"The way in works, by 127.0.0.1 port {fake.port}, after ")
    assert "Checked: TCP, the sock id, and the secret, which both sides hold." in text


def test_without_a_secret_it_says_what_it_could_not_check(
    fake: FakeSharedPort, short_directory: Path
) -> None:
    with served(short_directory):
        result = run(VINE_SHAREDPORT_ADDRESS=fake.address("vine_1"))
    assert result.returncode == 0, result.stderr
    text = words(result.stdout)
    assert "the shared port did not close the connection at once" in text
    assert "Not checked, for want of --secret-file: whether this manager has a gate" in text


def test_explanation_shows_each_candidate_and_what_it_did(
    fake: FakeSharedPort, short_directory: Path, secret_file: str
) -> None:
    secret = Path(secret_file).read_bytes()
    with socket.socket() as closed, served(short_directory, secret):
        closed.bind(("127.0.0.1", 0))
        refused = closed.getsockname()[1]
        address = (
            f"<127.0.0.9:{refused}?addrs=127.0.0.1-{refused}+127.0.0.1-{fake.port}"
            "&PrivNet=cluster&PrivAddr=%3c10.0.0.1:9%3e&alias=ap.example.org&sock=vine_1>"
        )
        result = run(
            "--explain", "--private-network", "home", address,
            VINE_SHAREDPORT_SECRET_FILE=secret_file,
        )  # fmt: skip
    assert result.returncode == 0, result.stdout
    lines = result.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(" 1  "))
    rows = [line.split() for line in lines[start:]]
    assert rows[0][:6] == ["1", "127.0.0.1", "port", str(refused), "addrs", "failed"]
    assert rows[0][-2:] == ["Connection", "refused"]
    assert rows[1][:7] == [
        "2",
        "127.0.0.1",
        "port",
        str(fake.port),
        "addrs",
        "connected",
        "after",
    ]
    assert rows[1][-1] == "ms"
    assert rows[2] == ["CONNECT", "sent"]
    assert rows[3][:3] == ["gate", "passed", "after"]
    assert (
        words(lines[start + 4])
        == f"3 127.0.0.9 port {refused} host not tried: it was not needed"
    )
    assert rows[5][0] == "4"
    # Each row's last column stands below the others'.
    assert len({lines[start + 1].index("connected"), lines[start + 2].index("CONNECT")}) == 1
    text = words(result.stdout)
    assert "PrivAddr is left out: it holds in the network 'cluster', and this machine" in text
    assert "alias, by the name service, is the last resort" in text
    assert all(len(line) <= 98 for line in lines if "<" not in line)
    assert result.stdout.isascii()


def test_json_has_the_same_for_programs(fake: FakeSharedPort, short_directory: Path) -> None:
    address = fake.address("vine_1")
    with served(short_directory):
        result = run("--json", address)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["schema"] == 1
    assert (told["works"], told["error"], told["address"]) == (True, None, address)
    (candidate,) = told["candidates"]
    assert (candidate["number"], candidate["host"], candidate["source"]) == (
        1,
        "127.0.0.1",
        "addrs",
    )
    steps = [step["what"] for step in candidate["steps"]]
    assert steps == ["started", "connected", "sent", "not closed"]
    at = [step["at_ms"] for step in candidate["steps"]]
    assert at == sorted(at)
    assert at[-1] >= 50


# ---- what is wrong, and what to do ----


def test_dead_sock_id(fake: FakeSharedPort) -> None:
    result = run("--explain", fake.address("vine_1"))
    assert (result.returncode, result.stderr) == (ExitStatus.LATER, "")
    text = words(result.stdout)
    assert "CONNECT sent" in text
    assert "The way in does not work. - The access point was reached." in text
    assert "Compare the sock= of the address with that of manager.shared_port.address" in text


def test_refused_secret(fake: FakeSharedPort, short_directory: Path, secret_file: str) -> None:
    with served(short_directory, bytes(32)):
        result = run("--secret-file", secret_file, fake.address("vine_1"))
    assert result.returncode == ExitStatus.WRONG_SECRET
    assert "Next: copy the manager's secret file to this machine" in words(result.stdout)
    with served(short_directory, bytes(32)):
        result = run("--explain", "--secret-file", secret_file, fake.address("vine_1"))
    assert "CONNECT sent failed after" in words(result.stdout)
    assert "Next: copy the manager's secret file to this machine" in words(result.stdout)


def test_missing_secret(fake: FakeSharedPort, short_directory: Path) -> None:
    with served(short_directory, bytes(32)):
        result = run(fake.address("vine_1"))
    assert result.returncode == ExitStatus.WRONG_SECRET
    assert "print(manager.shared_port.worker_command)" in words(result.stdout)


def test_manager_without_a_gate(
    fake: FakeSharedPort, short_directory: Path, secret_file: str
) -> None:
    with served(short_directory):
        result = run("--secret-file", secret_file, "--timeout", "1", fake.address("vine_1"))
    assert result.returncode == ExitStatus.LATER
    assert "If the manager was made with gate=False, give no secret file." in words(
        result.stdout
    )


def test_port_at_which_nobody_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        result = run(f"<127.0.0.1:{closed.getsockname()[1]}?sock=vine_1>")
    assert result.returncode == ExitStatus.LATER
    assert "Connection refused" in result.stdout
    assert "nothing listens on the port" in words(result.stdout)


def test_name_that_does_not_resolve() -> None:
    result = run("--explain", "<nohost.invalid:9618?sock=vine_1>")
    assert result.returncode == ExitStatus.LATER
    assert "the name service says: " in words(result.stdout)
    assert "- This machine cannot resolve the name" in words(result.stdout)


@pytest.mark.parametrize(
    ("after_connect", "verdict", "advice"),
    [
        (
            b"SSH-2.0-OpenSSH_9.9 Debian\r\n",
            Verdict.NOT_A_GATE,
            "Something else answers at this address",
        ),
        (
            MAGIC + bytes(48),
            Verdict.UNPROVEN_SERVER,
            "The access point was reached, and somebody without the secret",
        ),
    ],
)
def test_who_is_no_manager_of_ours(
    after_connect: bytes, verdict: Verdict, advice: str, secret_file: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as client, contextlib.suppress(OSError):
                client.sendall(after_connect)
                while client.recv(4096):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"<127.0.0.1:{listener.getsockname()[1]}?sock=vine_1>"
        result = run("--json", "--secret-file", secret_file, address)
        thread.join()
    wrong = verdict is Verdict.UNPROVEN_SERVER
    assert result.returncode == (ExitStatus.WRONG_SECRET if wrong else ExitStatus.LATER)
    told = json.loads(result.stdout)
    assert told["verdict"] == verdict.value
    assert told["candidates"][0]["steps"][-1]["verdict"] == verdict.value
    (said,) = told["advice"]
    assert said.startswith(advice)


def test_closed_stdout_is_no_riddle() -> None:
    result = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "vine_sharedport",
         "connect", "<127.0.0.1:1?sock=vine_1>"],
        stderr=subprocess.PIPE, text=True, timeout=30, check=False, cwd=helpers.ROOT,
        env={**os.environ, "PYTHONPATH": str(helpers.ROOT)},
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (ExitStatus.LATER, "")


def test_address_without_a_sock_id_is_tcp_alone(fake: FakeSharedPort) -> None:
    result = run(fake.address())
    assert result.returncode == 0
    assert "Checked: TCP alone" in words(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "VINE_SHAREDPORT_ADDRESS"),
        (["host:9618"], 2, "'host:9618'"),
        (["<192.0.2.7>"], 2, "<192.0.2.7>"),
        (["<127.0.0.1:1?sock=a%20b>"], 2, "'a b'"),
        (["<127.0.0.1:1?sock=a>", "--timeout", "x"], 2, "'x'"),
        (["<127.0.0.1:1?sock=a>", "--secret-file", "/none"], 2, "/none"),
        (["<127.0.0.1:1?sock=a>", "--cores"], 2, "--cores"),
    ],
)
def test_command_says_what_is_wrong(arguments: list[str], status: int, message: str) -> None:
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_private_address_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        private = f"PrivNet=cluster&PrivAddr=%3c127.0.0.1:{port}%3e"
        found = attempt(
            Sinful.parse(f"<192.0.2.7:9618?{private}&sock=vine_1>"), private_network="cluster"
        )
    assert found.works
    assert [c.source for c in found.candidates] == ["PrivAddr", "host"]
    assert "PrivAddr is first, as this machine is in its network 'cluster'" in words(
        found.explained()
    )


# ---- a bundle without a secret ----


@contextlib.contextmanager
def kept(directory: Path, secret: bytes | None) -> Iterator[None]:
    """Serve vine_1, and keep whoever comes, as a manager does."""
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(Endpoint("vine_1", str(directory), secret=secret))
        ended = threading.Event()

        def serve() -> None:
            while not ended.wait(0.01):
                for client in endpoint.poll():
                    stack.enter_context(client)

        thread = threading.Thread(target=serve)
        thread.start()
        stack.callback(thread.join)
        stack.callback(ended.set)
        yield


def bundle(directory: Path, address: str, *options: str) -> subprocess.CompletedProcess[str]:
    arguments = ["--address", address, "--bundle", str(directory / "bundle"), *options]
    return run(*arguments, noun="worker")


def test_a_bundle_without_a_secret_warns_if_the_manager_asks_for_one(
    fake: FakeSharedPort, short_directory: Path, secret_file: str
) -> None:
    secret = Path(secret_file).read_bytes()
    with kept(short_directory, secret):
        result = bundle(short_directory, fake.address("vine_1"))
        assert result.returncode == 0, result.stderr
        assert "--secret-file" in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert "Who has its secret" not in result.stdout
        given = bundle(short_directory, fake.address("vine_1"), "--secret-file", secret_file)
        assert (given.returncode, given.stderr) == (0, "")
        assert "Who has its secret" in given.stdout


def test_a_bundle_for_a_manager_without_a_gate_warns_of_nothing(
    fake: FakeSharedPort, short_directory: Path
) -> None:
    with kept(short_directory, None):
        result = bundle(short_directory, fake.address("vine_1"))
    assert (result.returncode, result.stderr) == (0, "")


def test_a_bundle_for_a_manager_that_is_not_reached_says_so_and_is_written(
    short_directory: Path,
) -> None:
    result = bundle(short_directory, "<127.0.0.1:1?sock=vine_1>")
    assert result.returncode == 0
    assert "was not reached to ask whether it needs one: unless it has gate=False" in (
        result.stderr
    )
    assert (short_directory / "bundle" / "launcher.sh").exists()
