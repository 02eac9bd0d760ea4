"""Several addresses at once, and names within a time limit, on each C library."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loopback import mute
from vine_sharedport.dialing.dial import connect

from .support import CONNECT, HERE, RESERVED, SECRET, SOCK_ID, Client, EchoManager, Once

TALK = ("send", "there", "hear")
# How many addresses are dead before the one that is not.
DEAD = [1, 3, pytest.param(random.choice([2, 4, 5]), id="drawn")]
NONE = "-1 errno 10, ends told: 0"  # ECHILD


@contextlib.contextmanager
def dead_before(manager: EchoManager, count: int) -> Iterator[str]:
    """Return the manager's address behind so many that take no connection and refuse none."""
    with contextlib.ExitStack() as stack:
        hosts = [f"127.0.1.{n}" for n in range(1, count + 1)]
        ports = [stack.enter_context(mute(host)) for host in hosts]
        dead = "+".join(f"{host}-{port}" for host, port in zip(hosts, ports))
        yield manager.address_by(f"{dead}+127.0.0.1-PORT")


@pytest.mark.alone
@pytest.mark.parametrize("count", DEAD)
@pytest.mark.parametrize("way", ["shim", "relay"])
def test_a_dead_address_costs_a_second_at_most(
    glibc: Client, manager: EchoManager, way: str, count: int
) -> None:
    with dead_before(manager, count) as address:
        began = time.monotonic()
        if way == "shim":
            done = glibc.run(*CONNECT, *TALK, address=address, secret_file=manager.secret_file)
            assert done.lines("heard") == ["hello there"], done.stderr
        else:
            connect(address, secret=SECRET).close()
        took = time.monotonic() - began
    # The next one starts 250 ms after the one before.
    assert 0.24 * count < took < 0.25 * count + 0.75, took


@pytest.mark.parametrize("count", DEAD)
def test_dead_addresses_are_passed_by_on_every_c_library(
    client: Client, manager: EchoManager, count: int
) -> None:
    with dead_before(manager, count) as address:
        began = time.monotonic()
        done = client.run(
            *CONNECT, *TALK, "close", *CONNECT, *TALK, "state",
            address=address, secret_file=manager.secret_file,
        )  # fmt: skip
        took = time.monotonic() - began
    assert done.lines("heard") == ["hello there"] * 2, done.stderr
    # No descriptor is left of those that were overtaken.
    assert done.state()["open"] == 4
    assert took < 10, "it would be 15 s one after the other"


def test_dead_addresses_alone_cost_the_time_limit_once(
    glibc: Client, manager: EchoManager
) -> None:
    with contextlib.ExitStack() as stack:
        hosts = [f"127.0.1.{n}" for n in (1, 2, 3)]
        ports = [stack.enter_context(mute(host)) for host in hosts]
        addrs = "+".join(f"{host}-{port}" for host, port in zip(hosts, ports))
        began = time.monotonic()
        done = glibc.run(
            "loop", *RESERVED, "20",
            address=f"<127.0.1.1:{ports[0]}?addrs={addrs}&sock={SOCK_ID}>",
            secret_file=manager.secret_file, connect_timeout="3",
        )  # fmt: skip
        took = time.monotonic() - began
    assert done.status == 75, done.stderr
    assert 2 < took < 8
    for host, port in zip(hosts, ports):
        assert f"by {host} port {port}: " in done.stderr
    assert "no answer in time" in done.stderr


# ---- names ----


@pytest.fixture
def named(request: pytest.FixtureRequest, once: Once, libc: str) -> Client:
    """Return the client of a C library, with a name service of ours before its own."""
    client: Client = request.getfixturevalue(libc)
    command = {"glibc": request.getfixturevalue("compiler"), "musl": "musl-gcc"}[libc]
    flags = ["-shared", "-fPIC", "-D_GNU_SOURCE", "-Wall", "-Werror"]
    source = str(HERE / "name_service.c")

    def make(place: Path) -> None:
        output = str(place / "name-service.so")
        subprocess.run([command, *flags, source, "-o", output], check=True)

    service = once(f"name-service-{libc}", make) / "name-service.so"
    return Client(client.libc, client.program, f"{client.library}:{service}")


