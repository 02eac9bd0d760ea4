"""Which of this process's descriptors a manager listens on."""

from __future__ import annotations

import os
import socket
import stat

from vine_sharedport.errors import HookError

__all__ = ["find_listener"]


def find_listener(port: int) -> int:
    """Return the descriptor of the one TCP socket listening on a port in this process.

    Args:
        port: As the manager tells it.

    Raises:
        HookError: There is none, or more than one.
    """
    found = [fd for fd in map(int, os.listdir("/proc/self/fd")) if _listens_on(fd, port)]
    if len(found) != 1:
        raise HookError(
            f"{len(found)} descriptors of this process listen on TCP port {port}, not one: "
            "cannot tell which is the manager's"
        )
    return found[0]


def _listens_on(fd: int, port: int) -> bool:
    """Whether the descriptor, which stays its owner's, is a TCP socket listening there."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        sock = socket.socket(fileno=fd)
    except OSError:  # closed meanwhile, as the directory's own descriptor
        return False
    try:
        return (
            sock.family in (socket.AF_INET, socket.AF_INET6)
            and sock.type == socket.SOCK_STREAM
            and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            and sock.getsockname()[1] == port
        )
    finally:
        sock.detach()
