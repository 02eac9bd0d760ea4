"""The shared port's two messages.

Permitted: CedarError.
"""

from __future__ import annotations

from vine_sharedport.errors import CedarError, SettingError
from vine_sharedport.wire.handoff import (
    PASS_SOCK,
    Connect,
    check_sock_id,
    decode_connect,
    decode_pass_sock,
    encode_connect,
)


def one_input(data: bytes) -> None:
    """The data is a whole message, header included."""
    try:
        decode_pass_sock(data)
        assert data == PASS_SOCK
    except CedarError:
        assert data != PASS_SOCK
    try:
        connect = decode_connect(data[5:])
    except CedarError:
        return
    assert len(connect.sock_id.encode()) < 1024
    assert len(connect.client_name.encode()) < 1024
    assert -(2**31) <= connect.timeout < 2**31
    assert 0 <= connect.more_args <= 100
    try:
        check_sock_id(connect.sock_id)
        again = encode_connect(connect.sock_id, connect.client_name, timeout=connect.timeout)
    except (CedarError, SettingError):
        return  # not one that we would send
    assert decode_connect(again[5:]) == Connect(
        connect.sock_id, connect.client_name, connect.timeout
    )
