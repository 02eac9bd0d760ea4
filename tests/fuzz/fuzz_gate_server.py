"""What clients send at the gate.

Permitted: GateError.
"""

from __future__ import annotations

from vine_sharedport.errors import GateError
from vine_sharedport.wire.gate import NONCE_SIZE, GateClient, GateServer, GateState

SECRET, SOCK_ID, NONCE = bytes(range(32)), "vine_42", bytes(NONCE_SIZE)


def one_input(data: bytes) -> None:
    """The first byte is the size of the pieces, which may be more than is wanted."""
    size, stream = data[0] + 1 if data else 1, data[1:]
    server = GateServer(SECRET, SOCK_ID, NONCE)
    client = GateClient(SECRET, SOCK_ID, stream[:NONCE_SIZE].ljust(NONCE_SIZE, b"\0"))
    right = client.feed(server.greeting())
    taken, proof = b"", b""
    for at in range(0, len(stream), size):
        piece, wanted = stream[at : at + size], server.wanted
        try:
            proof += server.feed(piece)
        except GateError:
            assert len(piece) > wanted or server.state is GateState.REFUSED
            break
        taken += piece
    if server.state is GateState.OPEN:
        assert taken == right
        client.feed(proof)
        assert client.state is GateState.OPEN
    else:
        assert not proof
