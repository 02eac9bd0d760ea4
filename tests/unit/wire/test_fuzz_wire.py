"""Arbitrary bytes and text at every decoder and parser: only documented errors come out.

The examples are the same in every run; see the profile in ``conftest.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vine_sharedport.errors import CedarError, SettingError, SinfulError
from vine_sharedport.wire.cedar import (
    MessageDecoder,
    Reader,
    encode_int,
    encode_message,
    encode_string,
)
from vine_sharedport.wire.handoff import (
    PASS_SOCK,
    Connect,
    check_sock_id,
    decode_connect,
    decode_pass_sock,
    encode_connect,
)
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


# --- strategies -----------------------------------------------------------------------

FRAMES = st.builds(
    lambda flag, payload: bytes([flag]) + len(payload).to_bytes(4, "big") + payload,
    st.sampled_from([0, 0, 1, 1, 1, 1, 2, 10, 255]),
    st.binary(max_size=40),
)
STREAMS = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(FRAMES, FRAMES, FRAMES, st.binary(max_size=8)), max_size=8).map(
        b"".join
    ),
)
CONNECTS = [bytes.fromhex(text) for text in vector_values("verdict", "hex")]
SOCK_IDS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,40}", fullmatch=True).filter(
    "self".__ne__
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


# --- CEDAR ----------------------------------------------------------------------------


def outcome(stream: bytes, cuts: list[int], limit: int) -> tuple[list[bytes], str | None]:
    """Return the messages and the error of a stream that arrives in pieces."""
    decoder, messages, start = MessageDecoder(max_message=limit), [], 0
    try:
        for cut in [*sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]:
            messages += decoder.feed(stream[start:cut])
            assert decoder.pending <= limit + 5
            start = max(start, cut)
        decoder.feed(b"")
    except CedarError as error:
        assert decoder.failed
        return messages, str(error)
    assert not decoder.failed
    return messages, None


@given(STREAMS, st.lists(st.integers(0, 400), max_size=8), st.sampled_from([1, 16, 64, 4096]))
def test_outcome_of_any_stream_does_not_depend_on_how_it_arrives(
    stream: bytes, cuts: list[int], limit: int
) -> None:
    whole = outcome(stream, [], limit)
    assert outcome(stream, cuts, limit) == whole
    assert outcome(stream, list(range(len(stream))), limit) == whole
    assert all(1 <= len(message) <= limit for message in whole[0])


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.binary(max_size=4))
def test_messages_come_back_as_they_were_encoded(payloads: list[bytes], rest: bytes) -> None:
    stream = b"".join(map(encode_message, payloads))
    rest = bytes(byte & 1 for byte in rest)
    decoder = MessageDecoder()
    assert decoder.feed(stream + rest) == payloads
    assert decoder.pending == len(rest)


@given(st.binary(max_size=60), st.lists(st.sampled_from(["int", "string", "short", "done"])))
def test_reader_of_any_payload_gives_values_or_cedar_errors(
    payload: bytes, operations: list[str]
) -> None:
    reader = Reader(payload)
    calls: dict[str, Callable[[], object]] = {
        "int": reader.int,
        "string": reader.string,
        "short": lambda: reader.string(3),
        "done": reader.done,
    }
    for operation in operations:
        try:
            calls[operation]()
        except CedarError:
            return


@given(st.lists(st.one_of(st.integers(), st.text(max_size=9)), max_size=6))
def test_values_come_back_as_they_were_encoded(values: list[int | str]) -> None:
    payload, sent = b"", []
    for value in values:
        try:
            payload += encode_int(value) if isinstance(value, int) else encode_string(value)
            sent.append(value)
        except CedarError:
            if isinstance(value, int):
                assert not -(2**63) <= value < 2**63
            else:
                assert "\0" in value or re.search("[\ud800-\udfff]", value)
    reader = Reader(payload)
    for value in sent:
        assert (reader.int() if isinstance(value, int) else reader.string()) == value
    reader.done()


# --- CONNECT and PASS_SOCK ------------------------------------------------------------


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


# --- addresses ------------------------------------------------------------------------


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
