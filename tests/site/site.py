"""The site: all its hosts, up and down.

with Site() as site:
    site["nat1"].run(["hostname"], user="ann")
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Sequence
from typing import Any

from . import condor, hosts, install, network
from .firewall import Firewall
from .hosts import Host
from .nat import Router

# Host, number of its network (0: the internet), number in it. Each network N has a router.
PLACES = {
    "ap": (0, 1),
    "public": (0, 3),
    "nat1": (1, 11),
    "nat1b": (1, 12),
    "nat2": (2, 11),
}
NETWORKS = (1, 2)


class Site:
    """A site in one machine; needs to be run by ``tests/site/run``.

    Args:
        installed: Whether the two users have the package (see ``install``).
        execute: The hosts that run jobs.

    Attributes:
        hosts: All of them, routers too, by name.
        firewall: The access point's.
        routers: The two with NAT, by the names of their hosts, ``router1`` and ``router2``.
    """

    def __init__(
        self,
        *,
        installed: bool = True,
        execute: Sequence[str] = ("public", "nat1", "nat1b", "nat2"),
    ) -> None:
        self._installed = installed
        self._execute = tuple(execute)
        self.hosts: dict[str, Host] = {}
        self.routers: dict[str, Router] = {}
        self.condor = condor.Condor()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def __enter__(self) -> Site:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, host: str, command: Sequence[object], **options: Any) -> Any:
        """Run a command on a host; see ``Host.run``."""
        return self.hosts[host].run(command, **options)

    def start(self, host: str, command: Sequence[object], **options: Any) -> Any:
        """Start a command on a host; see ``Host.start``."""
        return self.hosts[host].start(command, **options)

    def stop(self) -> None:
        """End all of it."""
        for host in reversed(self.hosts.values()):
            host.end()
        if self.hosts:
            network.remove_hub()
        self.condor.forget()
        self.hosts.clear()
        shutil.rmtree(hosts.HOSTS / "code", ignore_errors=True)

    def _start(self) -> None:
        layers = install.layers(hosts.HOSTS / "code") if self._installed else []
        for name in (*PLACES, *(f"router{number}" for number in NETWORKS)):
            self.hosts[name] = Host(name, layers if name == "ap" else [])
            (self.hosts[name].files / "etc/hosts").write_text(_names(name))
        for host in self.hosts.values():
            host.wait_until_up()
        self._connect()
        self._start_condor()

    def _connect(self) -> None:
        network.make_hub()
        for number in NETWORKS:
            router = self.hosts[f"router{number}"]
            network.plug(router, network.public(10 + number))
            network.make_lan(router, network.private(number, 1))
            self.routers[router.name] = Router(router)
        for name, (net, number) in PLACES.items():
            if net:
                router, gate = self.hosts[f"router{net}"], network.private(net, 1)
                network.plug_into_lan(
                    self.hosts[name], network.private(net, number), router, gate
                )
            else:
                network.plug(self.hosts[name], network.public(number))
        self.firewall = Firewall(self.hosts["ap"])

    def _start_condor(self) -> None:
        ap = self.hosts["ap"]
        self.condor.set_up(ap, condor.ACCESS_POINT)
        self.condor.let_users_listen(ap)
        self.condor.start(ap)
        for name in self._execute:
            place = condor.EXECUTE_POINT.format(place=name)
            nat = condor.BEHIND_NAT if PLACES[name][0] else ""
            self.condor.set_up(self.hosts[name], place + nat)
        self.condor.wait_for_access_point(ap)
        for name in self._execute:
            self.condor.start(self.hosts[name])
        self.condor.wait_for_slots(ap, len(self._execute))


def _names(name: str) -> str:
    """Return a host's /etc/hosts: it knows the public hosts and itself."""
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    for other, (net, number) in PLACES.items():
        addresses = network.private(net, number) if net else network.public(number)
        if other == name or not net:
            for address in (addresses.ipv4, addresses.ipv6):
                lines.append(f"{address} {other}.{condor.DOMAIN} {other}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Show how long it takes."""
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        site = stack.enter_context(Site())
        print(f"up after {time.monotonic() - begin:.1f} s")
        print(site.run("ap", ["condor_status"], user="ann").stdout)
        begin = time.monotonic()
    print(f"down after {time.monotonic() - begin:.1f} s")


if __name__ == "__main__":
    main()
