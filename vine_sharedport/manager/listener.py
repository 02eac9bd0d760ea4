"""Which of this process's descriptors a manager listens on."""

from __future__ import annotations

import contextlib
import os
import socket

from vine_sharedport.errors import HookError

__all__ = ["find_listener"]


def find_listener(port: int) -> int:
    """Return the descriptor of the one TCP socket listening on a port in this process.

    Args:
        port: As the manager tells it.

    Raises:
        HookError: There is none, or more than one.
    """
    found = []
    for name in os.listdir("/proc/self/fd"):
        # A duplicate, so that the number itself is never closed; the directory's own
        # descriptor is gone by now.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as sock:
            if (
                sock.family in (socket.AF_INET, socket.AF_INET6)
                and sock.type == socket.SOCK_STREAM
                and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                and sock.getsockname()[1] == port
            ):
                found.append(int(name))
    if len(found) != 1:
        raise HookError(
            f"{len(found)} descriptors of this process listen on TCP port {port}, not one: "
            "cannot tell which is the manager's"
        )
    return found[0]
