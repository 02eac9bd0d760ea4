"""Arbitrary bytes at the decoder and the reader: only documented errors come out."""

from __future__ import annotations

import re
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from vine_sharedport.errors import CedarError
from vine_sharedport.wire.cedar import (
    MessageDecoder,
    Reader,
    encode_int,
    encode_message,
    encode_string,
)

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
