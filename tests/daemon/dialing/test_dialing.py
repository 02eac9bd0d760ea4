"""Real workers that fail well, and the real shared port by both address families."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.unit.helpers import receive_exactly
from vine_sharedport.dialing.dial import connect
from vine_sharedport.dialing.race import DialEvent
from vine_sharedport.errors import Verdict
from vine_sharedport.secret_file import make_secret_file
from vine_sharedport.serving.endpoint import Endpoint
from vine_sharedport.wire.sinful import Sinful

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")


class Launched:
    """``vine_sharedport worker`` with a real vine_worker, and what both say."""

    def __init__(
        self,
        directory: Path,
        address: str,
        secret: str | None,
        *options: str,
        **environment: str,
    ) -> None:
        self._log = directory / "worker.log"
        secret_options = ["--secret-file", secret] if secret else []
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vine_sharedport", "worker", "--address", address,
                 *secret_options, "--", "--cores", "1", "--memory", "100", "--disk", "100",
                 *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory,
                env={**os.environ, "PYTHONPATH": str(helpers.ROOT), **environment},
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_for_log(self, text: str) -> None:
        helpers.wait_until(lambda: text in self.log or self.process.poll() is not None)
        assert text in self.log

    @property
    def workers(self) -> list[int]:
        """Process ids of the worker."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Any]:
    """Return a function that starts workers; they end with the test."""
    made: list[Launched] = []

    def start(address: Any, secret: str | None, *options: str, **environment: str) -> Launched:
        made.append(Launched(tmp_path, str(address), secret, *options, **environment))
        return made[-1]

    yield start
    for one in made:
        one.process.terminate()
        one.process.wait(20)


@pytest.fixture
def secret(tmp_path: Path) -> str:
    path = str(tmp_path / "some.secret")
    make_secret_file(path)
    return path


def unserved(pool: Any) -> Sinful:
    """Return the address of a sock id that nobody serves."""
    address: Sinful = vine.discover().address
    return address.with_sock(f"nobody_{os.getpid()}")


@pytest.mark.parametrize("gate", [True, False])
def test_worker_that_was_there_first_gets_in_when_the_manager_comes(
    make_manager: Any, launch: Any, tmp_path: Path, gate: bool
) -> None:
    settings = vine.SharedPort(name=f"late_{os.getpid()}_{gate:d}", gate=gate)
    before = make_manager(shared_port=settings).shared_port
    address, secret = before.address, before.secret_file
    if secret:
        kept = tmp_path / "copy"
        kept.write_bytes(Path(secret).read_bytes())
        secret = str(kept)
    before.close()
    worker = launch(address, secret)
    helpers.wait_until(lambda: worker.log.count("; trying again for ") >= 3)
    workers = worker.workers
    assert len(workers) == 1

    manager = make_manager(shared_port=settings)
    (task,) = helpers.run_tasks(manager, [vine.Task("echo here")])
    assert task.std_output == "here\n"
    assert manager.shared_port.counters.accepted == 1
    assert worker.workers == workers, "it is not the same worker process"
    if gate:  # else a busy shared port may close too late for us to see it in time
        assert worker.log.count("\nconnected to manager") == 1, "it noticed"


@pytest.mark.alone
def test_wrong_secret_ends_the_worker_within_5_seconds(
    make_manager: Any, launch: Any, secret: str
) -> None:
    link = make_manager().shared_port
    before = time.monotonic()
    worker = launch(link.address, secret)
    assert worker.process.wait(10) == 77
    assert time.monotonic() - before < 5
    assert "it has another secret than this worker" in worker.log
    assert f" by the file {secret}; " in worker.log
    assert f" --secret-file {link.secret_file} -- " in worker.log, "the next step"
    assert link.counters.refused["wrong-secret"] == 2
    assert "deleting workspace" in worker.log, "it did not clean up"


def test_missing_secret_ends_the_worker_as_a_wrong_one_does(
    make_manager: Any, launch: Any
) -> None:
    worker = launch(make_manager().shared_port.address, None)
    assert worker.process.wait(10) == 77
    assert "the manager asks for its secret, and this worker has none" in worker.log


@pytest.mark.alone
@pytest.mark.parametrize("with_secret", [True, False])
def test_time_limit_of_the_worker_ends_it(
    pool: Any, launch: Any, secret: str, with_secret: bool
) -> None:
    before = time.monotonic()
    worker = launch(unserved(pool), secret if with_secret else None, "-t", "4")
    assert worker.process.wait(20) == 75
    assert 4 < time.monotonic() - before < 9
    assert " within 4 s; " in worker.log
    assert "no manager serves this sock id" in worker.log
    assert "deleting workspace" in worker.log, "it did not clean up"


