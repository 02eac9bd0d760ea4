"""Arbitrary bytes and names in CONNECT and PASS_SOCK: only documented errors come out."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vine_sharedport.errors import CedarError, SettingError
from vine_sharedport.wire.cedar import MessageDecoder
from vine_sharedport.wire.handoff import (
    PASS_SOCK,
    Connect,
    check_sock_id,
    decode_connect,
    decode_pass_sock,
    encode_connect,
)

DIRECTORY = Path(__file__).parents[2] / "vectors"


def vector_values(kind: str, field: str) -> list[str]:
    return sorted(
        {
            vector[field]
            for path in DIRECTORY.glob(f"{kind}-*.json")
            for vector in json.loads(path.read_text())["vectors"]
        }
    )


CONNECTS = [bytes.fromhex(text) for text in vector_values("verdict", "hex")]


SOCK_IDS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,40}", fullmatch=True).filter(
    "self".__ne__
)


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


def check_connect(payload: bytes) -> None:
    try:
        connect = decode_connect(payload)
    except CedarError:
        return
    assert len(connect.sock_id.encode()) < 1024
    assert len(connect.client_name.encode()) < 1024
    assert -(2**31) <= connect.timeout < 2**31
    assert 0 <= connect.more_args <= 100


@given(st.binary(max_size=80))
def test_any_payload_is_a_connect_message_or_a_cedar_error(payload: bytes) -> None:
    check_connect(payload)
    check_connect((75).to_bytes(8, "big") + payload)


@given(
    st.sampled_from(CONNECTS), st.integers(0, 2000), st.integers(0, 9), st.binary(max_size=9)
)
def test_damaged_connect_message_is_one_or_a_cedar_error(
    message: bytes, at: int, cut: int, piece: bytes
) -> None:
    payload = message[5:]
    at %= len(payload) + 1
    check_connect(payload[:at] + piece + payload[at + cut :])


@given(SOCK_IDS, PRINTABLE, st.integers(-1, 2**31 - 1))
def test_connect_message_comes_back_as_it_was_encoded(
    sock_id: str, name: str, timeout: int
) -> None:
    message = encode_connect(sock_id, name, timeout=timeout)
    (payload,) = MessageDecoder().feed(message)
    assert decode_connect(payload) == Connect(sock_id, name, timeout)


@given(st.text(max_size=50), st.text(max_size=50), st.integers())
def test_connect_message_of_anything_is_readable_or_refused(
    sock_id: str, name: str, timeout: int
) -> None:
    try:
        message = encode_connect(sock_id, name, timeout=timeout)
    except (CedarError, SettingError):
        return
    assert decode_connect(message[5:]) == Connect(sock_id, name, timeout)


@given(
    st.one_of(st.text(max_size=50), SOCK_IDS, st.sampled_from(vector_values("sinful", "text")))
)
def test_sock_id_is_a_plain_file_name_or_an_endpoint_error(text: str) -> None:
    try:
        assert check_sock_id(text) == text
    except SettingError:
        return
    assert 1 <= len(text.encode()) <= 41
    assert text[0] not in ".-"
    assert all(c.isascii() and (c.isalnum() or c in "._-") for c in text)


@given(st.binary(max_size=20))
def test_only_pass_sock_is_pass_sock(message: bytes) -> None:
    try:
        decode_pass_sock(message)
    except CedarError:
        assert message != PASS_SOCK
    else:
        assert message == PASS_SOCK