each_libc = pytest.mark.parametrize("libc", ["glibc", "musl"])


@each_libc
@pytest.mark.parametrize("name", ["hangs", "dies", "none"])
def test_a_name_without_an_answer_is_given_up_in_time_and_leaves_nothing(
    named: Client, manager: EchoManager, name: str
) -> None:
    port, host = manager.shared_port.port, f"{name}.{random.randrange(10**9)}.example"
    began = time.monotonic()
    done = named.run(
        "handler", "count-children", "loop", *RESERVED, "60", "children", "state",
        address=f"<{host}:{port}?sock={SOCK_ID}>",
        secret_file=manager.secret_file, connect_timeout="3",
    )  # fmt: skip
    took = time.monotonic() - began
    assert done.status == 75, done.stderr
    assert 1 < took < 15
    silent = name == "hangs"
    told = "did not answer in time" if silent else "has no address of it"
    assert f"by {host} port {port}: the name service {told}" in done.stderr
    assert done.lines("children") == [NONE]
    assert done.state()["open"] == 3


@each_libc
@pytest.mark.parametrize("name", ["slow", "both", "other"])
def test_a_name_that_is_answered_leads_to_the_manager(
    named: Client, manager: EchoManager, name: str
) -> None:
    port, host = manager.shared_port.port, f"{name}.{random.randrange(10**9)}.example"
    with mute("127.0.0.2", port):
        done = named.run(
            "count-children", *CONNECT, *TALK, "children", "state",
            address=f"<{host}:{port}?sock={SOCK_ID}>", secret_file=manager.secret_file,
        )  # fmt: skip
    assert done.lines("heard") == ["hello there"], done.stderr
    assert f"by {host} port {port}" in done.stderr
    assert done.lines("children") == [NONE]
    assert done.state()["open"] == 4


@each_libc
@pytest.mark.parametrize("name", ["hangs", "dies", "none"])
def test_a_name_does_not_hold_up_an_address(
    named: Client, manager: EchoManager, name: str
) -> None:
    """The private address is the first and a name; the public one is an address."""
    port = manager.shared_port.port
    address = manager.address_by(
        "127.0.0.1-PORT", PrivNet="here", PrivAddr=f"<{name}.example:{port}?sock={SOCK_ID}>"
    )
    began = time.monotonic()
    done = named.run(
        *CONNECT, *TALK, "children", "state",
        address=address, secret_file=manager.secret_file, private_network="here",
    )  # fmt: skip
    assert done.lines("heard") == ["hello there"], done.stderr
    assert time.monotonic() - began < 10
    assert done.lines("children") == [NONE]
    assert done.state()["open"] == 4


@each_libc
@pytest.mark.parametrize("handler", [(), ("handler",)], ids=["default", "worker's handler"])
def test_a_signal_does_not_wait_for_the_name_service(
    named: Client, manager: EchoManager, handler: tuple[str, ...]
) -> None:
    variables = {
        "VINE_SHAREDPORT_ADDRESS": f"<hangs.example:9618?sock={SOCK_ID}>",
        "VINE_SHAREDPORT_SECRET_FILE": manager.secret_file,
    }
    words = [*handler, "loop", *RESERVED, "60", "children"]
    command, environment = named.command(words, variables, None)
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 20
        while not (asking := _children(process.pid)):
            assert time.monotonic() < until, "it asks nobody"
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        said, _ = process.communicate(timeout=20)
        assert time.monotonic() - began < 5
    assert process.returncode == (3 if handler else -signal.SIGTERM)
    if handler:
        assert "children: -1 errno 10," in said
    until = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}") for pid in asking):
        assert time.monotonic() < until, "the child has outlived its worker"
        time.sleep(0.01)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [
            int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []
