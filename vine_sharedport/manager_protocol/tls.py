"""TLS as managers speak it: it encrypts, and verifies nobody."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from typing import Any

__all__ = ["wrap"]


def wrap(sock: socket.socket, server_name: str | None = None) -> ssl.SSLSocket:
    """Return the connection in TLS, after the handshake; nothing stays open if that fails.

    Args:
        sock: The connection. Its descriptor passes to what is returned, and a time-out of
            it holds for each step of the handshake.
        server_name: The name to ask for.

    Raises:
        OSError: The handshake failed; the connection is closed.
        ValueError: No server can have that name.
    """
    # SSLContext.wrap_socket() takes the descriptor out of the socket first. Where the peer has
    # reset the connection by then, Python 3.9 to 3.12 lose it with their half-made object,
    # and at Ctrl-C in the handshake every version does. So it is kept here, to be closed.
    made: list[ssl.SSLSocket] = []

    class Kept(ssl.SSLSocket):
        def __new__(cls, *arguments: Any, **options: Any) -> Kept:
            new = super().__new__(cls, *arguments, **options)
            made.append(new)
            return new

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.sslsocket_class = Kept
    try:
        wrapped = context.wrap_socket(sock, server_hostname=server_name)
        if wrapped.version() is None:  # reset before: earlier ones leave the handshake out
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return wrapped
    except BaseException:
        for each in made:
            with contextlib.suppress(AttributeError, OSError):  # it may not be one yet
                each.close()
        raise
