"""Which workers' connections get no answer, though nobody has closed them.

Where the network is cut, or a NAT box on the way has forgotten a connection, neither side is
told: the manager counts the worker as connected until TCP gives up, after many minutes. The
manager's kernel knows better: it probes silent connections, and sends unacknowledged bytes
again. It tells that of every connection of its host to everybody, so neither the manager, whose
program may be busy, nor its porter is asked.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from vine_sharedport.factory.manager_view.routes import Place, plain_address, read_place

__all__ = ["Silence", "SilenceWatch", "read_silences"]

# sock_diag(7). Python's socket has no names for these.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_INET_DIAG_INFO = 2
_TCP_ESTABLISHED = 1

_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_ENTRY = struct.Struct("=4B2s2s16s16s")  # inet_diag_msg, the part that is needed
_ENTRY_SIZE = 72
_ATTRIBUTE = struct.Struct("=HH")  # rtattr
# tcp_info (linux/tcp.h): retransmits, probes; last_data_recv, last_ack_recv in milliseconds.
_COUNTS = struct.Struct("=2xBB")
_TIMES = struct.Struct("=52x2I")

# A probe, or bytes, have been without an answer for the whole time between two looks, these
# seconds at least: longer than any round trip.
_SURE = 2.0


class Silence(NamedTuple):
    """A connection from which no answer comes.

    Attributes:
        seconds: Since when.
        unanswered: Probes, or sendings of the same bytes, since then.
    """

    seconds: float
    unanswered: int


class SilenceWatch:
    """Looks at the workers' connections now and then.

    Args:
        read: Returns the connections of this host that wait for an answer.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        read: Callable[[], Iterable[tuple[Place, Silence]]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read or read_silences
        self._clock = clock
        self._suspected: dict[Place, float] = {}  # when it was first seen to wait

    def look(self, workers: Iterable[str]) -> dict[str, Silence]:
        """Return the silence of each worker that does not answer, by its address.

        None is where that cannot be seen: on another host than the manager's, or where the
        kernel does not tell.

        Args:
            workers: Their addresses as the manager tells them, such as ``192.0.2.7:40112``.
        """
        wanted = {place: text for text in workers if (place := read_place(text)) is not None}
        if not wanted:
            self._suspected.clear()
            return {}
        now = self._clock()
        waiting = {place: found for place, found in self._read() if place in wanted}
        before, self._suspected = self._suspected, {}
        silent = {}
        for place, found in waiting.items():
            since = before.get(place, now)
            if found.seconds < now - since:  # it has answered in between
                since = now
            self._suspected[place] = since
            if now - since >= _SURE:
                silent[wanted[place]] = found
        return silent


def read_silences() -> Iterator[tuple[Place, Silence]]:
    """Return the peers of this host's connections that wait for an answer; none if unknown.

    One that has just been asked is among them.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # no such family, or no permission
            yield from _read_family(family)


def _read_family(family: int) -> Iterator[tuple[Place, Silence]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as diag:
        diag.settimeout(5.0)
        extension = 1 << (_INET_DIAG_INFO - 1)
        states = 1 << _TCP_ESTABLISHED
        request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, extension, states)
        size = _HEADER.size + len(request)
        diag.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + request)
        while True:
            data = diag.recv(1 << 18)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, *_ = _HEADER.unpack_from(data, at)
                if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < _HEADER.size:
                    return
                found = _read_entry(data[at + _HEADER.size : at + length])
                if found is not None:
                    yield found
                at += (length + 3) & ~3
            if not data:
                return


def _read_entry(entry: bytes) -> tuple[Place, Silence] | None:
    """Return the peer of a connection that waits for an answer, and how long; else None."""
    at = _ENTRY_SIZE
    while at + _ATTRIBUTE.size <= len(entry):
        length, kind = _ATTRIBUTE.unpack_from(entry, at)
        info = entry[at + _ATTRIBUTE.size : at + length]
        if kind == _INET_DIAG_INFO and len(info) >= _TIMES.size:
            unanswered = max(_COUNTS.unpack_from(info))
            if not unanswered:
                return None
            seconds = min(_TIMES.unpack_from(info)) / 1000
            return _peer_of(entry), Silence(seconds, unanswered)
        if length < _ATTRIBUTE.size:
            return None
        at += (length + 3) & ~3
    return None


def _peer_of(entry: bytes) -> Place:
    family, _, _, _, _, port, _, address = _ENTRY.unpack_from(entry)
    size = 4 if family == socket.AF_INET else 16
    return plain_address(ipaddress.ip_address(address[:size])), int.from_bytes(port, "big")
