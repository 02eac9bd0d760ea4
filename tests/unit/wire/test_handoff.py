"""CONNECT and PASS_SOCK, held against HTCondor's own clients and daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.values import naming
from vine_sharedport.errors import CedarError, SettingError
from vine_sharedport.wire.cedar import MessageDecoder
from vine_sharedport.wire.handoff import (
    MAX_SOCK_ID,
    PASS_SOCK,
    PASS_SOCK_SIZE,
    SHARED_PORT_CONNECT,
    SHARED_PORT_PASS_SOCK,
    Connect,
    check_sock_id,
    decode_connect,
    decode_pass_sock,
    encode_connect,
)

DIRECTORY = Path(__file__).parents[2] / "vectors"


def vectors(kind: str) -> list[Any]:
    found = [
        pytest.param(vector, id=f"{path.stem}-{vector.get('case') or vector['program']}")
        for path in sorted(DIRECTORY.glob(f"{kind}-*.json"))
        for vector in json.loads(path.read_text())["vectors"]
    ]
    assert found, f"no vectors of {kind}"
    return found


def int64(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


def payload(
    sock_id: bytes = b"vine_42",
    name: bytes = b"TOOL",
    timeout: int = -1,
    more: int = 0,
    extra: bytes = b"",
) -> bytes:
    return int64(75) + sock_id + b"\0" + name + b"\0" + int64(timeout) + int64(more) + extra


# --- CONNECT --------------------------------------------------------------------------


def test_commands_are_htcondors() -> None:
    assert (SHARED_PORT_CONNECT, SHARED_PORT_PASS_SOCK) == (75, 76)


@pytest.mark.parametrize("vector", vectors("connect"))
def test_message_is_byte_for_byte_what_htcondors_client_sends(vector: dict[str, Any]) -> None:
    sent = bytes.fromhex(vector["hex"])
    ours = encode_connect(vector["sock_id"], vector["client_name"], timeout=vector["timeout"])
    assert sent[: len(ours)] == ours
    assert len(ours) == 5 + int.from_bytes(sent[1:5], "big")


@pytest.mark.parametrize("vector", vectors("connect"))
def test_what_htcondors_client_sends_is_understood(vector: dict[str, Any]) -> None:
    stream = bytes.fromhex(vector["hex"])
    for step in (1, 5, 13, len(stream)):
        decoder, messages = MessageDecoder(), []
        for start in range(0, len(stream), step):
            messages += decoder.feed(stream[start : start + step])
        assert decode_connect(messages[0]) == Connect(
            vector["sock_id"], vector["client_name"], vector["timeout"], more_args=0
        )


# Where we are stricter than one of the daemons, and why.
STRICTER = {
    "flag 2": "no sender uses the flags 2 to 10",
    "flag 10": "no sender uses the flags 2 to 10",
    "timeout beyond 32 bits": "25.x keeps the low 32 bits, 23.9 refuses",
    "more_args 2**32": "25.x keeps the low 32 bits, 23.9 refuses",
    "client name not UTF-8": "text is UTF-8 here; HTCondor's own is ASCII",
    "client name starts with 0xFF": "text is UTF-8 here; HTCondor's own is ASCII",
    "sock id starts with '.'": "no safe file name",
    "sock id starts with '-'": "no safe file name",
    "sock id 'self'": "the shared port itself; 23.9 waits for a command then",
}
# And where not: 25.14.1 wants the command whole in the first frame.
MORE_LENIENT = {"a frame per byte"}


def our_verdict(stream: bytes) -> str:
    try:
        message = MessageDecoder().feed(stream)[0]
        check_sock_id(decode_connect(message).sock_id)
    except (CedarError, SettingError):
        return "refused"
    return "passed"


def test_verdicts_are_condor_shared_ports_but_for_the_reasons_above() -> None:
    stricter, more_lenient = set(), set()
    for param in vectors("verdict"):
        (vector,) = param.values
        ours = our_verdict(bytes.fromhex(vector["hex"]))
        if ours != vector["result"]:
            (stricter if ours == "refused" else more_lenient).add(vector["case"])
    assert stricter == set(STRICTER)
    assert more_lenient == MORE_LENIENT


@pytest.mark.parametrize(
    ("message", "values"),
    [
        (b"", (0, 8)),
        (int64(76), (76, "SHARED_PORT_CONNECT")),
        (int64(-1) + payload()[8:], (-1, "SHARED_PORT_CONNECT")),
        (payload()[:8], ("NUL",)),
        (payload()[:12], ("NUL",)),
        (payload()[:16], ("NUL",)),
        (payload()[:-9], (7, 8)),
        (payload()[:-1], (7, 8)),
        (payload() + b"\0", (1,)),
        (payload(sock_id=b"i" * 1024), (1025, 1024)),
        (payload(name=b"n" * 1024), (1025, 1024)),
        (payload(timeout=2**31), (2147483648, 32)),
        (payload(timeout=-(2**31) - 1), (-2147483649, 32)),
        (payload(more=-1), ("more_args", -1)),
        (payload(more=101, extra=b"\0" * 101), ("more_args", 101)),
        (payload(more=2**63 - 1), ("more_args", 2**63 - 1)),
        (payload(more=1), ("NUL",)),
        (payload(more=1, extra=b"e" * 512 + b"\0"), (513, 512)),
        (payload(more=1, extra=b"\0\0"), (1,)),
        (payload(sock_id=b"\xe9"), ("UTF-8",)),
    ],
)
def test_broken_connect_message_is_refused(message: bytes, values: tuple[object, ...]) -> None:
    with pytest.raises(CedarError, match=naming(*values)):
        decode_connect(message)


def test_strings_of_1023_characters_fit_the_daemons_buffers() -> None:
    got = decode_connect(payload(b"i" * 1023, b"n" * 1023))
    assert (got.sock_id, got.client_name) == ("i" * 1023, "n" * 1023)


def test_further_arguments_are_ignored_as_the_daemon_ignores_them() -> None:
    got = decode_connect(payload(more=2, extra=b"e" * 511 + b"\0" + b"\xad"))
    assert got == Connect("vine_42", "TOOL", -1, 2)


@pytest.mark.parametrize("name", ["", "n" * 1023, "SCHEDD <192.0.2.7:9618?sock=a>"])
def test_client_name_that_the_daemon_reads_is_sent(name: str) -> None:
    assert decode_connect(encode_connect("vine_42", name)[5:]).client_name == name


@pytest.mark.parametrize("name", ["n" * 1024, "a\0", "a\nforged log line", "\x1b[2J", "é"])
def test_client_name_that_would_harm_the_daemons_log_is_not_sent(name: str) -> None:
    with pytest.raises(CedarError, match=naming(1023, "ASCII")):
        encode_connect("vine_42", name)


@pytest.mark.parametrize("timeout", [-2, 2**31])
def test_timeout_outside_the_daemons_range_is_not_sent(timeout: int) -> None:
    with pytest.raises(CedarError, match=naming(timeout, -1, 2147483647)):
        encode_connect("vine_42", "", timeout=timeout)


@pytest.mark.parametrize("timeout", [-1, 0, 2**31 - 1])
def test_timeout_arrives(timeout: int) -> None:
    assert decode_connect(encode_connect("a", "", timeout=timeout)[5:]).timeout == timeout


def test_bad_sock_id_is_not_sent() -> None:
    with pytest.raises(SettingError, match=naming(42, 41)):
        encode_connect("i" * 42, "")


# --- sock ids -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sock_id",
    ["a", "vine_42", "Z.9-_", "_", "0", "i" * MAX_SOCK_ID, "schedd_4_5277", "selfish"],
)
def test_sock_id_that_can_be_served_is_returned(sock_id: str) -> None:
    assert check_sock_id(sock_id) == sock_id


@pytest.mark.parametrize(
    ("sock_id", "values"),
    [
        ("", (1, 41)),
        ("i" * 42, (42, "condor_shared_port", 41)),
        pytest.param("i" * 100_000, (100000, 41), id="long"),
        (".", ("'.'", "'_'")),
        ("..", ("'..'", "'_'")),
        (".vine", ("'.vine'", "'_'")),
        ("-rf", ("'-rf'", "'_'")),
        ("self", ("'self'", "condor_shared_port")),
        ("a/b", ("'a/b'", "'-'")),
        ("../../tmp/x", ("'../../tmp/x'", "'-'")),
        ("a b", ("'a b'", "'-'")),
        ("a\n", (r"'a\n'", "'-'")),
        ("a\0", (r"'a\x00'", "'-'")),
        ("vin\u00e9", (r"'vin\xe9'", "'-'")),
        ("\u0661", (r"'\u0661'", "'-'")),  # a digit, but not one of ASCII
    ],
)
def test_sock_id_that_cannot_be_served_is_refused(
    sock_id: str, values: tuple[object, ...]
) -> None:
    with pytest.raises(SettingError, match=naming(*values)) as caught:
        check_sock_id(sock_id)
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()


# --- PASS_SOCK ------------------------------------------------------------------------


@pytest.mark.parametrize("vector", vectors("handoff"))
def test_pass_sock_is_what_condor_shared_port_sends(vector: dict[str, Any]) -> None:
    message = bytes.fromhex(vector["pass_sock"])
    assert message == PASS_SOCK
    decode_pass_sock(message)
    # Then one byte with one descriptor, and nothing more.
    assert (vector["descriptor_byte"], vector["descriptors"], vector["after"]) == ("00", 1, "")


def test_pass_sock_is_13_bytes() -> None:
    assert len(PASS_SOCK) == PASS_SOCK_SIZE == 13
    assert PASS_SOCK.hex(" ", 1) == "01 00 00 00 08 00 00 00 00 00 00 00 4c"


def test_pass_sock_is_the_same_however_its_bytes_arrive() -> None:
    for step in (1, 5, 13):
        decoder, got = MessageDecoder(), []
        for start in range(0, len(PASS_SOCK), step):
            got += decoder.feed(PASS_SOCK[start : start + step])
        assert got == [int64(76)]


def test_anything_else_is_not_pass_sock() -> None:
    flipped = [
        PASS_SOCK[:i] + bytes([PASS_SOCK[i] ^ 1]) + PASS_SOCK[i + 1 :] for i in range(13)
    ]
    long = b"x" * 100_000
    for message in (b"", PASS_SOCK[:-1], PASS_SOCK[1:], PASS_SOCK + b"\0", long, *flipped):
        with pytest.raises(
            CedarError, match=naming(13, "SHARED_PORT_PASS_SOCK", len(message))
        ) as caught:
            decode_pass_sock(message)
        assert len(str(caught.value)) < 250
