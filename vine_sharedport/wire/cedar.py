"""CEDAR messages as bytes: HTCondor's framing and its integers and strings.

A message is one or more frames; a frame is a header of five bytes and a
payload::

    byte 0      end-of-message flag: 0 more frames follow, 1 the last one
    bytes 1-4   payload length, unsigned, big-endian, 1 .. 1,048,576
    then        the payload

Only plaintext streams are spoken here. The shared port's own messages are sent
before any security handshake, so that is all they ever are.

Source: CEDAR 1.2 and 1.3 (``docs/dev/cedar-rfc/01-message-framing.md``);
``ReliSock::RcvMsg::rcv_packet`` in ``src/condor_io/reli_sock.cpp``; ``get`` and
``put`` in ``src/condor_io/stream.cpp``.
"""

from __future__ import annotations

import builtins
import struct

from vine_sharedport.errors import CedarError

__all__ = [
    "DEFAULT_MAX_MESSAGE",
    "HEADER_SIZE",
    "MAX_FRAME_PAYLOAD",
    "NULL_STRING",
    "MessageDecoder",
    "Reader",
    "encode_int",
    "encode_message",
    "encode_string",
]

# NORMAL_HEADER_SIZE in reli_sock.cpp. The longer header of the legacy MAC mode
# follows a negotiated key, which no stream of ours ever has.
HEADER_SIZE = 5

# max_packet_size in rcv_packet(): a frame above it makes HTCondor drop the stream.
MAX_FRAME_PAYLOAD = 1024 * 1024

# HTCondor bounds frames, not messages: frames of a message may follow without
# end. Ours is above the largest CONNECT that condor_shared_port reads to the end
# (8 + 1024 + 1024 + 8 + 8 + 100 * 512 = 53,272 bytes).
DEFAULT_MAX_MESSAGE = 64 * 1024

# An absent string. CEDAR 1.3.4 prints 0xFF; stream.cpp has '\255', which C reads
# as octal. The daemons run the code, so the byte is 0xAD. No UTF-8 text starts
# with it.
NULL_STRING = b"\xad"

_HEADER = struct.Struct(">BI")
_INT = struct.Struct(">q")
_MORE_FRAMES = 0
_LAST_FRAME = 1


def encode_message(payload: bytes) -> bytes:
    """Return one whole message: a single frame that carries ``payload``.

    Args:
        payload: 1 to ``MAX_FRAME_PAYLOAD`` bytes.

    Raises:
        CedarError: HTCondor would refuse a frame of this size. A message without
            payload does not exist: ``rcv_packet`` calls it "improperly sized".
    """
    if not 1 <= len(payload) <= MAX_FRAME_PAYLOAD:
        raise CedarError(
            f"a frame of {len(payload)} bytes cannot be sent; HTCondor reads 1 to "
            f"{MAX_FRAME_PAYLOAD}; send fewer bytes per message"
        )
    return _HEADER.pack(_LAST_FRAME, len(payload)) + payload


def encode_int(value: int) -> bytes:
    """Return an integer as every CEDAR integer is sent: eight bytes, big-endian.

    Raises:
        CedarError: The value does not fit 64 bits with a sign.

    Source: CEDAR 1.3.1; ``Stream::put(long long)``.
    """
    try:
        return _INT.pack(value)
    except struct.error as error:
        raise CedarError(
            f"integer of {value.bit_length()} bits cannot be sent; the wire carries 64 with "
            "the sign"
        ) from error


def encode_string(text: str) -> bytes:
    """Return a string as UTF-8 with the NUL byte that ends it.

    Raises:
        CedarError: The text holds a NUL, which would end it early, or a lone
            surrogate, which has no UTF-8.

    Source: CEDAR 1.3.4, plaintext channel; ``Stream::put(char const *)``.
    """
    if "\0" in text:
        raise CedarError("a string with a NUL inside cannot be sent; remove the NUL")
    try:
        return text.encode("utf-8") + b"\0"
    except UnicodeEncodeError as error:
        raise CedarError(
            f"string cannot be sent as UTF-8 ({error.reason} at {error.start}); send text only"
        ) from error


