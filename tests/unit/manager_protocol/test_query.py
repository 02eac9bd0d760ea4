"""The question, the password's handshake, and answers of every hostile kind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.values import naming
from vine_sharedport.errors import DialError, SettingError, Verdict
from vine_sharedport.factory.manager_view.monitor import says_nobody_there
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.manager_protocol import query as module
from vine_sharedport.manager_protocol.query import (
    ManagerUnreachable,
    query_manager,
    read_answer,
)
from vine_sharedport.registry.reference import Reference
from vine_sharedport.wire.gate import MAGIC
from vine_sharedport.wire.sinful import Sinful

STATUS = [{"tasks_waiting": 3, "project": "sweep"}]
Handler = Callable[["Client"], None]


class Client:
    """The server's end of a connection, in lines."""

    def __init__(self, sock: socket.socket, stop: threading.Event) -> None:
        self.sock = sock
        self.stop = stop
        self._file = sock.makefile("rb")

    def line(self) -> bytes:
        return self._file.readline().rstrip(b"\n")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def close(self) -> None:
        self._file.close()
        self.sock.close()


@contextlib.contextmanager
def serving(handler: Handler, **place: Any) -> Iterator[Reference]:
    """Serve every connection by the handler, one after another; yield the place."""
    stop = threading.Event()
    errors: list[Exception] = []

    def serve() -> None:
        while True:
            sock, _ = listener.accept()
            sock.settimeout(20)
            client = Client(sock, stop)
            try:
                if stop.is_set():
                    return
                handler(client)
            except OSError:
                pass  # the client has gone, as it may
            except Exception as error:
                errors.append(error)
            finally:
                client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield Reference(Sinful("127.0.0.1", port), **place)
        finally:
            stop.set()
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
            thread.join(20)
    assert not errors
    assert not thread.is_alive()


def manager_of(system: str, password: bytes | None = None) -> Handler:
    """Return a handler that behaves as a manager of the system does."""
    words = {
        "taskvine": [b"manager_status", b"worker_status", b"task_status", b"wable_status"],
        "work_queue": [b"queue_status", b"worker_status", b"task_status", b"wable_status"],
    }[system]

    def handle(client: Client) -> None:
        if password is not None and not authenticated(client, password):
            return
        query = client.line()
        if query in words:
            client.send(json.dumps([{"query": query.decode()}, *STATUS]).encode())

    return handle


def authenticated(client: Client, password: bytes) -> bool:
    """Do the server's side of the password's handshake as link_auth.c does."""
    client.send(b"auth password sha1\n")
    if client.line() != b"auth password sha1":
        return False
    client.send(b"serverschallenge\n")
    theirs = client.line()
    assert 20 <= len(theirs) < 1024
    client.send(hashlib.sha1(password + b" " + theirs).hexdigest().encode() + b"\n")
    right = client.line() == hashlib.sha1(password + b" serverschallenge").hexdigest().encode()
    client.send(b"ok\n" if right else b"failure\n")
    return client.line() == b"ok" and right


def says(data: bytes) -> Handler:
    def handle(client: Client) -> None:
        client.line()
        client.send(data)

    return handle


def refusal(handler: Handler, *, timeout: float = 20.0, **place: Any) -> str:
    """Return the message with which asking who behaves so fails."""
    with serving(handler, **place) as there, pytest.raises(ManagerUnreachable) as caught:
        query_manager(there, "manager", timeout=timeout)
    return str(caught.value)


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_bytes(b"open sesame")
    return str(path)


@pytest.mark.parametrize("told", ["taskvine", "work_queue"])
@pytest.mark.parametrize("system", ["taskvine", "work_queue"])
@pytest.mark.parametrize("what", ["manager", "workers", "tasks", "categories"])
def test_each_system_is_asked_in_its_own_words(system: str, told: str, what: str) -> None:
    """Also when the wrong system is named: only one of the words differs."""
    with serving(manager_of(system), system=told) as place:
        (query, status) = query_manager(place, what, timeout=20)
    assert status == STATUS[0]
    if what == "manager":
        assert query == {"query": {"taskvine": "manager_status"}.get(system, "queue_status")}


def test_something_else_than_a_known_question_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=naming("'managers'", "manager", "workers", "tasks", "categories")
    ):
        query_manager(Reference(Sinful("127.0.0.1", 1)), "managers")


def test_the_password_is_proven_by_both_sides(password_file: str) -> None:
    with serving(manager_of("taskvine", b"open sesame"), password_file=password_file) as place:
        assert query_manager(place, "manager", timeout=20)[1:] == STATUS


