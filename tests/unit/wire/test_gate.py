"""The gate's two state machines, byte by byte, and what attackers might send them."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.values import naming
from vine_sharedport.errors import GateError, Verdict
from vine_sharedport.wire.gate import GateClient, GateServer, GateState

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "gate.json").read_text())[
    "vectors"
]
SECRET, OTHER = bytes(range(32)), bytes(32)


def _server(
    secret: bytes = SECRET, nonce: bytes = b"s" * 16, sock_id: str = "vine"
) -> GateServer:
    return GateServer(secret, sock_id, nonce)


def _client(
    secret: bytes = SECRET, nonce: bytes = b"c" * 16, sock_id: str = "vine"
) -> GateClient:
    return GateClient(secret, sock_id, nonce)


def _feed(side: Any, data: bytes, step: int) -> bytes:
    """Feed in pieces of at most ``step`` and at most ``wanted`` bytes; return what it says."""
    said = b""
    while data:
        size = min(step, side.wanted)
        said += side.feed(data[:size])
        data = data[size:]
    return said


@pytest.mark.parametrize("step", [1, 5, 100])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["sock_id"][:8])
def test_both_sides_say_the_known_bytes(vector: dict[str, str], step: int) -> None:
    secret = bytes.fromhex(vector["secret"])
    server = _server(secret, bytes.fromhex(vector["server_nonce"]), vector["sock_id"])
    client = _client(secret, bytes.fromhex(vector["client_nonce"]), vector["sock_id"])
    assert server.greeting().hex() == vector["greeting"]
    answer = _feed(client, server.greeting(), step)
    assert answer.hex() == vector["answer"]
    proof = _feed(server, answer, step)
    assert proof.hex() == vector["proof"]
    assert _feed(client, proof, step) == b""
    assert server.state is client.state is GateState.OPEN
    assert server.wanted == client.wanted == 0


def test_neither_side_reads_a_byte_that_is_not_the_gates() -> None:
    server, client = _server(), _client()
    assert (server.wanted, client.wanted) == (48, 20)
    with pytest.raises(GateError, match=naming(21, 20)):
        client.feed(server.greeting() + b"w")
    with pytest.raises(GateError, match=naming(49, 48)):
        server.feed(bytes(49))


def test_a_client_with_another_secret_is_refused() -> None:
    server = _server()
    with pytest.raises(GateError) as caught:
        server.feed(_client(OTHER).feed(server.greeting()))
    assert caught.value.verdict is Verdict.WRONG_SECRET
    assert server.state is GateState.REFUSED
    with pytest.raises(GateError):
        server.feed(b"")


def test_a_server_with_another_secret_is_refused() -> None:
    client = _client()
    client.feed(_server(OTHER).greeting())
    with pytest.raises(GateError) as caught:
        client.feed(bytes(32))
    assert caught.value.verdict is Verdict.UNPROVEN_SERVER
    assert client.state is GateState.REFUSED


def test_a_replayed_answer_is_refused_as_the_servers_nonce_is_new() -> None:
    first = _server(nonce=b"1" * 16)
    answer = _client().feed(first.greeting())
    first.feed(answer)
    with pytest.raises(GateError) as caught:
        _server(nonce=b"2" * 16).feed(answer)
    assert caught.value.verdict is Verdict.WRONG_SECRET


def test_the_servers_own_proof_sent_back_is_refused() -> None:
    """Reflection: get a proof from one exchange and offer it in another as a client's."""
    server = _server(nonce=b"n" * 16)
    proof = server.feed(_client(nonce=b"n" * 16).feed(server.greeting()))
    with pytest.raises(GateError) as caught:
        _server(nonce=b"n" * 16).feed(b"n" * 16 + proof)
    assert caught.value.verdict is Verdict.WRONG_SECRET


def test_a_clients_answer_sent_back_as_the_servers_proof_is_refused() -> None:
    client = _client(nonce=b"n" * 16)
    answer = client.feed(_server(nonce=b"n" * 16).greeting())
    with pytest.raises(GateError) as caught:
        client.feed(answer[16:])
    assert caught.value.verdict is Verdict.UNPROVEN_SERVER


def test_an_answer_for_another_sock_id_is_refused() -> None:
    server = _server(sock_id="vine_1")
    with pytest.raises(GateError) as caught:
        server.feed(_client(sock_id="vine_2").feed(server.greeting()))
    assert caught.value.verdict is Verdict.WRONG_SECRET


def test_a_peer_without_a_gate_is_named() -> None:
    with pytest.raises(GateError) as caught:
        _client().feed(b"taskvine protocol 12")
    assert caught.value.verdict is Verdict.NOT_A_GATE


@pytest.mark.parametrize("bit", range(0, 48 * 8, 7))
def test_any_changed_bit_of_the_answer_is_refused(bit: int) -> None:
    server = _server()
    answer = bytearray(_client().feed(server.greeting()))
    answer[bit // 8] ^= 1 << bit % 8
    with pytest.raises(GateError):
        server.feed(bytes(answer))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_secret_of_another_length_is_a_bug_of_the_caller(size: int) -> None:
    with pytest.raises(ValueError, match=naming(size)):
        _server(bytes(size))


@given(st.lists(st.binary(max_size=60)), st.booleans())
def test_hostile_bytes_raise_gate_error_or_nothing(
    pieces: list[bytes], as_server: bool
) -> None:
    side: Any = _server() if as_server else _client()
    with contextlib.suppress(GateError):
        for piece in pieces:
            side.feed(piece)
    assert side.state is not GateState.OPEN
