"""CEDAR's framing and values, fed with what HTCondor's own programs sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport.errors import CedarError
from vine_sharedport.wire.cedar import (
    DEFAULT_MAX_MESSAGE,
    MAX_FRAME_PAYLOAD,
    MessageDecoder,
    Reader,
    encode_int,
    encode_message,
    encode_string,
)

DIRECTORY = Path(__file__).parents[2] / "vectors"
FILES = sorted(DIRECTORY.glob("connect-*.json"))
# Several programs send the same bytes; each stream once, under its last sender.
STREAMS = {
    id_: bytes.fromhex(text)
    for text, id_ in {
        vector["hex"]: f"{path.stem}-{vector['program']}"
        for path in FILES
        for vector in json.loads(path.read_text())["vectors"]
    }.items()
}
ONE, MORE = b"\x01", b"\x00"


def frame(payload: bytes, flag: bytes = ONE) -> bytes:
    return flag + len(payload).to_bytes(4, "big") + payload


def split(stream: bytes) -> tuple[list[bytes], int]:
    """Return messages and number of frames of a good stream, the obvious way."""
    messages, frames, message = [], 0, b""
    while stream:
        end = 5 + int.from_bytes(stream[1:5], "big")
        message += stream[5:end]
        frames += 1
        if stream[0]:
            messages.append(message)
            message = b""
        stream = stream[end:]
    assert not message
    return messages, frames


def feed(decoder: MessageDecoder, stream: bytes, step: int) -> list[bytes]:
    messages = []
    for start in range(0, len(stream), step):
        messages += decoder.feed(stream[start : start + step])
    return messages


def test_vectors_of_both_versions_and_of_the_bindings_are_here() -> None:
    captured = {path.stem for path in FILES}
    assert {"connect-23.9.6", "connect-25.14.1", "connect-25.14.1-bindings"} <= captured
    assert len(STREAMS) >= 5


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_recorded_stream_is_the_same_however_its_bytes_arrive(stream: bytes) -> None:
    for step in (1, 2, 4, 5, 6, 13, 4096, 1 << 20):
        decoder = MessageDecoder()
        assert feed(decoder, stream, step) == split(stream)[0], step
        assert decoder.pending == 0
        assert not decoder.failed


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_bytes_after_a_recorded_stream_wait_for_the_rest(stream: bytes) -> None:
    decoder = MessageDecoder()
    assert decoder.feed(stream + stream[:7]) == split(stream)[0]
    assert decoder.pending == 2  # the header is not kept
    assert decoder.feed(stream[7:]) == split(stream)[0]


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_every_prefix_of_a_recorded_stream_is_incomplete_or_a_message(stream: bytes) -> None:
    messages = split(stream)[0]
    for end in range(0, len(stream), 97):
        got = MessageDecoder().feed(stream[:end])
        assert got == messages[: len(got)]


def test_htcondor_splits_a_long_message_into_frames_of_4096_bytes_header_included() -> None:
    stream = next(s for s in STREAMS.values() if len(s) > 4096)
    assert split(stream)[1] > len(split(stream)[0])
    assert b"\x00\x00\x00\x0f\xfb" in stream  # more frames, 4091 bytes of payload


# --- framing --------------------------------------------------------------------------


def test_message_is_one_last_frame() -> None:
    assert encode_message(b"abc") == bytes.fromhex("01 00000003 616263")


@pytest.mark.parametrize("size", [0, MAX_FRAME_PAYLOAD + 1])
def test_frame_size_that_htcondor_refuses_is_not_sent(size: int) -> None:
    with pytest.raises(CedarError, match=naming(size, MAX_FRAME_PAYLOAD)):
        encode_message(bytes(size))


def test_frame_of_one_mebibyte_is_sent_and_read() -> None:
    payload = bytes(MAX_FRAME_PAYLOAD)
    decoder = MessageDecoder(max_message=MAX_FRAME_PAYLOAD)
    assert decoder.feed(encode_message(payload)) == [payload]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("02", "0x02"),  # the daemon would take 2 to 10 for "last"
        ("0a 00000001", "0x0a"),
        ("0b", "0x0b"),
        ("80", "0x80"),
        ("ff ffffffff", "0xff"),
        ("47455420", "0x47"),  # "GET "
        ("16 0301", "0x16"),  # a TLS ClientHello
        ("01 00000000", 0),
        ("00 00000000", 0),
        ("01 00100001", 1048577),
        ("01 80000000", 2147483648),
        ("00 ffffffff", 4294967295),
    ],
)
def test_hostile_header_is_refused_by_itself(header: str, value: object) -> None:
    for step in (1, 4, 64):
        decoder = MessageDecoder(max_message=1 << 33)
        with pytest.raises(CedarError, match=naming(value)):
            feed(decoder, bytes.fromhex(header), step)
        assert decoder.failed
        assert decoder.pending == 0


def test_flag_is_refused_before_the_rest_of_the_header_is_there() -> None:
    with pytest.raises(CedarError, match=naming("0x0a")):
        MessageDecoder().feed(b"\x0a")


def test_failed_decoder_stays_failed() -> None:
    decoder = MessageDecoder()
    with pytest.raises(CedarError) as first:
        decoder.feed(b"x")
    for data in (b"", frame(b"good")):
        with pytest.raises(CedarError) as again:
            decoder.feed(data)
        assert str(again.value) == str(first.value)


def test_messages_before_a_broken_header_are_returned_and_the_error_comes_next() -> None:
    decoder = MessageDecoder()
    assert decoder.feed(frame(b"one") + frame(b"two") + b"junk" + frame(b"three")) == [
        b"one",
        b"two",
    ]
    assert decoder.failed
    with pytest.raises(CedarError):
        decoder.feed(b"")


def test_message_above_the_limit_is_refused_by_its_header() -> None:
    assert MessageDecoder(max_message=8).feed(frame(bytes(8))) == [bytes(8)]
    decoder = MessageDecoder(max_message=8)
    with pytest.raises(CedarError, match=naming(9, 8)):
        decoder.feed(frame(bytes(9))[:5])


def test_message_that_outgrows_the_limit_in_many_frames_is_refused() -> None:
    decoder = MessageDecoder(max_message=8)
    assert decoder.feed(frame(b"a", MORE) * 8) == []
    assert decoder.pending == 8
    with pytest.raises(CedarError, match=naming(9, 8)):
        decoder.feed(frame(b"a", MORE))
    assert decoder.pending == 0


def test_limit_is_for_each_message_and_not_for_the_stream() -> None:
    stream = (frame(b"abcd", MORE) + frame(b"efgh")) * 100
    assert MessageDecoder(max_message=8).feed(stream) == [b"abcdefgh"] * 100


def test_default_limit_holds_the_largest_connect_message() -> None:
    assert DEFAULT_MAX_MESSAGE >= 8 + 1024 + 1024 + 8 + 8 + 100 * 512
    with pytest.raises(CedarError, match=naming(65537, 65536)):
        MessageDecoder().feed(b"\x01\x00\x01\x00\x01")


def test_memory_of_a_stalled_peer_is_what_it_sent() -> None:
    decoder = MessageDecoder()
    decoder.feed(b"\x01\x00\x00\xff\xff" + b"a" * 10)
    assert decoder.pending == 10


# --- values ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (75, "000000000000004b"),
        (-1, "ffffffffffffffff"),
        (2**63 - 1, "7fffffffffffffff"),
        (-(2**63), "8000000000000000"),
    ],
)
def test_integer_is_eight_bytes_big_endian(value: int, wire: str) -> None:
    assert encode_int(value).hex() == wire
    assert Reader(bytes.fromhex(wire)).int() == value


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**10_000])
def test_integer_beyond_64_bits_is_not_sent(value: int) -> None:
    with pytest.raises(CedarError, match=naming(value.bit_length(), 64)):
        encode_int(value)


def test_integer_cut_short_is_an_error() -> None:
    for size in range(8):
        with pytest.raises(CedarError, match=naming(size, 8)):
            Reader(bytes(size)).int()


def test_string_ends_in_nul() -> None:
    assert encode_string("vine_42") == b"vine_42\0"
    assert encode_string("") == b"\0"


@pytest.mark.parametrize(
    ("text", "value"), [("a\0b", "NUL"), ("\0", "NUL"), ("\udc80", "UTF-8")]
)
def test_string_that_would_arrive_as_another_is_not_sent(text: str, value: str) -> None:
    with pytest.raises(CedarError, match=naming(value)):
        encode_string(text)


def test_values_come_in_order_and_nothing_may_follow() -> None:
    reader = Reader(encode_int(7) + b"abc\0\0" + encode_int(-7))
    assert (reader.int(), reader.string(), reader.string(), reader.int()) == (7, "abc", "", -7)
    reader.done()


def test_bytes_after_the_last_value_are_an_error() -> None:
    reader = Reader(b"abc\0de")
    reader.string()
    with pytest.raises(CedarError, match=naming(2)):
        reader.done()


def test_absent_string_is_the_byte_0xad_and_reads_as_empty() -> None:
    reader = Reader(b"\xad" + b"next\0")
    assert (reader.string(), reader.string()) == ("", "next")
    reader.done()


@pytest.mark.parametrize("payload", [b"", b"abc", b"\xff"])
def test_string_without_its_nul_is_an_error(payload: bytes) -> None:
    with pytest.raises(CedarError, match=naming("NUL")):
        Reader(payload).string()


def test_string_must_fit_its_buffer_with_the_nul() -> None:
    assert Reader(b"abc\0").string(4) == "abc"
    with pytest.raises(CedarError, match=naming(5, 4)):
        Reader(b"abcd\0").string(4)


def test_string_that_is_not_utf8_is_an_error() -> None:
    assert Reader("größe\0".encode()).string() == "größe"
    with pytest.raises(CedarError, match=naming("UTF-8")):
        Reader(b"gr\xf6\xdfe\0").string()


def test_failed_read_takes_nothing() -> None:
    reader = Reader(b"abcd\0")
    with pytest.raises(CedarError):
        reader.string(2)
    assert reader.string() == "abcd"
