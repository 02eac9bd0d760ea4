"""The shared port's ad file.

Permitted: SinfulError.
"""

from __future__ import annotations

from vine_sharedport.errors import SinfulError
from vine_sharedport.wire.shared_port_ad import parse_my_address
from vine_sharedport.wire.sinful import Sinful


def one_input(data: bytes) -> None:
    """The data is the file, read as the link reads it."""
    try:
        address = parse_my_address(data.decode("utf-8", errors="replace"))
    except SinfulError:
        return
    assert address.port
    assert Sinful.parse(address.format()) == address