@pytest.mark.parametrize("content", [b"open sesame\n", b"", b"\xff\x00rest"])
def test_every_byte_of_the_password_file_counts(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    known = content.split(b"\0")[0]  # a C string
    with serving(manager_of("taskvine", known), password_file=str(path)) as place:
        assert query_manager(place, "manager", timeout=20)[1:] == STATUS
    other = refusal(manager_of("taskvine", b"x"), password_file=str(path))
    assert str(path) in other


def test_a_server_that_does_not_know_the_password_gets_no_question(password_file: str) -> None:
    asked = []

    def pretender(client: Client) -> None:
        client.send(b"auth password sha1\nchallenge\n" + b"0" * 40 + b"\nok\n")
        for _ in range(5):
            asked.append(client.line())

    assert password_file in refusal(pretender, password_file=password_file)
    assert asked[3:] == [b"failure", b""]


def test_a_manager_without_a_password_is_named(password_file: str) -> None:
    said = refusal(manager_of("taskvine"), password_file=password_file)
    assert "password_file" in said
    assert password_file not in said, "it has no other password"


def test_a_manager_with_a_password_is_named_to_who_has_none() -> None:
    assert "password_file" in refusal(manager_of("taskvine", b"x"))


def test_a_gate_that_greets_late_is_named_to_who_has_no_secret() -> None:
    def gate(client: Client) -> None:
        client.line()  # the question, for which it takes no time
        client.send(MAGIC + bytes(32))
        client.stop.wait(20)

    began = time.monotonic()
    said = refusal(gate, timeout=20)
    assert time.monotonic() - began < 10, "at once, not when the time is over"
    assert "--secret-file FILE" in said


def test_a_password_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    place = Reference(Sinful("127.0.0.1", 1), password_file=str(tmp_path / "none"))
    with pytest.raises(
        ManagerUnreachable, match=naming(tmp_path / "none", "No such file or directory")
    ):
        query_manager(place, "manager")


@pytest.mark.parametrize("start", [b"", b"auth password sha1\n"])
def test_endless_lines_in_the_handshake_are_not_read(password_file: str, start: bytes) -> None:
    def handle(client: Client) -> None:
        client.send(start)
        while not client.stop.is_set():
            client.send(b"x" * 1000)

    said = refusal(handler=handle, password_file=password_file)
    assert "password_file" in said or password_file in said


def endless(client: Client) -> None:
    client.line()
    client.send(b"[")
    while not client.stop.is_set():
        client.send(b" " * (1 << 20))


def test_an_endless_answer_is_given_up() -> None:
    assert "64 MiB" in refusal(endless, timeout=60)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"<html>404</html>", "'<html>404"),
        (b'[{"tasks_waiting": 3', "JSON"),  # it died on the way
        (b"[" * 1_000_000, "JSON"),
        (b'[{"a":' * 1_000_000, "JSON"),
        (b"{}", "'{}'"),
        (b"[1, 2]", "'[1, 2]'"),
        (b"null", "'null'"),
        (b'[{"n": ' + b"9" * 2_000_000 + b"}]", "2000000"),
        (b"[" + b"{}," * 9_000_000 + b"{}]", "8000000"),
        (b"\x00\xff\xfe", "JSON"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "TLS"),
    ],
)
def test_a_hostile_answer_is_an_error_that_shows_it(data: bytes, found: str) -> None:
    said = refusal(says(data), timeout=60)
    assert found in said
    assert len(said) < 500
    assert said.isprintable()


def test_bytes_that_are_no_utf_8_are_replaced() -> None:
    with serving(says(b'[{"command": "caf\xe9"}]')) as place:
        assert query_manager(place, "tasks", timeout=20) == [{"command": "caf\ufffd"}]


def test_a_long_answer_is_read_whole() -> None:
    workers = [{"hostname": f"node{n}.example", "text": "x" * 500} for n in range(20_000)]
    with serving(says(json.dumps(workers).encode())) as place:
        assert query_manager(place, "workers", timeout=60) == workers


def drip(client: Client) -> None:
    client.line()
    while not client.stop.wait(0.01):
        client.send(b" ")


def drip_in_the_handshake(client: Client) -> None:
    client.send(b"auth password sha1")  # and its line break never comes
    drip(client)


def mute(client: Client) -> None:
    client.stop.wait(20)


