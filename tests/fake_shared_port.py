"""A condor_shared_port in one thread, as far as clients and endpoints can see it.

Written from the daemon's behaviour and not from our wire code, so that an error there
does not cancel out here. The contract tests hold it to what the real daemon does.
"""

from __future__ import annotations

import array
import os
import re
import selectors
import socket
import struct
import threading

PASS_SOCK = bytes.fromhex("01 00000008 000000000000004c")
_CONNECT = 75
_SOCK_ID = re.compile(r"[A-Za-z0-9._-]{1,41}\Z", re.ASCII)


class FakeSharedPort:
    """Hand clients of a loopback port to the Unix sockets in a directory.

    Like the daemon it answers nothing, drops a client that it cannot hand over at once,
    and keeps its copy of a client's connection until the receiver closes the Unix one.

    Attributes:
        port: The loopback port.
        refused: Why clients were dropped, in the order in which that happened.
        names: Client names and timeouts, as the CONNECT messages had them.
    """

    def __init__(self, directory: str) -> None:
        self.refused: list[str] = []
        self.names: list[tuple[str, int]] = []
        self._directory = directory
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._wake, self._wakened = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wakened, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="fake shared port")
        self._thread.start()

    def address(self, sock_id: str | None = None) -> str:
        """Return the daemon's own address, or that of an endpoint behind it."""
        sock = "" if sock_id is None else f"&sock={sock_id}"
        return f"<127.0.0.1:{self.port}?addrs=127.0.0.1-{self.port}&noUDP{sock}>"

    def __enter__(self) -> FakeSharedPort:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread, and every connection that is still the fake's."""
        self._wake.close()
        self._thread.join()
        self._selector.close()
        for sock in (*self._open, self._listener, self._wakened):
            sock.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                key.data()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        self._open.add(sock)
        message = bytearray()
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._read(sock, message))

    def _read(self, sock: socket.socket, message: bytearray) -> None:
        # Not a byte beyond the message: what follows is the receiver's.
        if len(message) < 5:
            wanted = 5 - len(message)
        else:
            wanted = 5 + int.from_bytes(message[1:5], "big") - len(message)
        try:
            data = sock.recv(wanted)
        except OSError:
            data = b""
        if not data:
            return self._drop(sock, "the client has gone")
        message += data
        if message[:1] != b"\x01":
            return self._drop(sock, "no CEDAR message")
        if len(message) > 5 and len(message) == 5 + int.from_bytes(message[1:5], "big"):
            self._hand_over(sock, bytes(message[5:]))
        return None

    def _hand_over(self, client: socket.socket, payload: bytes) -> None:
        try:
            command, rest = struct.unpack(">q", payload[:8])[0], payload[8:]
            sock_id, name, rest = rest.split(b"\0", 2)
            timeout, more_args = struct.unpack(">qq", rest)
        except (struct.error, ValueError):
            return self._drop(client, "no CONNECT message")
        if command != _CONNECT or more_args != 0:
            return self._drop(client, "no CONNECT message")
        self.names.append((name.decode(), timeout))
        if not _SOCK_ID.match(sock_id.decode("latin-1")):
            return self._drop(client, "invalid sock id")
        unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        unix.setblocking(False)
        try:
            # BlockingIOError means that the backlog is full: the daemon does not wait.
            unix.connect(os.path.join(self._directory, sock_id.decode()))
            unix.send(PASS_SOCK)
            fds = array.array("i", [client.fileno()])
            unix.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        except OSError as error:
            unix.close()
            return self._drop(client, type(error).__name__)
        self._selector.unregister(client)
        self._open.add(unix)
        self._selector.register(unix, selectors.EVENT_READ, lambda: self._finish(unix, client))
        return None

    def _finish(self, unix: socket.socket, client: socket.socket) -> None:
        """Let go of both, when the receiver has closed its end."""
        self._selector.unregister(unix)
        for sock in (unix, client):
            self._open.remove(sock)
            sock.close()

    def _drop(self, sock: socket.socket, reason: str) -> None:
        self.refused.append(reason)
        self._selector.unregister(sock)
        self._open.remove(sock)
        # With no time to linger, close() resets.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
