"""Where the manager's own TCP port listens while it has a shared port."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket

from vine_sharedport.errors import HookError

__all__ = ["TcpListener"]

_STOCK_BACKLOG = 5  # link.c; a burst of workers finds it full and waits seconds
_BACKLOG = 4096


class TcpListener:
    """A duplicate of the manager's listening socket, narrowed as the user wishes.

    Owns the duplicate, and a socket of its own on the loopback interface.

    Args:
        fd: The manager's listening descriptor. Stays the manager's.
        where: ``all`` (as it is), ``loopback`` or ``off``.
    """

    def __init__(self, fd: int, where: str) -> None:
        self._where = where
        self._narrowed: socket.socket | None = None
        copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        # With a family given, the object asks the descriptor nothing, so nothing can fail.
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, copy)

    def fileno(self) -> int:
        """Return the socket that knows the port, for getsockname(); -1 after ``close()``."""
        return self._sock.fileno()

    @property
    def accepts_on(self) -> int | None:
        """The socket to wait for and accept from, None where TCP is off."""
        if self._where == "off":
            return None
        return (self._narrowed or self._sock).fileno()

    def narrow(self) -> None:
        """Listen where the user wishes, on the same port.

        Raises:
            HookError: The port cannot be had on the loopback interface; it listens as before.
        """
        if self._where == "all":
            self._sock.listen(_BACKLOG)
            return
        # No longer listening, but the port stays bound, and a second socket with
        # SO_REUSEADDR may share it: link.c has set that on the first.
        self._sock.shutdown(socket.SHUT_RD)
        if self._where == "off":
            return
        port = self._port()
        narrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            narrowed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            narrowed.bind(("127.0.0.1", port))
            narrowed.listen(_BACKLOG)
        except OSError as error:
            narrowed.close()
            self._sock.listen(_STOCK_BACKLOG)
            raise HookError(
                f"TCP port {port} cannot listen on the loopback interface alone: "
                f"{os.strerror(error.errno or 0)}; use tcp='all' or tcp='off'"
            ) from error
        self._narrowed = narrowed

    def _port(self) -> int:
        family = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)
        # An object of the right family, to decode the address.
        with socket.socket(family, socket.SOCK_STREAM, 0, os.dup(self._sock.fileno())) as sock:
            port: int = sock.getsockname()[1]
            return port

    def restore(self) -> None:
        """Listen as the manager did. Idempotent."""
        if self._narrowed is not None:
            self._narrowed.close()
            self._narrowed = None
        if self._where != "all" and self._sock.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._sock.listen(_STOCK_BACKLOG)

    def close(self) -> None:
        """Close what is ours. Idempotent."""
        if self._narrowed is not None:
            self._narrowed.close()
            self._narrowed = None
        self._sock.close()
