"""What the shim's tests need: the client of each C library, and a manager to connect to."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import vine_sharedport
from tests import tiers
from tests.fake_shared_port import FakeSharedPort
from vine_sharedport.bundle.shim_build import RESERVED_HOST, RESERVED_PORT
from vine_sharedport.errors import HandOffError
from vine_sharedport.serving.endpoint import Endpoint
from vine_sharedport.wire.sinful import Sinful

Once = Callable[[str, Callable[[Path], object]], Path]
"""Makes a directory of this name once for all processes, by a function that fills it."""

HERE = Path(__file__).parent
SHIM = Path(vine_sharedport.__file__).with_name("shim")
SOCK_ID = "vine_1"
SECRET = bytes(range(32))
RESERVED = (RESERVED_HOST, str(RESERVED_PORT))
CONNECT = ("connect", *RESERVED)


def parts(*names: str) -> list[str]:
    """Return for the compiler: the shim's inner functions for tests, and these of its files."""
    return ["-I", str(SHIM), str(HERE / "inside.c"), *(str(SHIM / f"{n}.c") for n in names)]


@dataclass
class Result:
    """How a client ended, and the lines it printed."""

    status: int
    stdout: str
    stderr: str

    def lines(self, what: str) -> list[str]:
        """Return what stands behind ``what: `` on the lines that begin so."""
        return [
            line.partition(": ")[2]
            for line in self.stdout.splitlines()
            if line.startswith(f"{what}: ")
        ]

    def state(self) -> dict[str, int]:
        """Return the numbers of the last ``state``."""
        pairs = (item.split("=") for item in self.lines("state")[-1].split())
        return {name: int(value) for name, value in pairs}


@dataclass
class Client:
    """A build of the client, and how it is started with a library preloaded.

    Attributes:
        libc: glibc, musl or aarch64.
        program: Its file.
        library: The shim for its architecture.
        emulator: Command in front of it.
    """

    libc: str
    program: str
    library: str
    emulator: Sequence[str] = field(default_factory=list)

    def command(
        self, words: Sequence[str], variables: Mapping[str, str], preload: str | None
    ) -> tuple[list[str], dict[str, str]]:
        """Return the command line and its environment."""
        inner = {**variables, "LD_PRELOAD": self.library if preload is None else preload}
        if not inner["LD_PRELOAD"]:
            del inner["LD_PRELOAD"]
        if not self.emulator:
            return [self.program, *words], inner
        given = [item for pair in inner.items() for item in ("-E", "=".join(pair))]
        return [*self.emulator, *given, self.program, *words], {}

    def run(
        self,
        *words: str,
        address: str | None = None,
        preload: str | None = None,
        timeout: float = 60.0,
        cwd: str | None = None,
        **variables: str,
    ) -> Result:
        """Run the client to its end.

        Args:
            words: What it shall do; see ``client.c``.
            address: The manager's.
            preload: Value of LD_PRELOAD; "" for none; by default the shim.
            variables: Further ones; ``VINE_SHAREDPORT_`` is put before lower-case names.
        """
        given = {"PATH": os.defpath}
        if address is not None:
            given["VINE_SHAREDPORT_ADDRESS"] = address
        for name, value in variables.items():
            upper = f"VINE_SHAREDPORT_{name.upper()}"
            given[upper if name.islower() else name] = value
        command, environment = self.command(words, given, preload)
        done = subprocess.run(
            command,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)


class EchoManager:
    """A manager behind a fake shared port; answers every line with ``hello LINE``.

    Attributes:
        shared_port: The fake, for its port and for what it refused.
        served: Clients that became ready.
        peers: The clients' addresses.
    """

    def __init__(self, directory: Path, *, secret: bytes | None = SECRET) -> None:
        self.directory = directory
        self.secret = secret
        self.served = 0
        self.peers: list[tuple[str, int]] = []
        self.shared_port = FakeSharedPort(str(directory))
        self.secret_file = str(directory / "secret")
        if secret is not None:
            Path(self.secret_file).write_bytes(secret)
            os.chmod(self.secret_file, 0o600)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.start()

    @property
    def address(self) -> str:
        """The manager's sinful."""
        return self.shared_port.address(SOCK_ID)

    def address_by(self, addrs: str, *, host: str = "127.0.0.1", **params: str) -> str:
        """Return a sinful with these ``addrs``, ``PORT`` standing for the fake's port."""
        port = str(self.shared_port.port)
        found = Sinful(host, self.shared_port.port).with_sock(SOCK_ID)
        for name, value in {"addrs": addrs, **params}.items():
            found = found.with_param(name, value.replace("PORT", port))
        return found.format()

    def start(self) -> None:
        """Serve under the sock id."""
        endpoint = Endpoint(SOCK_ID, str(self.directory), secret=self.secret)
        self._stopping.clear()
        self._thread = threading.Thread(target=self._serve, args=(endpoint,))
        self._thread.start()

    def stop(self) -> None:
        """Serve no more; the shared port stays."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """End everything."""
        self.stop()
        self.shared_port.close()

    def __enter__(self) -> EchoManager:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _serve(self, endpoint: Endpoint) -> None:
        clients: list[socket.socket] = []
        with endpoint:
            while not self._stopping.is_set():
                ready, _, _ = select.select([endpoint, *clients], [], [], 0.02)
                for each in ready:
                    if each is endpoint:
                        with contextlib.suppress(HandOffError):
                            clients += self._take(endpoint)
                    elif not self._answer(each):
                        clients.remove(each)
                        each.close()
        for each in clients:
            each.close()

    def _take(self, endpoint: Endpoint) -> list[socket.socket]:
        found = endpoint.poll(0)
        for client in found:
            self.served += 1
            self.peers.append(client.getpeername()[:2])
        return found

    @staticmethod
    def _answer(client: socket.socket) -> bool:
        try:
            data = client.recv(4096)
            if data:
                client.sendall(b"hello " + data)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(data)


@contextlib.contextmanager
def forwarder(family: socket.AddressFamily, host: str, port: int) -> Iterator[int]:
    """Take connections at a loopback address to a port of 127.0.0.1; yield its own port."""
    stopping = threading.Event()
    # An AF_INET6 socket that takes no IPv4 ones.
    with socket.create_server((host, 0), family=family) as listener:

        def run() -> None:
            pairs: dict[socket.socket, socket.socket] = {}
            while not stopping.is_set():
                for each in select.select([listener, *pairs], [], [], 0.02)[0]:
                    if each is listener:
                        client, _ = listener.accept()
                        other = socket.create_connection(("127.0.0.1", port))
                        pairs[client], pairs[other] = other, client
                        continue
                    try:
                        data = each.recv(65536)
                    except OSError:
                        data = b""
                    if data:
                        pairs[each].sendall(data)
                    elif each in pairs:
                        for one in (pairs.pop(each), each):
                            pairs.pop(one, None)
                            one.close()
                        break
            for each in pairs:
                each.close()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stopping.set()
            thread.join()


def has_ipv6() -> bool:
    """Whether ::1 can be bound."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def missing(reason: str) -> NoReturn:
    """Skip for want of something, or fail where the tier is required."""
    tiers.missing("shim", reason)


def first_program(*names: str) -> str | None:
    """Return the path of the first that is installed."""
    return next(filter(None, map(shutil.which, names)), None)
