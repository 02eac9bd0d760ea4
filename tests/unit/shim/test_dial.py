"""The way in: what connect() to the reserved address becomes, on each C library."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .support import CONNECT, RESERVED, SOCK_ID, Client, EchoManager, forwarder, has_ipv6

TALK = ("send", "there", "hear")


def dead_port() -> int:
    """Return a port of the loopback address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextlib.contextmanager
def turning_silent(before_silence: Callable[[], None] = lambda: None) -> Iterator[int]:
    """Yield the port of a server that closes its first connection and holds the others."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            server.accept()[0].close()
            held.append(server.accept()[0])
            before_silence()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()
        for each in held:
            each.close()


@pytest.mark.parametrize("way", [("connect",), ("nonblock", "connect")], ids=" ".join)
def test_a_worker_reaches_its_manager_through_the_gate(
    client: Client, manager: EchoManager, way: tuple[str, ...]
) -> None:
    done = client.run(
        *way, *RESERVED, *TALK, address=manager.address, secret_file=manager.secret_file
    )
    assert done.lines("connect") == ["0"], done.stderr
    assert done.lines("heard") == ["hello there"]
    assert done.status == 0
    assert "through the gate" in done.stderr
    assert manager.served == 1


def test_the_loop_of_dttools_ends_with_a_link_at_its_first_try(
    client: Client, manager: EchoManager
) -> None:
    done = client.run(
        "loop", *RESERVED, "10", *TALK,
        address=manager.address, secret_file=manager.secret_file,
    )  # fmt: skip
    assert done.lines("tries") == ["1"], done.stderr
    assert done.lines("loop") == ["0"]
    assert done.lines("heard") == ["hello there"]


def test_a_manager_without_a_gate_is_reached_without_a_secret(
    client: Client, open_manager: EchoManager
) -> None:
    done = client.run(*CONNECT, *TALK, address=open_manager.address)
    assert done.lines("heard") == ["hello there"], done.stderr


def test_the_reserved_address_is_known_as_an_ipv6_one(
    client: Client, manager: EchoManager
) -> None:
    done = client.run(
        "connect", f"::ffff:{RESERVED[0]}", RESERVED[1], *TALK,
        address=manager.address, secret_file=manager.secret_file,
    )  # fmt: skip
    assert done.lines("heard") == ["hello there"], done.stderr


def test_the_daemon_hears_who_asks(glibc: Client, manager: EchoManager) -> None:
    glibc.run(*CONNECT, *TALK, address=manager.address, secret_file=manager.secret_file)
    ((name, timeout),) = manager.shared_port.names
    assert name.startswith("vine_sharedport worker ")
    assert 1 <= timeout <= 30


@pytest.mark.skipif(not has_ipv6(), reason="no ::1 on this machine")
def test_an_ipv6_candidate_is_reached(client: Client, manager: EchoManager) -> None:
    with forwarder(socket.AF_INET6, "::1", manager.shared_port.port) as port:
        done = client.run(
            *CONNECT, *TALK,
            address=f"<[::1]:{port}?addrs=[--1]-{port}&sock={SOCK_ID}>",
            secret_file=manager.secret_file,
        )  # fmt: skip
    assert done.lines("heard") == ["hello there"], done.stderr
    assert "by ::1 port" in done.stderr


def test_a_dead_candidate_is_passed_over(client: Client, manager: EchoManager) -> None:
    done = client.run(
        *CONNECT, *TALK,
        address=manager.address_by(f"127.0.0.1-{dead_port()}+127.0.0.1-PORT"),
        secret_file=manager.secret_file,
    )  # fmt: skip
    assert done.lines("heard") == ["hello there"], done.stderr
    assert "connection refused" in done.stderr


def test_a_silent_candidate_leaves_time_for_the_next(
    glibc: Client, manager: EchoManager
) -> None:
    # The time limit counts from the first failure, so there is one.
    manager.stop()
    with turning_silent(before_silence=manager.start) as port:
        done = glibc.run(
            "loop", *RESERVED, "20", *TALK,
            address=manager.address_by(f"127.0.0.1-{port}+127.0.0.1-PORT"),
            secret_file=manager.secret_file, connect_timeout="4",
        )  # fmt: skip
    assert done.lines("heard") == ["hello there"], done.stderr
    assert "no gate greeted us in time" in done.stderr


def test_a_name_is_resolved(client: Client, manager: EchoManager) -> None:
    port = manager.shared_port.port
    done = client.run(
        *CONNECT, *TALK,
        address=f"<localhost:{port}?sock={SOCK_ID}>", secret_file=manager.secret_file,
    )  # fmt: skip
    assert done.lines("heard") == ["hello there"], done.stderr
    assert "by localhost port" in done.stderr


def test_the_alias_is_the_last_resort(glibc: Client, manager: EchoManager) -> None:
    port = manager.shared_port.port
    done = glibc.run(
        *CONNECT, *TALK,
        address=f"<127.255.255.254:{port}?addrs=127.0.0.1-{dead_port()}&alias=localhost"
        f"&sock={SOCK_ID}>",
        secret_file=manager.secret_file,
    )  # fmt: skip
    assert done.lines("heard") == ["hello there"], done.stderr


def test_the_private_address_is_taken_within_its_network_alone(
    glibc: Client, manager: EchoManager
) -> None:
    address = manager.address_by(
        "127.0.0.1-PORT", PrivNet="here", PrivAddr="<127.0.0.2:PORT?sock=vine_1>"
    )
    inner = {"address": address, "secret_file": manager.secret_file}
    with forwarder(socket.AF_INET, "127.0.0.2", manager.shared_port.port) as port:
        inner["address"] = address.replace(
            f"127.0.0.2%3a{manager.shared_port.port}", f"127.0.0.2%3a{port}"
        ).replace(f"127.0.0.2:{manager.shared_port.port}", f"127.0.0.2:{port}")
        for network, host in (("here", "127.0.0.2"), ("elsewhere", "127.0.0.1")):
            done = glibc.run(*CONNECT, *TALK, private_network=network, **inner)
            assert done.lines("heard") == ["hello there"], done.stderr
            assert f"by {host} port" in done.stderr


def test_two_connections_follow_one_another(client: Client, manager: EchoManager) -> None:
    done = client.run(
        *CONNECT, *TALK, "close", *CONNECT, *TALK, "close",
        address=manager.address, secret_file=manager.secret_file,
    )  # fmt: skip
    assert done.lines("heard") == ["hello there"] * 2, done.stderr
    assert manager.served == 2


def test_a_connected_socket_is_connected(client: Client, manager: EchoManager) -> None:
    done = client.run(
        *CONNECT, "again", *RESERVED, *TALK,
        address=manager.address, secret_file=manager.secret_file,
    )  # fmt: skip
    assert done.lines("again") == [f"errno {errno.EISCONN}"], (done.status, done.stderr)
    assert done.lines("heard") == ["hello there"]


# --- what the worker had set stays -----------------------------------------------------------


@pytest.mark.parametrize("nonblock", [False, True])
@pytest.mark.parametrize("cloexec", [False, True])
def test_the_descriptor_keeps_its_number_and_flags(
    client: Client, manager: EchoManager, nonblock: bool, cloexec: bool
) -> None:
    words = ["nonblock"] * nonblock + ["cloexec"] * cloexec
    plain = client.run(*words, "connect", "127.0.0.1", str(manager.shared_port.port), "state")
    done = client.run(
        *words, *CONNECT, "state", address=manager.address, secret_file=manager.secret_file
    )
    state = done.state()
    for name in ("fd", "nonblock", "cloexec", "open"):
        assert state[name] == plain.state()[name], name
    assert (state["nonblock"], state["cloexec"]) == (nonblock, cloexec)
    assert (state["nodelay"], state["keepalive"]) == (1, 1)
    assert [state[name] for name in ("idle", "interval", "count")] == [8, 8, 75]


@pytest.mark.parametrize(
    "text",
    ["60/10/6", "1/32767/127", pytest.param(f"{random.randint(2, 999)}/5/7", id="drawn")],
)
def test_a_silent_connection_is_probed_as_asked(
    client: Client, manager: EchoManager, text: str
) -> None:
    given = {"address": manager.address, "secret_file": manager.secret_file}
    state = client.run(*CONNECT, "state", keepalive=text, **given).state()
    assert "/".join(str(state[name]) for name in ("idle", "interval", "count")) == text


def test_probes_can_be_left_to_the_system(glibc: Client, manager: EchoManager) -> None:
    port = str(manager.shared_port.port)
    plain = glibc.run("connect", "127.0.0.1", port, "state").state()
    done = glibc.run(
        *CONNECT, "state",
        address=manager.address, secret_file=manager.secret_file, keepalive="off",
    )  # fmt: skip
    for name in ("idle", "interval", "count"):
        assert done.state()[name] == plain[name]


def test_buffer_sizes_are_carried_over(client: Client, manager: EchoManager) -> None:
    given = {"address": manager.address, "secret_file": manager.secret_file}
    port = str(manager.shared_port.port)
    plain = client.run("buffers", "40000", "connect", "127.0.0.1", port, "state").state()
    through = client.run("buffers", "40000", *CONNECT, "state", **given).state()
    for name in ("sndbuf", "rcvbuf"):
        assert through[name] == plain[name] == 80000


def test_buffer_sizes_that_nobody_set_stay_the_kernels(
    client: Client, manager: EchoManager
) -> None:
    given = {"address": manager.address, "secret_file": manager.secret_file}
    port = str(manager.shared_port.port)
    plain = client.run("connect", "127.0.0.1", port, "state").state()
    through = client.run(*CONNECT, "state", **given).state()
    for name in ("sndbuf", "rcvbuf"):
        assert through[name] == plain[name]


def test_no_descriptor_is_left_by_failures(glibc: Client, manager: EchoManager) -> None:
    manager.stop()
    done = glibc.run(
        *["connect", *RESERVED, "close"] * 3, "state",
        address=manager.address, secret_file=manager.secret_file,
    )  # fmt: skip
    assert done.lines("connect") == [f"errno {errno.ECONNREFUSED}"] * 3
    assert done.state()["open"] == 3


# --- failing well -----------------------------------------------------------------------


def wrong_secret(directory: Path) -> str:
    (directory / "wrong").write_bytes(bytes(32))
    return str(directory / "wrong")


@pytest.mark.parametrize("handler", [(), ("handler",)], ids=["default", "worker's handler"])
def test_a_wrong_secret_ends_the_worker_with_77(
    client: Client, manager: EchoManager, tmp_path: Path, handler: tuple[str, ...]
) -> None:
    started = time.monotonic()
    done = client.run(
        *handler, "loop", *RESERVED, "20",
        address=manager.address, secret_file=wrong_secret(tmp_path),
    )  # fmt: skip
    assert done.status == 77, done.stderr
    assert time.monotonic() - started < 5
    assert "another secret" in done.stderr
    assert manager.served == 0
    if handler:  # the worker said goodbye, and what it wrote is not lost
        assert done.lines("tries") == ["2"]


def test_a_worker_without_the_secret_ends_with_77(client: Client, manager: EchoManager) -> None:
    done = client.run("loop", *RESERVED, "20", address=manager.address)
    assert done.status == 77, done.stderr
    assert "VINE_SHAREDPORT_SECRET_FILE" in done.stderr


def test_a_dead_sock_id_is_retried_with_growing_pauses(
    glibc: Client, manager: EchoManager
) -> None:
    manager.stop()
    started = time.monotonic()
    done = glibc.run(
        "loop", *RESERVED, "60",
        address=manager.address, secret_file=manager.secret_file, connect_timeout="4",
    )  # fmt: skip
    took = time.monotonic() - started
    assert done.status == 75, done.stderr
    assert 2.5 <= took < 8
    # 0.5 s, 1 s, 2 s, each times 0.5 to 1: a handful of tries, where the loop itself, with its
    # 0.05 s, would have made eighty.
    assert 3 <= len(manager.shared_port.refused) <= 8
    assert "no manager serves this sock id" in done.stderr
    assert "not reached within 4 s" in done.stderr


def test_a_manager_that_was_there_has_most_likely_ended(
    glibc: Client, manager: EchoManager
) -> None:
    def end() -> None:
        while not manager.served:
            time.sleep(0.01)
        manager.stop()

    ending = threading.Thread(target=end)
    ending.start()
    try:
        done = glibc.run(
            # It hears the end of the first connection.
            "loop", *RESERVED, "20", *TALK, "hear", "close", "loop", *RESERVED, "20",
            address=manager.address, secret_file=manager.secret_file, connect_timeout="2",
        )  # fmt: skip
    finally:
        manager.served += 1
        ending.join()
    assert done.status == 75, done.stderr
    assert "not reached within 2 s again, and has most likely ended; this worker" in done.stderr


def test_an_unreachable_host_ends_the_worker_with_75(client: Client, tmp_path: Path) -> None:
    done = client.run(
        "loop", *RESERVED, "60",
        address=f"<127.0.0.1:{dead_port()}?sock={SOCK_ID}>", connect_timeout="2",
    )  # fmt: skip
    assert done.status == 75, done.stderr
    assert "connection refused" in done.stderr


def test_a_name_without_an_address_is_told_as_such(glibc: Client) -> None:
    # RFC 6761: no name below "invalid" exists.
    done = glibc.run(*CONNECT, address=f"<nohost.invalid:9618?sock={SOCK_ID}>")
    assert done.lines("connect") == [f"errno {errno.ECONNREFUSED}"]
    assert "by nohost.invalid port 9618: the name service has no address of it\n" in done.stderr


def test_a_silent_shared_port_is_given_up_in_time(glibc: Client, manager: EchoManager) -> None:
    started = time.monotonic()
    with turning_silent() as port:
        done = glibc.run(
            "loop", *RESERVED, "120",
            address=f"<127.0.0.1:{port}?sock={SOCK_ID}>",
            secret_file=manager.secret_file, connect_timeout="2",
        )  # fmt: skip
    assert done.status == 75, done.stderr
    assert time.monotonic() - started < 5
    assert "no gate greeted us in time" in done.stderr


def test_a_manager_that_comes_late_is_reached(client: Client, manager: EchoManager) -> None:
    manager.stop()
    timer = threading.Timer(1.0, manager.start)
    timer.start()
    try:
        done = client.run(
            "loop", *RESERVED, "20", *TALK,
            address=manager.address, secret_file=manager.secret_file,
        )  # fmt: skip
    finally:
        timer.join()
    assert done.lines("heard") == ["hello there"], done.stderr
    assert done.status == 0


@pytest.mark.parametrize("first", [b"SSH-2.0-OpenSSH_9\r\n0123456789", b"VSP2" + bytes(16)])
def test_another_service_is_named_as_such(
    glibc: Client, manager: EchoManager, first: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                conn, _address = server.accept()
                with conn, contextlib.suppress(ConnectionResetError):
                    conn.sendall(first)
                    while conn.recv(4096):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        done = glibc.run(
            *CONNECT, "close", *CONNECT,
            address=f"<127.0.0.1:{server.getsockname()[1]}?sock={SOCK_ID}>",
            secret_file=manager.secret_file,
        )  # fmt: skip
        thread.join()
    assert done.lines("connect") == [f"errno {errno.ECONNREFUSED}"] * 2
    assert "no gate's greeting" in done.stderr
