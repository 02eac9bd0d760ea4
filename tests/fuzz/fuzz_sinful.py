"""An HTCondor address as text.

Permitted: SinfulError.
"""

from __future__ import annotations

from vine_sharedport.errors import SinfulError
from vine_sharedport.wire.sinful import Sinful


def one_input(data: bytes) -> None:
    """The data is the text, a byte a character."""
    try:
        address = Sinful.parse(data.decode("latin-1"))
    except SinfulError:
        return
    printed = address.format()
    assert Sinful.parse(printed) == address
    assert Sinful.parse(printed).format() == printed
    assert not set(printed[1:-1]) & set("<> ,\n\0")
    for host, port in address.addrs:
        assert host
        assert 0 <= port <= 65535
    for found in (address, address.private_address):
        assert found is None or isinstance(found.alias, (str, type(None)))
    try:
        moved = address.with_sock("vine_42")
    except SinfulError:
        assert len(printed) > 16_000  # no room for it
        return
    assert moved.sock == "vine_42"
    assert moved.private_address is None or moved.private_address.sock == "vine_42"
