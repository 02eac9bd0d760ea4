"""Passing descriptors over Unix sockets (``SCM_RIGHTS``)."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from typing import Any

from vine_sharedport.errors import HandOffError

__all__ = ["ONE_FD", "Credentials", "peer_credentials", "receive_fd", "send_fd", "unpack"]

_FD = struct.Struct("i")
# CMSG_LEN leaves room for exactly one descriptor. CMSG_SPACE, for alignment, would let a
# second one in unnoticed.
ONE_FD = (1, socket.CMSG_LEN(_FD.size), socket.MSG_CMSG_CLOEXEC)
"""Arguments of ``recvmsg`` for one byte and one descriptor."""

_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))


class Credentials:
    """Who connected to a Unix socket, as the kernel attests.

    Attributes:
        pid: Process id, 0 where it is outside our pid namespace.
        uid: User id.
    """

    __slots__ = ("pid", "uid")

    def __init__(self, pid: int, uid: int) -> None:
        self.pid = pid
        self.uid = uid


def peer_credentials(conn: socket.socket) -> Credentials:
    """Return who is at the other end of a connected Unix socket."""
    raw = conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(raw)
    return Credentials(pid, uid)


def send_fd(conn: socket.socket, fd: int, data: bytes = b"\0") -> None:
    """Send one descriptor with ``data``; the number stays the caller's.

    Raises:
        OSError: As ``sendmsg(2)``; BlockingIOError when the socket is full.
    """
    conn.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])


def receive_fd(conn: socket.socket) -> tuple[bytes, int | None]:
    """Receive one byte and the descriptor that travels with it.

    ``socket.recv_fds`` is not used: it ignores its flags on Python 3.9 to 3.13, so its
    descriptors would leak into the children of the process.

    Args:
        conn: A Unix socket. Stays the caller's.

    Returns:
        The byte, empty at the end of the stream, and the descriptor, the caller's and
        close-on-exec, or None if none came with it.

    Raises:
        HandOffError: More than one descriptor came, or this process could take no more.
        OSError: As ``recvmsg(2)``; BlockingIOError when there is nothing yet.
    """
    return unpack(conn.recvmsg(*ONE_FD))


def unpack(
    message: tuple[bytes, list[tuple[int, int, bytes]], int, Any],
) -> tuple[bytes, int | None]:
    """Return what ``recvmsg(*ONE_FD)`` brought: the byte and the descriptor.

    Raises:
        HandOffError: As ``receive_fd``; what did come is closed.
    """
    data, ancillary, flags, _ = message
    fds: list[int] = []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            whole = len(content) - len(content) % _FD.size
            fds += [fd for (fd,) in _FD.iter_unpack(content[:whole])]
    if flags & socket.MSG_CTRUNC or len(fds) > 1:
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        raise HandOffError(
            "the message carried more than one descriptor, "
            "or this process has reached its descriptor limit (ulimit -n)"
        )
    return data, fds[0] if fds else None
