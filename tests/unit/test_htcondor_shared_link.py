"""A TCP server behind a shared port that is played by a thread: relayed, counted, followed."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_shared_port import FakeSharedPort
from tests.unit import helpers
from vine_sharedport import htcondor_shared_link as module
from vine_sharedport.dialing.dial import connect
from vine_sharedport.errors import SettingError, SharedPortError
from vine_sharedport.htcondor_shared_link import Link, relay_to
from vine_sharedport.secret_file import make_secret_file, read_secret_file
from vine_sharedport.wire.sinful import Sinful

AD = 'MyAddress = "{}"\n'


@pytest.fixture
def server() -> Iterator[int]:
    """The port of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                while data := client.recv(100):
                    client.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    yield int(listener.getsockname()[1])
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()


@pytest.fixture
def shared_port(short_directory: Path) -> Iterator[FakeSharedPort]:
    with FakeSharedPort(str(short_directory)) as made:
        yield made


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    path = str(tmp_path / "secret")
    make_secret_file(path)
    return path


@pytest.fixture
def link(
    server: int, shared_port: FakeSharedPort, short_directory: Path, secret_file: str
) -> Iterator[Link]:
    ad_file = short_directory / "shared_port_ad"
    ad_file.write_text(AD.format(shared_port.address()))
    made = relay_to(
        server, address=Sinful.parse(shared_port.address()), sock_id="vine_1",
        directory=str(short_directory), secret_file=secret_file, ad_file=str(ad_file),
    )  # fmt: skip
    yield made
    made.close()


def echoed(link: Link, data: bytes) -> bytes:
    secret = None if link.secret_file is None else read_secret_file(link.secret_file)
    with connect(link.address, secret=secret) as client:
        client.sendall(data)
        return helpers.receive_exactly(client, len(data))


def test_a_server_is_reached_by_the_secret_and_counted(link: Link) -> None:
    assert echoed(link, b"hello") == b"hello"
    assert (link.is_open, link.mode, link.sock_id) == (True, "relay", "vine_1")
    helpers.wait_until(lambda: link.counters.accepted == 1)
    with pytest.raises(SharedPortError):
        connect(link.address, secret=bytes(32)).close()
    helpers.wait_until(lambda: link.counters.refused == {"wrong-secret": 1})
    last = link.counters
    link.close()
    link.close()
    assert not link.is_open
    assert link.porter_pid is None
    assert link.counters == last, "the last ones stay"


def test_its_address_follows_the_ad_file(link: Link, short_directory: Path) -> None:
    assert link.address.sock == "vine_1"
    ad_file = short_directory / "shared_port_ad"

    def move(text: str) -> None:
        ad_file.write_text(text)
        os.utime(ad_file, (1, 1) if text else (2, 2))

    move(AD.format("<192.0.2.7:9618>"))
    assert str(link.address) == "<192.0.2.7:9618?sock=vine_1>"
    assert link.reference.address == link.address
    move("")
    assert link.address.host == "192.0.2.7", "half written: it stays meanwhile"
    ad_file.unlink()
    assert link.address.host == "192.0.2.7"


def test_an_htcondor_that_ends_or_comes_back_elsewhere_is_said_once(
    link: Link,
    short_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "_LOOK_INTERVAL", -1.0)
    monkeypatch.setattr(module, "_RESTART_TIME", -1.0)
    ad_file = short_directory / "shared_port_ad"
    text = ad_file.read_text()

    def said() -> int:
        caplog.clear()
        for _ in range(2):
            link.check()
        return len(caplog.records)

    assert said() == 0
    ad_file.unlink()
    assert said() == 1
    ad_file.write_text(text)
    assert said() == 1
    ad_file.write_text(AD.format("<192.0.2.7:9618>"))
    os.utime(ad_file, (1, 1))
    assert said() == 1
    assert "<192.0.2.7:9618?sock=vine_1>" in caplog.text


def test_what_programs_look_for_in_it_is_named(link: Link) -> None:
    with pytest.raises(AttributeError, match="address"):
        getattr(link, "no_such_name")  # noqa: B009  # asking is the test
    assert "vine_1" in repr(link) or str(link.address) in repr(link)
    assert "--secret-file" in link.worker_command
    link.describe(name="sweep")
    assert link.reference.name == "sweep"


def test_a_secret_that_others_may_read_is_refused_before_anything_serves(
    server: int, short_directory: Path, secret_file: str
) -> None:
    os.chmod(secret_file, 0o644)
    with pytest.raises(SettingError):
        relay_to(
            server, address=Sinful.parse("<127.0.0.1:1>"), sock_id="vine_1",
            directory=str(short_directory), secret_file=secret_file,
        )  # fmt: skip
    assert os.listdir(short_directory) == []