@pytest.mark.parametrize(
    ("handler", "how"),
    [
        (drip, "plain"), (mute, "plain"),
        (drip_in_the_handshake, "password"), (mute, "password"), (mute, "tls"),
    ],
)  # fmt: skip
def test_the_time_holds_for_everything_together(
    handler: Handler, how: str, password_file: str
) -> None:
    place = {"tls": how == "tls", "password_file": password_file if how == "password" else None}
    started = time.monotonic()
    said = refusal(handler, timeout=0.5, **place)
    assert time.monotonic() - started < 10
    assert re.search(naming("manager_status", "0.5 s"), said) or "password_file" in said


def test_who_closes_at_once_is_named_with_what_was_tried() -> None:
    said = refusal(lambda client: None)
    assert re.search(naming("manager_status", "queue_status", "ssl"), said)


@pytest.mark.parametrize("tls", [False, True])
def test_that_nobody_serves_the_sock_id_is_the_first_cause(tls: bool) -> None:
    with serving(lambda client: None) as there:
        place = replace(there, address=there.address.with_sock("nosuch"), tls=tls)
        with pytest.raises(ManagerUnreachable) as caught:
            query_manager(place, "manager", timeout=20)
    said = str(caught.value)
    assert "nosuch" in said
    assert "TLS" not in said, "nothing speaks for it"
    assert caught.value.verdict is Verdict.NOBODY_THERE
    assert says_nobody_there(caught.value, place)


def test_nobody_at_the_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(
        ManagerUnreachable, match=f"127.0.0.1 port {port}: Connection refused"
    ) as caught:
        query_manager(Reference(Sinful("127.0.0.1", port)), "manager")
    assert caught.value.verdict is Verdict.CONNECTION_REFUSED
    assert issubclass(ManagerUnreachable, DialError)


def test_a_host_that_is_not_known_is_named() -> None:
    with pytest.raises(ManagerUnreachable, match=naming("no-such-host.invalid")):
        query_manager(Reference(Sinful("no-such-host.invalid", 1)), "manager")


def test_a_secret_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    place = Reference(Sinful.parse("<127.0.0.1:1?sock=a>"), str(tmp_path / "none"))
    with pytest.raises(ManagerUnreachable, match=naming(tmp_path / "none")):
        query_manager(place, "manager")


def test_a_shared_port_that_says_nothing_is_not_taken_for_a_busy_manager(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(32))
    with serving(mute) as there:
        place = Reference(there.address.with_sock("a"), str(secret))
        with pytest.raises(ManagerUnreachable) as caught:
            query_manager(place, "manager", timeout=0.5)
    assert "manager_status" not in str(caught.value)


def test_tls_with_who_has_none_is_named() -> None:
    assert "TLS" in refusal(manager_of("taskvine"), tls=True)


def test_the_place_is_what_the_options_say() -> None:
    options = Options.make({
        "address": "<192.0.2.1:9618?sock=a>", "secret_file": "/s", "ssl": True,
        "tls_sni": "n", "password": "/p", "system": "work_queue",
    })  # fmt: skip
    assert options.reference == Reference(
        Sinful.parse("<192.0.2.1:9618?sock=a>"), "/s", "work_queue", True, "n", "/p"
    )
    with pytest.raises(
        SettingError, match=naming("manager=", "shared_port=True", "address=", "secret_file=")
    ):
        _ = Options().reference


@given(st.binary() | st.text().map(str.encode) | st.recursive(
    st.none() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_bytes_give_entries_or_the_documented_error(data: bytes) -> None:
    with contextlib.suppress(ManagerUnreachable):
        for entry in read_answer(data, "m"):
            assert isinstance(entry, dict)


def test_no_answer_of_the_size_limit_has_room_for_too_many_values() -> None:
    assert module.MAX_VALUES * 3 < module.MAX_ANSWER, "else the bound would not bound"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (rb"it\'s", "it's"),
        (rb"\'\'", "''"),
        (rb"a\\\'b", "a\\'b"),
        (rb"a\\b", "a\\b"),
        (rb"\"\'\n", "\"'\n"),
        (rb"\uffffffc3\uffffffa9t\'", "\u00e9t'"),
        (rb"\u0001 \u00e9", "\u0001 \u00e9"),
        (rb"c:\\uffffffc3", "c:\\uffffffc3"),
        (b"plain \xc3\xa9", "plain \u00e9"),
    ],
)
def test_the_managers_own_escapes_are_read(said: bytes, meant: str) -> None:
    assert read_answer(b'[{"working_dir":"' + said + b'"}]', "m") == [{"working_dir": meant}]
