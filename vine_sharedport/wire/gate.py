"""The gate: both sides prove that they hold the manager's secret.

condor_shared_port authenticates nobody and the sock id is public, so a connection
reaches the manager only after this exchange, in which the secret itself never travels::

    server -> client   "VSP1", server nonce                               20 bytes
    client -> server   client nonce, HMAC("client", sock id, nonces)      48 bytes
    server -> client   HMAC("server", sock id, nonces)                    32 bytes

HMAC is HMAC-SHA256 under the secret, over the label, the sock id and both nonces, the
server's first, one after the other. The two labels have one length and the nonces stand
last, so no two exchanges give the same text. Each side's proof covers the other's fresh
nonce: an old answer is worth nothing (replay), and an answer sent back has the wrong
label (reflection). Nothing after the gate is encrypted or signed.

Both sides are state machines without I/O. What a peer sends after its part of the gate
is not theirs: ``wanted`` tells how many bytes to read, and never one more.
"""

from __future__ import annotations

import enum
import hashlib
import hmac

from vine_sharedport.errors import GateError, Verdict

__all__ = [
    "GREETING_SIZE",
    "MAGIC",
    "NONCE_SIZE",
    "SECRET_SIZE",
    "GateClient",
    "GateServer",
    "GateState",
]

MAGIC = b"VSP1"
NONCE_SIZE = 16
SECRET_SIZE = 32
MAC_SIZE = hashlib.sha256().digest_size
GREETING_SIZE = len(MAGIC) + NONCE_SIZE
ANSWER_SIZE = NONCE_SIZE + MAC_SIZE


class GateState(enum.Enum):
    """How far one side is."""

    WAITING = "waiting for the other side"
    OPEN = "the other side has proven itself"
    REFUSED = "the other side has not"


class _Side:
    """What both sides share: bytes gathered up to ``wanted``, and the proofs."""

    def __init__(self, secret: bytes, sock_id: str, nonce: bytes) -> None:
        if len(secret) != SECRET_SIZE:
            raise ValueError(f"a secret has {SECRET_SIZE} bytes, this one {len(secret)}")
        if len(nonce) != NONCE_SIZE:
            raise ValueError(f"a nonce has {NONCE_SIZE} bytes, this one {len(nonce)}")
        self.state = GateState.WAITING
        self._secret = secret
        self._sock_id = sock_id.encode("ascii")
        self._nonce = nonce
        self._buffer = b""
        self._needed = 0

    @property
    def wanted(self) -> int:
        """Bytes to read next at most; 0 when the gate is open or refused."""
        return self._needed - len(self._buffer) if self.state is GateState.WAITING else 0

    def _gather(self, data: bytes) -> bytes | None:
        """Return the message when it is whole, None while bytes are missing."""
        if self.state is not GateState.WAITING:
            raise GateError("the gate's exchange is over; nothing more may be fed to it")
        if len(data) > self.wanted:
            raise GateError(f"{len(data)} bytes were read where {self.wanted} were wanted")
        self._buffer += data
        if len(self._buffer) < self._needed:
            return None
        message, self._buffer = self._buffer, b""
        return message

    def _proof(self, label: bytes, nonces: bytes) -> bytes:
        return hmac.new(self._secret, label + self._sock_id + nonces, hashlib.sha256).digest()

    def _refuse(self, reason: str, verdict: Verdict) -> GateError:
        self.state = GateState.REFUSED
        return GateError(reason, verdict)


class GateServer(_Side):
    """The manager's side.

    Args:
        secret: 32 bytes.
        sock_id: Under which the client came.
        nonce: 16 fresh random bytes; never the same twice.
    """

    def __init__(self, secret: bytes, sock_id: str, nonce: bytes) -> None:
        super().__init__(secret, sock_id, nonce)
        self._needed = ANSWER_SIZE

    def greeting(self) -> bytes:
        """Return what to send first."""
        return MAGIC + self._nonce

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the client, at most ``wanted``.

        Returns:
            What to send, the server's proof, once the client has proven itself; before,
            nothing.

        Raises:
            GateError: The client does not hold the secret; drop it without a word.
        """
        answer = self._gather(data)
        if answer is None:
            return b""
        nonces = self._nonce + answer[:NONCE_SIZE]
        if not hmac.compare_digest(answer[NONCE_SIZE:], self._proof(b"client", nonces)):
            raise self._refuse(
                "the client does not hold the manager's secret", Verdict.WRONG_SECRET
            )
        self.state = GateState.OPEN
        return self._proof(b"server", nonces)


class GateClient(_Side):
    """The worker's side; its arguments are the server's.

    Attributes:
        greeted: Whether a greeting has come: somebody serves under the sock id.
    """

    def __init__(self, secret: bytes, sock_id: str, nonce: bytes) -> None:
        super().__init__(secret, sock_id, nonce)
        self.greeted = False
        self._needed = GREETING_SIZE
        self._nonces = b""

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the server, at most ``wanted``.

        Returns:
            What to send: the client's answer after the greeting, else nothing.

        Raises:
            GateError: The server speaks another protocol or does not hold the secret.
        """
        message = self._gather(data)
        if message is None:
            return b""
        if not self.greeted:
            if message[: len(MAGIC)] != MAGIC:
                raise self._refuse(
                    f"expected the gate's greeting, got {message[:8]!r}: this manager has no "
                    "gate, or another version of it",
                    Verdict.NOT_A_GATE,
                )
            self.greeted = True
            self._needed = MAC_SIZE
            self._nonces = message[len(MAGIC) :] + self._nonce
            return self._nonce + self._proof(b"client", self._nonces)
        if not hmac.compare_digest(message, self._proof(b"server", self._nonces)):
            raise self._refuse(
                "the server does not hold the manager's secret", Verdict.UNPROVEN_SERVER
            )
        self.state = GateState.OPEN
        return b""
