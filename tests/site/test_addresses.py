"""A dead first address of the manager costs a worker behind NAT a second at most."""

from __future__ import annotations

import random
import subprocess

import pytest

from . import users
from .flows import Flow
from .site import Site

pytestmark = pytest.mark.site

# What nobody has, and where packets vanish: the access point forwards nothing.
NOWHERE = ("203.0.113.{}", "2001-db8-dead--{}")
SHARED_PORT = "198.51.100.1-9618"


# From the first attempt of a user's programs to their new connection, by proc_net_tcp(5).
WATCH = """
import sys, time

def connections():
    for name in ("tcp", "tcp6"):
        with open("/proc/net/" + name) as file:
            for line in list(file)[1:]:
                _, local, remote, state, _, _, _, uid, *_ = line.split()
                if uid == sys.argv[1] and remote.endswith(":2592"):  # port 9618
                    yield local, remote, state

old = {local for local, _, _ in connections()}
print("ready", flush=True)
first, last = None, time.monotonic() + 60
while time.monotonic() < last:
    for local, remote, state in connections():
        if local not in old and state == "02" and first is None:  # TCP_SYN_SENT
            first = time.monotonic()
        if local not in old and state == "01":  # TCP_ESTABLISHED
            print(time.monotonic() - first if first else 0.0)
            sys.exit()
    time.sleep(0.005)
print(60.0)
"""


def seconds_until_connected(flow: Flow, address: str, transport: str) -> float:
    """Return how long a new worker tries until it has a connection to the access point."""
    watch = flow.site.start(
        "nat1b", ["python3", "-c", WATCH, users.uid(flow.user)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with watch:
        assert watch.stdout.readline() == "ready\n"
        flow.start_worker("nat1b", ADDRESS=address, TRANSPORT=transport)
        return float(watch.stdout.readline())


@pytest.fixture(scope="module")
def dead_ends(site: Site) -> None:
    """Route what nobody has to where it vanishes."""
    for route in ("203.0.113.0/24 via 198.51.100.1", "2001:db8:dead::/48 via 2001:db8:100::1"):
        site.run("router1", ["ip", "route", "add", *route.split()])


@pytest.mark.parametrize("transport", ["shim"])
def test_dead_first_addresses_cost_a_second(
    site: Site, transport: str, dead_ends: None
) -> None:
    with Flow(site, "ann", "silent.py", workers=9, idle=1, phases=[]) as flow:
        sock = flow.worker_command.partition("sock=")[2].partition(">")[0]
        number = random.randrange(2, 250)
        ipv4, ipv6 = (f"{place.format(number)}" for place in NOWHERE)
        for dead in ([ipv4], [f"[{ipv6}]"], [ipv4, f"[{ipv6}]"]):
            addrs = "+".join(f"{one}-9618" for one in dead)
            address = f"<{ipv4}:9618?addrs={addrs}+{SHARED_PORT}&sock={sock}>"
            assert 0.1 < seconds_until_connected(flow, address, transport) < 1, dead
