"""A router that gives a private network a way out, and lets nothing in: NAT in both families.

The kernel does it. What it has forgotten is gone, as with the strict boxes of real sites: a
packet from inside does not bring it back, and is dropped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from . import netfilter
from .hosts import Host

RULES = """*nat
-A POSTROUTING -o wan -j MASQUERADE
COMMIT
*filter
:INPUT DROP
:FORWARD DROP
:CUT -
-A INPUT -i lo -j ACCEPT
-A INPUT -i lan -j ACCEPT
-A INPUT -p {icmp} -j ACCEPT
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p tcp -m comment --comment unasked -j DROP
-A FORWARD -j CUT
-A FORWARD -m conntrack --ctstate INVALID -m comment --comment forgotten -j DROP
-A FORWARD -i lan -o wan -m comment --comment outwards -j ACCEPT
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -m comment --comment inwards -j ACCEPT
COMMIT
"""
# What the kernel has for a connection that is established, in seconds.
DEFAULT_TIMEOUT = 432000


class Router:
    """The NAT of one host, which has the interfaces ``wan`` and ``lan``."""

    def __init__(self, host: Host) -> None:
        self.host = host
        netfilter.load(host, RULES)
        host.set_kernel(
            {
                "ipv4/ip_forward": 1,
                "ipv6/conf/all/forwarding": 1,
                "netfilter/nf_conntrack_tcp_loose": 0,
            }
        )
        # Its bridge is a switch: what hosts of one site send each other meets no rule.
        host.set_kernel(
            {"bridge/bridge-nf-call-iptables": 0, "bridge/bridge-nf-call-ip6tables": 0},
            missing_ok=True,
        )

    def forget_after(self, seconds: int = DEFAULT_TIMEOUT) -> None:
        """Forget connections that have been silent for so long; for packets from now on."""
        self.host.set_kernel({"netfilter/nf_conntrack_tcp_timeout_established": seconds})

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Drop all that goes through, both ways, without a word, within the block."""
        netfilter.change(
            self.host, "-A", "CUT", "-m", "comment", "--comment", "cut", "-j", "DROP"
        )
        try:
            yield
        finally:
            netfilter.change(self.host, "-F", "CUT")

    def packets(self) -> dict[str, int]:
        """Return counts: ``outwards``, ``inwards``, ``unasked``, ``forgotten``, ``cut``."""
        return netfilter.packets(self.host)
