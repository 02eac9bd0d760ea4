"""What servers send at the gate.

Permitted: GateError.
"""

from __future__ import annotations

from vine_sharedport.errors import GateError
from vine_sharedport.wire.gate import (
    GREETING_SIZE,
    MAGIC,
    NONCE_SIZE,
    GateClient,
    GateServer,
    GateState,
)

SECRET, SOCK_ID, NONCE = bytes(range(32)), "vine_42", bytes(NONCE_SIZE)


def one_input(data: bytes) -> None:
    """The first byte is the size of the pieces, which may be more than is wanted."""
    size, stream = data[0] + 1 if data else 1, data[1:]
    client = GateClient(SECRET, SOCK_ID, NONCE)
    taken, answer = b"", b""
    for at in range(0, len(stream), size):
        piece, wanted = stream[at : at + size], client.wanted
        try:
            answer += client.feed(piece)
        except GateError:
            assert len(piece) > wanted or client.state is GateState.REFUSED
            break
        taken += piece
    assert client.greeted or not answer
    if client.greeted:
        assert taken.startswith(MAGIC)
        server = GateServer(SECRET, SOCK_ID, taken[len(MAGIC) : GREETING_SIZE])
        proof = server.feed(answer)
        assert (client.state is GateState.OPEN) is (taken[GREETING_SIZE:] == proof)