@pytest.mark.alone
def test_time_limit_ends_a_worker_that_waits_for_an_answer(
    pool: Any, launch: Any, secret: str, tmp_path: Path
) -> None:
    """In its handshake the worker looks at no signal."""
    (tmp_path / "password").write_text("x")
    worker = launch(
        unserved(pool), secret, "--password", str(tmp_path / "password"),
        VINE_SHAREDPORT_CONNECT_TIMEOUT="2",
    )  # fmt: skip
    before = time.monotonic()
    assert worker.process.wait(20) == 75
    assert time.monotonic() - before < 8


def test_worker_that_waits_for_its_manager_ends_when_it_is_asked(
    pool: Any, launch: Any, secret: str
) -> None:
    worker = launch(unserved(pool), secret)
    worker.wait_for_log("; trying again for ")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(8) == 0
    assert "deleting workspace" in worker.log


@pytest.mark.parametrize(("way", "host"), [("relay", "127.0.0.1"), ("shim", "127.86.83.80")])
def test_worker_of_ipv6_alone_works(
    make_manager: Any, launch: Any, way: str, host: str
) -> None:
    manager = make_manager()
    link = manager.shared_port
    worker = launch(
        link.address, link.secret_file, CCTOOLS_IP_MODE="IPV6", VINE_SHAREDPORT_TRANSPORT=way
    )
    helpers.run_tasks(manager, [vine.Task("true")])
    assert link.counters.accepted == 1
    assert f"connected to manager ::ffff:{host}" in worker.log


# ---- both families ----


@contextlib.contextmanager
def _serving(directory: str, secret: bytes) -> Iterator[list[Any]]:
    """Serve vine_1, greet whoever comes, and note down where from."""
    peers: list[Any] = []
    ended = threading.Event()
    with Endpoint("vine_1", directory, secret=secret) as endpoint:

        def serve() -> None:
            while not ended.wait(0.01):
                for client in endpoint.poll():
                    with client:
                        peers.append(client.getpeername()[0])
                        client.sendall(b"welcome")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield peers
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize(
    ("addrs", "peer"),
    [
        ("127.0.0.1-{port}+[--1]-{port}", "127.0.0.1"),
        ("[--1]-{port}+127.0.0.1-{port}", "::1"),
        # The first one's family has nobody there, as on a host without it.
        ("127.0.0.1-1+[--1]-{port}", "::1"),
        ("[--1]-1+127.0.0.1-{port}", "127.0.0.1"),
    ],
)
def test_real_shared_port_is_reached_by_the_first_family_that_works(
    dual: tuple[int, str], addrs: str, peer: str
) -> None:
    port, directory = dual
    address = f"<127.0.0.1:1?addrs={addrs.format(port=port)}&sock=vine_1>"
    secret = os.urandom(32)
    with (
        _serving(directory, secret) as peers,
        connect(address, secret=secret, timeout=10) as client,
    ):
        assert client.getpeername()[:2] == (peer, port)
        client.sendall(b"x")
        assert receive_exactly(client, 7) == b"welcome"
        # A socket of both families, as HTCondor's may be, shows IPv4 mapped into IPv6.
        assert [text.rpartition("ffff:")[2] for text in peers] == [peer]


def test_dead_sock_id_of_the_real_shared_port_is_confirmed(dual: tuple[int, str]) -> None:
    port, _ = dual
    address = f"<127.0.0.1:{port}?addrs=127.0.0.1-{port}+[--1]-{port}&sock=nobody>"
    events: list[DialEvent] = []
    with pytest.raises(vine.DialError) as caught:
        connect(address, check=True, timeout=10, on_event=events.append)
    assert [a.verdict for a in caught.value.attempts] == [Verdict.NOBODY_THERE] * 2
    assert events[-1].at < 1


def test_own_address_of_the_real_shared_port_has_both_families(
    dual: tuple[int, str], short_directory: Path
) -> None:
    port, directory = dual
    ad = helpers.wait_until(lambda: (short_directory / "shared_port_ad").read_text())
    text = next(line for line in ad.splitlines() if line.startswith("MyAddress"))
    address = Sinful.parse(text.split('"')[1]).with_sock("vine_1")
    secret = os.urandom(32)
    assert {":" in host for host, _ in address.addrs} == {True, False}
    with _serving(directory, secret), connect(address, secret=secret, timeout=10) as client:
        assert client.getpeername()[1] == port
        client.sendall(b"x")
        assert receive_exactly(client, 7) == b"welcome"
