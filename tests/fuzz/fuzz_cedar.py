"""A stream of CEDAR frames: whole, in pieces, and its messages read as values.

Permitted: CedarError.
"""

from __future__ import annotations

from vine_sharedport.errors import CedarError
from vine_sharedport.wire.cedar import MessageDecoder, Reader

LIMIT = 4096


def one_input(data: bytes) -> None:
    """The first byte is the size of the pieces."""
    size, stream = data[0] + 1 if data else 1, data[1:]
    whole = decode([stream])
    assert decode([stream[at : at + size] for at in range(0, len(stream), size)]) == whole
    for message in whole[0]:
        assert 1 <= len(message) <= LIMIT
        read(message)


def decode(pieces: list[bytes]) -> tuple[list[bytes], str | None]:
    """Return the messages and the error, if there is one."""
    decoder, messages = MessageDecoder(max_message=LIMIT), []
    try:
        for piece in [*pieces, b""]:
            messages += decoder.feed(piece)
            assert decoder.pending <= LIMIT + 5
    except CedarError as error:
        assert decoder.failed
        return messages, str(error)
    assert not decoder.failed
    return messages, None


def read(message: bytes) -> None:
    """Read integers and strings in turns, as the first byte of each tells."""
    reader = Reader(message)
    try:
        for byte in message:
            assert isinstance(reader.int() if byte & 1 else reader.string(64), (int, str))
        reader.done()
    except CedarError:
        pass