class MessageDecoder:
    """Incremental decoder: bytes in as they arrive, whole messages out.

    Memory is bounded: a header that announces too much is refused before any
    byte of its payload is kept. Nothing depends on how the bytes are cut: the
    messages that were complete before a broken header are returned, and the
    error comes with the next ``feed``, also when both arrived together.

    Args:
        max_message: Most payload bytes of one message, all its frames together.

    Source: ``rcv_packet``, which accepts flags 0 to 10 and takes all but 0 as the
    last frame. No HTCondor sends 2 to 10, so here they are refused as bytes of
    something else.
    """

    def __init__(self, *, max_message: int = DEFAULT_MAX_MESSAGE) -> None:
        """Wait for the first header."""
        self._max_message = max_message
        self._header = bytearray()
        self._message = bytearray()
        self._payload_left = 0  # of the frame being read; 0: a header is due
        self._last_frame = False
        self._error: str | None = None

    @property
    def pending(self) -> int:
        """Bytes buffered that belong to no complete message yet."""
        return len(self._header) + len(self._message)

    @property
    def failed(self) -> bool:
        """Whether the stream is lost, so that the next ``feed`` raises."""
        return self._error is not None

    def feed(self, data: bytes) -> list[bytes]:
        """Take the bytes that arrived and return the messages they complete.

        Args:
            data: Any number of bytes, none included.

        Returns:
            The payload of each complete message, in order; empty while bytes
            are missing.

        Raises:
            CedarError: An earlier header, or the first one of ``data``, is no
                header of ours. The decoder raises the same from now on.
        """
        messages: list[bytes] = []
        rest = memoryview(data)
        while rest and self._error is None:
            take = self._feed_payload if self._payload_left else self._feed_header
            rest = rest[take(rest, messages) :]
        if self._error is not None and not messages:
            raise CedarError(self._error)
        return messages

    def _feed_header(self, data: memoryview, messages: list[bytes]) -> int:
        """Take header bytes; return how many."""
        taken = min(HEADER_SIZE - len(self._header), len(data))
        self._header += data[:taken]
        # The flag is judged at once: a port scanner's "GET /" need not be waited for.
        if self._header[0] not in (_MORE_FRAMES, _LAST_FRAME):
            self._fail(
                f"end-of-message flag is {self._header[0]:#04x}, not 0x00 or 0x01; "
                "the peer does not speak plain CEDAR"
            )
        elif len(self._header) == HEADER_SIZE:
            flag, length = _HEADER.unpack(self._header)
            self._header.clear()
            self._start_frame(flag, length)
        return taken

    def _start_frame(self, flag: int, length: int) -> None:
        """Judge a complete header."""
        total = len(self._message) + length
        if not 1 <= length <= MAX_FRAME_PAYLOAD:
            self._fail(f"frame of {length} bytes; HTCondor allows 1 to {MAX_FRAME_PAYLOAD}")
        elif total > self._max_message:
            self._fail(f"message of {total} bytes or more; the limit is {self._max_message}")
        else:
            self._last_frame = flag == _LAST_FRAME
            self._payload_left = length

    def _feed_payload(self, data: memoryview, messages: list[bytes]) -> int:
        """Take payload bytes; return how many."""
        taken = min(self._payload_left, len(data))
        self._message += data[:taken]
        self._payload_left -= taken
        if not self._payload_left and self._last_frame:
            messages.append(bytes(self._message))
            self._message = bytearray()
        return taken

    def _fail(self, error: str) -> None:
        """Remember the error and let go of what is buffered."""
        self._error = f"{error}; drop the connection"
        self._header.clear()
        self._message = bytearray()


class Reader:
    """Reader of the values in one message's payload, in order.

    Args:
        payload: What ``MessageDecoder`` returned: the whole message.
    """

    def __init__(self, payload: bytes) -> None:
        """Start before the first value."""
        self._payload = payload
        self._at = 0

    def int(self) -> builtins.int:
        """Return the next integer.

        All 64 bits: ``Stream::get(int &)`` would silently keep the low 32.

        Raises:
            CedarError: Fewer than eight bytes are left.
        """
        left = len(self._payload) - self._at
        if left < _INT.size:
            raise CedarError(f"message ends {left} bytes into an integer of {_INT.size}")
        (value,) = _INT.unpack_from(self._payload, self._at)
        self._at += _INT.size
        return builtins.int(value)

    def string(self, size: builtins.int = DEFAULT_MAX_MESSAGE) -> str:
        """Return the next string; an absent one (``NULL_STRING``) as ``""``.

        Args:
            size: Room for the string, its NUL included, in bytes; the second
                argument of ``Stream::get(char *, int)``.

        Raises:
            CedarError: No NUL follows, the string does not fit, or it is not
                UTF-8. HTCondor takes any byte; its own programs send ASCII.
        """
        if self._payload[self._at : self._at + 1] == NULL_STRING:
            self._at += 1
            return ""
        end = self._payload.find(b"\0", self._at)
        if end < 0:
            raise CedarError("message ends inside a string; the NUL that ends it is missing")
        if end + 1 - self._at > size:
            raise CedarError(
                f"string of {end + 1 - self._at} bytes with its NUL; the limit is {size}"
            )
        try:
            text = self._payload[self._at : end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise CedarError(f"string is not UTF-8: {error.reason} at {error.start}") from error
        self._at = end + 1
        return text

    def done(self) -> None:
        """Check that every byte of the message was read.

        Raises:
            CedarError: Bytes are left over; ``end_of_message`` fails then too.
        """
        left = len(self._payload) - self._at
        if left:
            raise CedarError(f"message goes on for {left} bytes after its last field")
