"""Where the manager's own TCP port listens while it has a shared port."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from vine_sharedport.errors import HookError

__all__ = ["TcpListener"]

_STOCK_BACKLOG = 5  # link.c; a burst of workers finds it full and waits seconds
_BACKLOG = 4096

log = logging.getLogger(__name__)


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
        self._sock = socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM)

    def fileno(self) -> int:
        """Return the socket that knows the port, for getsockname(); -1 after ``close()``."""
        return (self._narrowed or self._sock).fileno()

    def is_at(self, fd: int) -> bool:
        """Whether a descriptor is the manager's own listener."""
        try:
            return os.path.sameopenfile(self._sock.fileno(), fd)
        except OSError:
            return False

    @property
    def accepts_on(self) -> int | None:
        """The socket to wait for and accept from, None where TCP is off."""
        return None if self._where == "off" else self.fileno()

    def narrow(self) -> None:
        """Listen where the user wishes, on the same port.

        Raises:
            HookError: The port cannot be had on the loopback interface; it listens as before.
        """
        if self._where == "all":
            self._sock.listen(_BACKLOG)
            return
        # Kept at once: from here on there may be something to undo.
        narrowed = self._narrowed = socket.socket(
            socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        )
        try:
            port = self._address()[1]
            narrowed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Both on one port for a moment. Only then may the first be shut: a port that
            # the kernel chose for it is given up with that.
            with self._shared(narrowed):
                narrowed.bind(("127.0.0.1", port))
                self._sock.shutdown(socket.SHUT_RD)
            if self._where == "loopback":
                narrowed.listen(_BACKLOG)
        except OSError as error:
            self._widen()
            raise HookError(
                f"the manager's TCP port cannot be narrowed to tcp={self._where!r}: "
                f"{error.strerror}; use tcp='all'"
            ) from error

    @contextlib.contextmanager
    def _shared(self, other: socket.socket) -> Iterator[None]:
        """Let another socket of ours have the same port."""
        for sock in (self._sock, other):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            yield
        finally:
            for sock in (self._sock, other):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)

    def _address(self) -> tuple[Any, ...]:
        """Return where the manager's socket is bound."""
        family = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)
        # An object of the right family, to decode the address.
        with socket.socket(family, socket.SOCK_STREAM, 0, os.dup(self._sock.fileno())) as sock:
            address: tuple[Any, ...] = sock.getsockname()
            return address

    def _listen_again(self) -> None:
        """Listen as the manager did, on the port that it had."""
        address = self._address()  # told even when the port itself was given up
        family = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)
        with socket.socket(family, socket.SOCK_STREAM, 0, os.dup(self._sock.fileno())) as sock:
            try:
                sock.bind(address)
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: it has it still
                    raise
        self._sock.listen(_STOCK_BACKLOG)

    def restore(self, fd: int) -> None:
        """Listen as the manager did, and give it that back. May be called again.

        Args:
            fd: The manager's descriptor.
        """
        if self._sock.fileno() >= 0:
            self._widen()
            os.dup2(self._sock.fileno(), fd, inheritable=False)

    def _widen(self) -> None:
        """Undo ``narrow()``, however far it came."""
        if self._narrowed is None:
            return
        if self._narrowed.fileno() >= 0:
            try:
                with self._shared(self._narrowed):
                    self._listen_again()
            except OSError as error:
                log.warning("the manager's TCP port does not listen again: %s", error)
        self._narrowed.close()
        self._narrowed = None

    def close(self) -> None:
        """Close what is ours. Idempotent."""
        if self._narrowed is not None:
            self._narrowed.close()
            self._narrowed = None
        self._sock.close()
