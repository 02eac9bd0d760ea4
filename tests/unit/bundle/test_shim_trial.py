"""A manager's address tried with the shim itself: what came of it, and how long it took."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fake_shared_port import FakeSharedPort
from tests.loopback import mute
from tests.unit.cli.test_connect import run, served, words
from vine_sharedport.bundle import shim_trial
from vine_sharedport.bundle.shim_build import library_path
from vine_sharedport.bundle.shim_trial import try_shim
from vine_sharedport.secret_file import make_secret_file

pytestmark = pytest.mark.skipif(library_path() is None, reason="this installation has no shim")


@pytest.fixture
def fake(short_directory: Path) -> Iterator[FakeSharedPort]:
    with FakeSharedPort(str(short_directory)) as made:
        yield made


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    path = str(tmp_path / "secret")
    make_secret_file(path)
    return path


@pytest.mark.parametrize("dead", [0, 1, pytest.param(random.choice([2, 3]), id="drawn")])
def test_it_tells_by_which_address_it_came_in_and_in_which_time(
    fake: FakeSharedPort, short_directory: Path, secret_file: str, dead: int
) -> None:
    with ExitStack() as stack:
        hosts = [f"127.0.1.{n}" for n in range(1, dead + 1)]
        places = [f"{host}-{stack.enter_context(mute(host))}" for host in hosts]
        addrs = "+".join([*places, f"127.0.0.1-{fake.port}"])
        stack.enter_context(served(short_directory, Path(secret_file).read_bytes()))
        found = try_shim(
            f"<127.0.0.1:{fake.port}?addrs={addrs}&sock=vine_1>", secret_file=secret_file
        )
    assert found.works, found
    assert found.said == (
        f"connected to manager vine_1 by 127.0.0.1 port {fake.port}, through the gate",
    )
    assert 0.24 * dead < found.seconds < 10
    assert found.lines()[-1].endswith(f"after {1000 * found.seconds:.1f} ms")


@pytest.mark.parametrize("kind", ["nobody", "refused", "mute", "wrong secret"])
def test_it_tells_why_it_did_not_come_in(
    fake: FakeSharedPort, short_directory: Path, secret_file: str, kind: str
) -> None:
    with ExitStack() as stack:
        address = fake.address("vine_1")
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        if kind == "refused":
            address = f"<127.0.0.1:{closed.getsockname()[1]}?sock=vine_1>"
        elif kind == "mute":
            address = f"<127.0.0.1:{stack.enter_context(mute())}?sock=vine_1>"
        elif kind == "wrong secret":
            stack.enter_context(served(short_directory, bytes(32)))
        began = time.monotonic()
        found = try_shim(address, secret_file=secret_file, timeout=0.1)
        took = time.monotonic() - began
    why = {
        "nobody": "no manager serves this sock id",
        "refused": "connection refused",
        "mute": "no answer in time",
        "wrong secret": "it has another secret than this worker",
    }[kind]
    assert not found.works
    assert why in found.said[0]
    assert len(found.said) == 1, "no word of attempts that nobody makes"
    assert took < 15


@pytest.mark.parametrize("kind", ["none", "not there", "another architecture"])
def test_where_there_is_no_shim_it_is_not_tried(
    fake: FakeSharedPort, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    broken = tmp_path / "libvine_sharedport.so"
    if kind == "none":
        monkeypatch.setattr(shim_trial, "library_path", lambda: None)
        found = try_shim(fake.address("vine_1"))
    else:
        if kind == "another architecture":
            data = bytearray(Path(str(library_path())).read_bytes())
            data[18:20] = b"\xff\xff"  # e_machine
            broken.write_bytes(data)
        found = try_shim(fake.address("vine_1"), library=str(broken))
    assert not found.works
    assert found.said[0].startswith(("not tried: ", "does not load here: "))
    assert fake.names == [], "nothing was connected to"


def test_the_command_explains_both_ways(
    fake: FakeSharedPort, short_directory: Path, secret_file: str
) -> None:
    words_of = ("--explain", "--secret-file", secret_file, fake.address("vine_1"))
    with served(short_directory, Path(secret_file).read_bytes()):
        result = run(*words_of)
        told = run("--json", *words_of)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith("shim")]
    assert len(lines) == 1
    assert "shim connected to manager vine_1 by 127.0.0.1 port" in words(result.stdout)
    assert '"shim": {"works": true, "took_ms": ' in told.stdout
    dead = run("--explain", fake.address("vine_1"))
    assert "shim manager vine_1 by 127.0.0.1 port" in words(dead.stdout)
