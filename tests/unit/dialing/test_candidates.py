"""Which addresses are tried, and in which order."""

from __future__ import annotations

import pytest

from vine_sharedport.dialing.candidates import candidates, interleave, plan
from vine_sharedport.wire.sinful import Sinful

PRIVATE = (
    "&PrivNet=cluster&PrivAddr=%3c10.0.0.1:9700%3faddrs%3d10.0.0.1-9700%2b[fd00--1]-9700%3e"
)


def pairs(text: str, network: str | None = None) -> list[str]:
    return [
        f"{c.host} {c.port} {c.source}"
        for c in plan(Sinful.parse(text), private_network=network)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<192.0.2.7:9618>", ["192.0.2.7 9618 host"]),
        ("<[2001:db8::7]:9618?sock=a>", ["2001:db8::7 9618 host"]),
        ("<ap.example.org:9618>", ["ap.example.org 9618 host"]),
        (
            "<192.0.2.7:9618?addrs=192.0.2.7-9618+[2001-db8--7]-9618&alias=ap.example.org>",
            ["192.0.2.7 9618 addrs", "2001:db8::7 9618 addrs", "ap.example.org 9618 alias"],
        ),
        (  # a forwarder's public address comes after what the host has itself
            "<203.0.113.1:9618?addrs=10.0.0.1-9619>",
            ["10.0.0.1 9619 addrs", "203.0.113.1 9618 host"],
        ),
        ("<192.0.2.7?addrs=10.0.0.1-9619>", ["10.0.0.1 9619 addrs"]),
        # A daemon that does not know its shared port yet writes 0.
        ("<192.0.2.7:0?addrs=192.0.2.7-0&alias=ap>", []),
        ("<192.0.2.7>", []),
    ],
)
def test_literal_addresses_come_before_the_host_and_the_alias(
    text: str, expected: list[str]
) -> None:
    assert pairs(text) == expected


def test_each_host_and_port_is_there_once_however_it_is_written() -> None:
    text = (
        "<[2001:db8::7]:9618?addrs=[2001-DB8-0--7]-9618+192.0.2.7-9618+192.0.2.7-9618"
        "+192.0.2.7-9619&alias=192.0.2.7>"
    )
    assert pairs(text) == [
        "2001:DB8:0::7 9618 addrs",
        "192.0.2.7 9618 addrs",
        "192.0.2.7 9619 addrs",
    ]
    assert pairs("<ap.example.org:9618?alias=AP.example.org.>") == ["ap.example.org 9618 host"]


@pytest.mark.parametrize(
    ("addrs", "expected"),
    [
        ("192.0.2.1-1+192.0.2.2-1+[--1]-1+[--2]-1", "192.0.2.1 ::1 192.0.2.2 ::2"),
        ("[--1]-1+192.0.2.1-1+192.0.2.2-1+192.0.2.3-1", "::1 192.0.2.1 192.0.2.2 192.0.2.3"),
        ("192.0.2.1-1+192.0.2.2-1", "192.0.2.1 192.0.2.2"),
    ],
)
def test_families_take_turns_and_the_first_ones_is_first(addrs: str, expected: str) -> None:
    text = f"<192.0.2.1:1?addrs={addrs}>"
    assert [host for host, _ in candidates(Sinful.parse(text))][: len(expected.split())] == (
        expected.split()
    )


def test_private_address_is_first_within_its_network_and_left_out_elsewhere() -> None:
    text = f"<192.0.2.7:9618?addrs=192.0.2.7-9618{PRIVATE}&sock=a>"
    assert pairs(text, "cluster") == [
        "10.0.0.1 9700 PrivAddr",
        "fd00::1 9700 PrivAddr",
        "192.0.2.7 9618 addrs",
    ]
    for network in (None, "", "Cluster", "other"):
        assert pairs(text, network) == ["192.0.2.7 9618 addrs"]


def test_no_network_is_nobodys() -> None:
    text = "<192.0.2.7:9618?PrivAddr=%3c10.0.0.1:9700%3e>"
    assert pairs(text, "cluster") == ["192.0.2.7 9618 host"]


def test_turns_keep_the_order_within_each_kind() -> None:
    assert interleave([1, 3, 5, 2, 7, 4], key=lambda number: number % 2) == [1, 2, 3, 4, 5, 7]
    assert interleave([], key=str) == []
