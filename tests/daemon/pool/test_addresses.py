"""Settings of HTCondor that change its addresses, and several HTCondors on one host."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vine_sharedport as vine
from vine_sharedport.bundle.shim_build import library_path
from vine_sharedport.bundle.shim_trial import try_shim
from vine_sharedport.condor.personal import PersonalPool
from vine_sharedport.condor.shared_port_check import check_shared_port
from vine_sharedport.dialing.dial import connect
from vine_sharedport.errors import DiscoveryError
from vine_sharedport.secret_file import read_secret_file

pytestmark = pytest.mark.daemon


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


DRAWN = f"drawn{random.randrange(10**6)}.example"
BOTH = {
    "ENABLE_IPV6": "True", "NETWORK_INTERFACE": "127.0.0.1, ::1", "BIND_ALL_INTERFACES": "True",
}  # fmt: skip
NAMES = {"NETWORK_HOSTNAME": "", "NO_DNS": "True"}
SETTINGS = {
    "IPv4 first": {**BOTH, "PREFER_IPV4": "True"},
    "IPv6 first": {**BOTH, "PREFER_IPV4": "False"},
    "no DNS": {**NAMES, "DEFAULT_DOMAIN_NAME": "site.example"},
    "no DNS, drawn": {**NAMES, "DEFAULT_DOMAIN_NAME": DRAWN},
    "a domain by default": {"DEFAULT_DOMAIN_NAME": "site.example"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_manager_is_reached_whatever_address_htcondor_makes(
    name: str, tmp_path: Path
) -> None:
    if "IPv6" in name and not _has_ipv6():
        pytest.skip("no ::1 on this machine")
    with PersonalPool(config=SETTINGS[name]):
        checked = check_shared_port()
        assert checked.problem is None, checked
        manager = vine.Manager(0, shared_port=True, run_info_path=str(tmp_path / "run"))
        try:
            link: Any = manager.shared_port
            secret = read_secret_file(link.secret_file)
            connect(link.address, secret=secret).close()
            if library_path() is not None:
                shim = try_shim(str(link.address), secret_file=link.secret_file)
                assert shim.works, (str(link.address), shim)
        finally:
            manager._free()
    if "no DNS" in name:
        assert SETTINGS[name]["DEFAULT_DOMAIN_NAME"] in str(link.address)


@pytest.fixture
def two() -> Iterator[list[PersonalPool]]:
    """Return two pools of this host, as a CE's HTCondor beside the site's own."""
    pools = [PersonalPool(), PersonalPool()]
    before = os.environ.get("CONDOR_CONFIG")
    try:
        yield [pool.start() for pool in pools]
    finally:
        for pool in pools:
            pool.stop()
        if before is None:
            os.environ.pop("CONDOR_CONFIG", None)
        else:
            os.environ["CONDOR_CONFIG"] = before


def test_of_several_htcondors_each_serves_its_own_managers(
    two: list[PersonalPool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    managers: list[Any] = []
    try:
        for number, pool in enumerate(two):
            monkeypatch.setenv("CONDOR_CONFIG", pool.config_file)
            managers.append(
                vine.Manager(
                    0,
                    # The same name at each, as of one that moves from one to the other.
                    shared_port=vine.SharedPort(name="both"),
                    run_info_path=str(tmp_path / str(number)),
                )
            )
        links = [manager.shared_port for manager in managers]
        assert links[0].address.port != links[1].address.port
        for link in links:
            connect(link.address, secret=read_secret_file(link.secret_file)).close()
        with pytest.raises(vine.WrongSecretError):
            connect(links[0].address, secret=read_secret_file(links[1].secret_file))
    finally:
        for manager in managers:
            manager._free()


@pytest.mark.parametrize("way", ["manager", "expose", "work queue"])
def test_the_address_of_another_htcondor_is_refused_in_words(
    two: list[PersonalPool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    from vine_sharedport import work_queue
    from vine_sharedport.condor.own_pool import discover
    from vine_sharedport.tcp_servers.expose import expose

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONDOR_CONFIG", two[1].config_file)
    other = discover()
    monkeypatch.setenv("CONDOR_CONFIG", two[0].config_file)
    ours = discover().socket_dir
    settings = vine.SharedPort(address=str(other.address))

    def make() -> None:
        if way == "manager":
            vine.Manager(0, shared_port=settings)
        elif way == "work queue":
            work_queue.WorkQueue(0, shared_port=settings)
        else:
            expose(9, settings).__enter__()

    with pytest.raises(DiscoveryError) as raised:
        make()
    for text in (ours, str(other.address.port), "socket_dir"):
        assert text in str(raised.value)
    # And with that one's directory it is taken.
    both = vine.SharedPort(address=str(other.address), socket_dir=other.socket_dir)
    manager = vine.Manager(0, shared_port=both)
    try:
        link: Any = manager.shared_port
        connect(link.address, secret=read_secret_file(link.secret_file)).close()
    finally:
        manager._free()
