"""Arbitrary text as an address: only documented errors come out.

The examples are the same in every run; see the profile in ``conftest.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vine_sharedport.errors import SinfulError
from vine_sharedport.wire.sinful import MAX_SINFUL, Sinful

DIRECTORY = Path(__file__).parents[2] / "vectors"


def vector_values(kind: str, field: str) -> list[str]:
    return sorted(
        {
            vector[field]
            for path in DIRECTORY.glob(f"{kind}-*.json")
            for vector in json.loads(path.read_text())["vectors"]
        }
    )


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)

PIECES = st.one_of(
    st.sampled_from("<>?&;=%+-:[]#,/a0é \n\0"),
    st.sampled_from(["%3c", "%3E", "%00", "%4", "%2b", "%25", "%20", "::", "9618", "65536"]),
    st.sampled_from(["[::1]", "[--1]-1", "192.0.2.7", "192.0.2.7-1", "h.example.org"]),
    st.sampled_from(["addrs=", "PrivAddr=", "CCBID=", "alias=", "sock", "noUDP"]),
)
ADDRESS_TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(PIECES, max_size=12).map(lambda pieces: "<h:1?" + "".join(pieces) + ">"),
    st.lists(PIECES, max_size=12).map(lambda pieces: "<" + "".join(pieces) + ">"),
    st.builds(
        lambda text, at, cut, piece: text[: at % len(text)]
        + piece
        + text[at % len(text) + cut :],
        st.sampled_from(vector_values("sinful", "text")),
        st.integers(0, MAX_SINFUL),
        st.integers(0, 3),
        PIECES,
    ),
)
HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.from_regex(r"[a-z_]([A-Z0-9-]{0,3}[a-z])?(\.[0-9]{0,2}[a-w]){0,2}\.?", fullmatch=True),
)
PORTS = st.one_of(st.none(), st.integers(0, 65535))
PARAMS = st.dictionaries(
    PRINTABLE.filter(lambda name: name not in ("", "addrs", "PrivAddr")),
    st.one_of(st.none(), PRINTABLE),
    max_size=5,
)
ADDRS = st.lists(st.tuples(st.ip_addresses(), st.integers(0, 65535)), min_size=1, max_size=4)


@given(ADDRESS_TEXTS)
def test_any_text_is_a_whole_address_or_a_sinful_error(text: str) -> None:
    try:
        address = Sinful.parse(text)
    except SinfulError:
        return
    printed = address.format()
    assert Sinful.parse(printed) == address
    assert Sinful.parse(printed).format() == printed
    assert not set(printed[1:-1]) & set("<> ,\n\0")
    for host, port in address.addrs:
        assert host
        assert 0 <= port <= 65535
    assert address.private_address is None or isinstance(address.private_address, Sinful)
    assert all(address.get(name) is not None for name, _ in address.params)
    moved = address.with_sock("vine_42")
    assert moved.sock == "vine_42"
    assert moved.private_address is None or moved.private_address.sock == "vine_42"
    strip = moved.without("sock").without("PrivAddr")
    assert strip == address.without("sock").without("PrivAddr")


@given(HOSTS, PORTS, PARAMS, st.one_of(st.none(), ADDRS))
def test_address_comes_back_as_it_was_printed(
    host: str,
    port: int | None,
    params: dict[str, str | None],
    addrs: list[tuple[object, int]] | None,
) -> None:
    if addrs is not None:
        # As condor_sockaddr::to_ccb_safe_string writes them.
        params["addrs"] = "+".join(
            f"[{ip}]-{number}".replace(":", "-") if ":" in str(ip) else f"{ip}-{number}"
            for ip, number in addrs
        )
    address = Sinful(host, port, tuple(params.items()))
    again = Sinful.parse(address.format())
    assert again == address
    assert again.addrs == [(str(ip), number) for ip, number in addrs or []]
    private = Sinful("h", 1).with_param("PrivAddr", address.format())
    assert Sinful.parse(private.format()).private_address == address
