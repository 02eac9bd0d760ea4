"""Which addresses of a manager are worth a try, and in which order.

A literal address that HTCondor printed costs no name service, so literals come first;
both address families take turns (RFC 8305, section 4), so a family that leads nowhere
delays the other by one attempt and not by all of its own.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Callable, TypeVar

from vine_sharedport.wire.sinful import Sinful

__all__ = ["Candidate", "candidates", "family_of", "interleave", "plan"]

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Candidate:
    """One address to try.

    Attributes:
        host: Literal address, without brackets, or name.
        port: TCP port.
        source: The part of the sinful that has it: ``PrivAddr``, ``addrs``, ``host`` or
            ``alias``.
    """

    host: str
    port: int
    source: str

    @property
    def literal(self) -> str | None:
        """The literal address, in the one way that the kernel writes it; None for a name."""
        try:
            return str(ipaddress.ip_address(self.host))
        except ValueError:
            return None

    def __str__(self) -> str:
        """Return it as messages name it."""
        return f"{self.host} port {self.port}"


def candidates(address: Sinful, *, private_network: str | None = None) -> list[tuple[str, int]]:
    """Return the hosts and ports of ``plan()``, whose arguments are the same."""
    return [(c.host, c.port) for c in plan(address, private_network=private_network)]


def plan(address: Sinful, *, private_network: str | None = None) -> list[Candidate]:
    """Return what to try for an address, in order, each host and port once.

    The private address comes first where it holds; then ``addrs``, families in turns
    from the first one's; then the host; then the alias, by DNS.

    Args:
        address: The manager's. Of its ``PrivAddr`` the places are taken and not the sock
            id: it is the same endpoint's, by another network.
        private_network: Name of the network this machine is in (HTCondor's
            ``PRIVATE_NETWORK_NAME``); None if it has none.

    Source: ``Daemon::New_addr`` and ``Sock::chooseAddrFromAddrs`` in HTCondor. It uses
    the private address alone where the networks' names are equal, and no host where
    there are ``addrs``; we go on to the others, at the end of the list.
    """
    found: list[Candidate] = []
    private = address.private_address
    if private is not None and private_network and private_network == address.private_network:
        found += _places(private, "PrivAddr", "PrivAddr")
    found += _places(address, "addrs", "host")
    if address.alias and address.port:
        found.append(Candidate(address.alias, address.port, "alias"))
    unique: dict[tuple[str, int], Candidate] = {}
    for candidate in found:
        same = candidate.literal or candidate.host.lower().rstrip(".")
        unique.setdefault((same, candidate.port), candidate)
    return list(unique.values())


def _places(address: Sinful, addrs_source: str, host_source: str) -> list[Candidate]:
    """Return an address's ``addrs`` and host."""
    found = [
        Candidate(host, port, addrs_source)
        for host, port in interleave(address.addrs, key=lambda pair: family_of(pair[0]))
        if port  # 0 is what a daemon writes that does not know its shared port yet
    ]
    if address.port:
        found.append(Candidate(address.host, address.port, host_source))
    return found


def interleave(items: Iterable[_Item], *, key: Callable[[_Item], object]) -> list[_Item]:
    """Return the items with their kinds in turns, the first one's first.

    Source: RFC 8305, section 4, with a First Address Family Count of 1.
    """
    kinds: dict[object, list[_Item]] = {}
    for item in items:
        kinds.setdefault(key(item), []).append(item)
    turns = chain.from_iterable(zip_longest(*kinds.values(), fillvalue=None))
    return [item for item in turns if item is not None]


def family_of(host: str) -> socket.AddressFamily:
    """Return the family of a literal address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET
