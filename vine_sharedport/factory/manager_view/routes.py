"""By which way each worker came to the manager: the shared port, or the manager's own port.

The manager does not tell. The kernel of its host does: a connection keeps the local port at
which it was accepted, whoever has its descriptor now.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = [
    "SHARED_PORT",
    "TCP",
    "Connection",
    "Place",
    "plain_address",
    "read_connections",
    "read_place",
    "routes",
]

SHARED_PORT = "shared port"
TCP = "TCP"

# proc(5), /proc/net/tcp: state 1 is ESTABLISHED, 8 CLOSE_WAIT: its peer has just left.
_CONNECTED = frozenset({"01", "08"})
_PORTER = "vine_porter"
_SOCKET = re.compile(r"socket:\[(\d+)\]")

Place = tuple[str, int]
"""IP address and port of one end of a connection."""


class Connection(NamedTuple):
    """One TCP connection of this host.

    Attributes:
        local: IP address and port at this end.
        remote: Those at the other end.
        inode: Of the socket at this end; 0 for one that nobody has accepted.
    """

    local: Place
    remote: Place
    inode: int


def routes(workers: Iterable[str], manager_port: int) -> dict[str, str]:
    """Return the way of each worker that is connected to a manager on this host.

    Args:
        workers: Their addresses as the manager tells them, such as ``192.0.2.7:40112``.
        manager_port: The manager's own TCP port.

    Returns:
        ``SHARED_PORT`` or ``TCP`` for each that is found. None is where the manager is on
        another host, or in another network namespace.
    """
    wanted = {place: text for text in workers if (place := read_place(text)) is not None}
    if not wanted:
        return {}
    connections = list(read_connections())
    found = {
        wanted[one.remote]: TCP if one.local[1] == manager_port else SHARED_PORT
        for one in connections
        if one.remote in wanted
    }
    # A manager without the hook gets its workers from a porter on its own port.
    by_tcp = {place for place, text in wanted.items() if found.get(text) == TCP}
    near = [one for one in connections if one.local in by_tcp]
    if near:
        relayed = _sockets_of_porters()
        for one in near:
            if one.inode in relayed:
                found[wanted[one.local]] = SHARED_PORT
    return found


def read_place(text: str) -> Place | None:
    """Read ``HOST:PORT``; IPv6 comes with and without brackets."""
    host, _, port = text.rpartition(":")
    with contextlib.suppress(ValueError):
        return plain_address(ipaddress.ip_address(host.strip("[]"))), int(port)
    return None


def plain_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return an address as text, IPv4 mapped into IPv6 as IPv4."""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def read_connections(directory: str = "/proc/net") -> Iterator[Connection]:
    """Return the TCP connections of this network namespace.

    Args:
        directory: With the files ``tcp`` and ``tcp6``; one that is missing has none.

    Source: proc(5).
    """
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(os.path.join(directory, name)) as lines:
            next(lines, None)  # names of the columns
            for line in lines:
                fields = line.split()
                if len(fields) > 9 and fields[3] in _CONNECTED:
                    yield Connection(
                        _decode_place(fields[1]), _decode_place(fields[2]), int(fields[9])
                    )


def _decode_place(text: str) -> Place:
    address, port = text.split(":")
    # Words of 32 bits, each printed as a number of this machine.
    words = [int(address[start : start + 8], 16) for start in range(0, len(address), 8)]
    return plain_address(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))), int(
        port, 16
    )


def _sockets_of_porters() -> set[int]:
    """Return the inodes of the sockets that this user's porters have."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            with open(f"/proc/{pid}/comm") as file:
                if file.read().strip() != _PORTER:
                    continue
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):  # closed meanwhile
                    match = _SOCKET.match(os.readlink(f"/proc/{pid}/fd/{fd}"))
                    if match:
                        found.add(int(match[1]))
    return found
