"""The cables: a hub as the internet, hosts at it, and networks behind a router.

The hub is in the namespace of whoever runs the site; all addresses are of the documentation's
ranges, and behind routers private ones.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from .hosts import Host

HUB = "hub"
PUBLIC4, PUBLIC6 = "198.51.100.{}", "2001:db8:100::{}"
PRIVATE4, PRIVATE6 = "10.{}.0.{}", "fd00:{}::{}"


@dataclass(frozen=True)
class Addresses:
    """Of one interface."""

    ipv4: str
    ipv6: str


def ip(*lines: str, host: Host | None = None) -> None:
    """Run lines of ip(8), here or on a host."""
    text = "\n".join(lines) + "\n"
    if host is None:
        subprocess.run(["ip", "-batch", "-"], input=text, text=True, check=True)
    else:
        # The host's own programs, but nothing else of it: this is quicker than on the host.
        subprocess.run(
            ["nsenter", "--target", str(host.pid), "--net", "ip", "-batch", "-"],
            input=text, text=True, check=True,
        )  # fmt: skip


def make_hub() -> None:
    """Make the internet."""
    ip(f"link add {HUB} type bridge", f"link set {HUB} up")


def remove_hub() -> None:
    """Unmake it; what was plugged into it goes with the hosts."""
    ip(f"link del {HUB}")


def public(number: int) -> Addresses:
    """Return the public addresses of that number."""
    return Addresses(PUBLIC4.format(number), PUBLIC6.format(number))


def private(network: int, number: int) -> Addresses:
    """Return the addresses of that number in a network behind a router."""
    return Addresses(PRIVATE4.format(network, number), PRIVATE6.format(network, number))


def plug(host: Host, addresses: Addresses) -> None:
    """Connect the host to the internet, by an interface ``wan``."""
    ip(
        f"link add name v-{host.name} type veth peer name wan netns {host.pid}",
        f"link set v-{host.name} master {HUB} up",
    )
    ip(
        "link set lo up",
        f"addr add {addresses.ipv4}/24 dev wan",
        f"addr add {addresses.ipv6}/64 dev wan nodad",
        "link set wan up",
        host=host,
    )


def make_lan(router: Host, addresses: Addresses) -> None:
    """Make a network ``lan`` behind the router."""
    ip(
        "link add lan type bridge",
        f"addr add {addresses.ipv4}/24 dev lan",
        f"addr add {addresses.ipv6}/64 dev lan nodad",
        "link set lan up",
        host=router,
    )


def limit(host: Host, device: str, megabits: int) -> None:
    """Let a host send no more than so many megabits a second."""
    subprocess.run(
        ["nsenter", "--target", str(host.pid), "--net", "tc", "qdisc", "replace", "dev", device,
         "root", "tbf", "rate", f"{megabits}mbit", "burst", "128k", "latency", "50ms"],
        check=True,
    )  # fmt: skip


def unlimit(host: Host, device: str) -> None:
    """Let it send as fast as it can."""
    subprocess.run(
        ["nsenter", "--target", str(host.pid), "--net", "tc", "qdisc", "del", "dev", device,
         "root"],
        check=True,
    )  # fmt: skip


def plug_into_lan(host: Host, addresses: Addresses, router: Host, gate: Addresses) -> None:
    """Connect the host to the router's network, by an interface ``eth0``."""
    ip(
        f"link add name v-{host.name} netns {router.pid} type veth "
        f"peer name eth0 netns {host.pid}"
    )
    ip(f"link set v-{host.name} master lan up", host=router)
    ip(
        "link set lo up",
        f"addr add {addresses.ipv4}/24 dev eth0",
        f"addr add {addresses.ipv6}/64 dev eth0 nodad",
        "link set eth0 up",
        f"route add default via {gate.ipv4}",
        f"route add ::/0 via {gate.ipv6}",
        host=host,
    )
