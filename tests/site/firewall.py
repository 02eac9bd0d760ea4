"""The access point's firewall: only HTCondor's shared port is let in."""

from __future__ import annotations

from . import netfilter
from .hosts import Host

SHARED_PORT = 9618

RULES = f"""*filter
:INPUT DROP
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p {{icmp}} -j ACCEPT
-A INPUT -p tcp --dport {SHARED_PORT} -m comment --comment shared-port -j ACCEPT
-A INPUT -p tcp -m comment --comment dropped-tcp -j DROP
-A INPUT -m comment --comment dropped-other -j DROP
COMMIT
"""


class Firewall:
    """What a host lets in from the network, with counters."""

    def __init__(self, host: Host) -> None:
        self._host = host
        netfilter.load(host, RULES)

    def watch(self, port: int) -> None:
        """Count what comes to that TCP port; it is dropped as before."""
        netfilter.change(
            self._host, "-I", "INPUT", 4, "-p", "tcp", "--dport", port,
            "-m", "comment", "--comment", f"port-{port}", "-j", "DROP",
        )  # fmt: skip

    def let_in(self, port: int) -> None:
        """Open a TCP port."""
        netfilter.change(
            self._host, "-I", "INPUT", 1, "-p", "tcp", "--dport", port, "-j", "ACCEPT"
        )

    def packets(self) -> dict[str, int]:
        """Return counts: ``shared-port`` (new connections), ``dropped-tcp``, ``port-N``."""
        return netfilter.packets(self._host)
