"""The site is what it says: who reaches whom, who runs what, and what the kernel keeps."""

from __future__ import annotations

import pytest

from . import users
from .site import PLACES, Site

pytestmark = pytest.mark.site

KNOCK = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1).close()
    print("in")
except TimeoutError:
    print("dropped")
except ConnectionRefusedError:
    print("refused")
"""


def knock(site: Site, host: str, address: str, port: int) -> str:
    """Return how a TCP connection fares."""
    return str(site.run(host, ["python3", "-c", KNOCK, address, port]).stdout.strip())


@pytest.mark.parametrize("address", ["198.51.100.1", "2001:db8:100::1"])
@pytest.mark.parametrize("host", ["public", "nat1", "nat2"])
def test_access_point_lets_in_the_shared_port_alone(
    site: Site, host: str, address: str
) -> None:
    before = site.firewall.packets()
    assert knock(site, host, address, 9618) == "in"
    between = site.firewall.packets()
    assert between["dropped-tcp"] == before["dropped-tcp"]
    assert knock(site, host, address, 9123) == "dropped"
    assert site.firewall.packets()["dropped-tcp"] > between["dropped-tcp"]


@pytest.mark.parametrize("host", ["public", "ap", "nat2"])
@pytest.mark.parametrize("router", ["198.51.100.11", "2001:db8:100::11"])
def test_nothing_comes_in_through_nat(site: Site, host: str, router: str) -> None:
    before = site.routers["router1"].packets()["unasked"]
    assert knock(site, host, router, 9123) == "dropped"
    assert site.routers["router1"].packets()["unasked"] > before


def test_hosts_of_one_site_reach_each_other_directly(site: Site) -> None:
    before = site.routers["router1"].packets()["outwards"]
    assert knock(site, "nat1", "10.1.0.12", 9123) == "refused"
    assert site.routers["router1"].packets()["outwards"] == before


@pytest.mark.parametrize("user", users.ORDINARY)
def test_jobs_run_as_their_owners_where_they_ask(site: Site, user: str) -> None:
    description = """
        executable = /bin/sh
        transfer_executable = false
        should_transfer_files = yes
        arguments = "-c 'id -un; hostname'"
        output = $(place).out
        error = $(place).err
        log = log
        request_memory = 100
        request_disk = 1000
        requirements = Place == "$(place)"
        queue place in public nat1 nat1b nat2
    """
    home = site["ap"].files / "home" / user
    (home / "try.sub").write_text(description)
    site.run("ap", ["condor_submit", "try.sub"], user=user)
    site.run("ap", ["condor_wait", "-wait", "60", "log"], user=user, timeout=90)
    said = {place: (home / f"{place}.out").read_text() for place in PLACES if place != "ap"}
    assert said == {place: f"{user}\n{place}\n" for place in said}
