"""The two messages of HTCondor's shared port: CONNECT and PASS_SOCK.

A client opens TCP to the shared port and says with one CONNECT message whom it
wants; there is no reply. The shared port connects to the Unix socket of that
name, sends PASS_SOCK there, and then one byte that carries the descriptor of
the client's connection.

Source: CEDAR 3.3; ``sendSharedPortID`` and ``HandleHeader`` in
``src/condor_io/shared_port_client.cpp``; ``HandleConnectRequest`` in
``src/condor_io/shared_port_server.cpp``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vine_sharedport.errors import CedarError, SettingError
from vine_sharedport.wire.cedar import Reader, encode_int, encode_message, encode_string

__all__ = [
    "MAX_SOCK_ID",
    "PASS_SOCK",
    "PASS_SOCK_SIZE",
    "SHARED_PORT_CONNECT",
    "SHARED_PORT_PASS_SOCK",
    "Connect",
    "check_sock_id",
    "decode_connect",
    "decode_pass_sock",
    "encode_connect",
]

# src/condor_includes/condor_commands.h: SHARED_PORT_BASE is 75.
SHARED_PORT_CONNECT = 75
SHARED_PORT_PASS_SOCK = 76

# The daemon first tries the abstract socket "<cookie>/<id>" with a cookie of 64
# characters, and strncpy() leaves 106 of sun_path for it: 106 - 64 - 1 = 41. A
# longer id is refused there even when the file's path would be short.
MAX_SOCK_ID = 41

# char shared_port_id[1024], client_name[1024], junk[512] and the bound of
# more_args in HandleConnectRequest(); each size includes the NUL.
_STRING_BUFFER = 1024
_EXTRA_BUFFER = 512
_MAX_EXTRA = 100
_MAX_INT32 = 2**31 - 1

_SOCK_ID = re.compile(r"[A-Za-z0-9._-]+\Z")
_PRINTABLE = re.compile(r"[ -~]*\Z")

PASS_SOCK = encode_message(encode_int(SHARED_PORT_PASS_SOCK))
PASS_SOCK_SIZE = len(PASS_SOCK)


def check_sock_id(text: str) -> str:
    """Return the sock id, or say what keeps it from being one.

    Stricter than ``SharedPortIdIsValid`` where an id that HTCondor allows could
    not be served: it is also the name of a file in a directory that many share.

    Returns:
        ``text`` itself.

    Raises:
        SettingError: It is empty, longer than ``MAX_SOCK_ID``, has a character
            other than letters, digits, ``.``, ``_`` and ``-``, starts with ``.``
            or ``-``, or is ``self``, the name that the shared port answers itself.
    """
    if not text:
        raise SettingError(f"sock id is empty; choose 1 to {MAX_SOCK_ID} characters")
    if len(text) > MAX_SOCK_ID:
        raise SettingError(
            f"sock id {_excerpt(text)} has {len(text)} characters, the limit of "
            f"condor_shared_port is {MAX_SOCK_ID}; choose a shorter one"
        )
    if not _SOCK_ID.match(text):
        raise SettingError(
            f"sock id {_excerpt(text)} has a character that condor_shared_port refuses; "
            "use letters, digits, '.', '_' and '-'"
        )
    if text[0] in ".-":
        raise SettingError(
            f"sock id {_excerpt(text)} is no safe file name; start it with a letter, "
            "a digit or '_'"
        )
    if text == "self":
        raise SettingError(
            "sock id 'self' means condor_shared_port itself, so nobody else can be "
            "reached by it; choose another"
        )
    return text


@dataclass(frozen=True)
class Connect:
    """What a CONNECT message says.

    Attributes:
        sock_id: Whom the client wants, as sent; not checked.
        client_name: How the client calls itself, for logs only; not to be trusted.
        timeout: Seconds that the client will wait, from the sending; -1 for ever.
            The wire field is called deadline, but is a length of time.
        more_args: How many further arguments came; their text is not kept.
    """

    sock_id: str
    client_name: str
    timeout: int = -1
    more_args: int = 0


def encode_connect(sock_id: str, client_name: str, *, timeout: int = -1) -> bytes:
    """Return the whole CONNECT message, header included.

    Send it in ONE write and the client's own bytes after it: daemons before
    24.12.16 may drop a connection whose first bytes arrive in pieces
    (HTCONDOR-3420).

    Args:
        sock_id: Whom to reach.
        client_name: Who asks, for the daemon's log: printable ASCII, at most
            1023 characters.
        timeout: Whole seconds that the daemon has for the hand-off; -1: no limit.

    Raises:
        SettingError: The sock id is none; see ``check_sock_id``.
        CedarError: The name or the timeout is outside what the daemon reads.
    """
    check_sock_id(sock_id)
    if not _PRINTABLE.match(client_name) or len(client_name) >= _STRING_BUFFER:
        raise CedarError(
            f"client name {_excerpt(client_name)} cannot be sent; use at most "
            f"{_STRING_BUFFER - 1} characters of printable ASCII"
        )
    if not -1 <= timeout <= _MAX_INT32:
        raise CedarError(f"timeout {timeout} s cannot be sent; use -1 to {_MAX_INT32}")
    return encode_message(
        encode_int(SHARED_PORT_CONNECT)
        + encode_string(sock_id)
        + encode_string(client_name)
        + encode_int(timeout)
        + encode_int(0)  # more_args
    )


def decode_connect(payload: bytes) -> Connect:
    """Return what the payload of a CONNECT message says, read as the daemon reads it.

    Like the daemon, it takes up to 100 further arguments and ignores them, and
    does not judge the sock id: ``check_sock_id`` does. Unlike the daemon, it
    refuses integers beyond 32 bits, of which the daemon keeps the low half.

    Raises:
        CedarError: The message is another one, ends early, goes on after its last
            field, or has a string that does not fit the daemon's buffer.
    """
    reader = Reader(payload)
    command = reader.int()
    if command != SHARED_PORT_CONNECT:
        raise CedarError(
            f"message is command {command}, not SHARED_PORT_CONNECT ({SHARED_PORT_CONNECT})"
        )
    sock_id = reader.string(_STRING_BUFFER)
    client_name = reader.string(_STRING_BUFFER)
    timeout = reader.int()
    if not -_MAX_INT32 - 1 <= timeout <= _MAX_INT32:
        raise CedarError(f"deadline field is {timeout}; the daemon's has 32 bits")
    more_args = reader.int()
    if not 0 <= more_args <= _MAX_EXTRA:
        raise CedarError(f"more_args is {more_args}; the daemon allows 0 to {_MAX_EXTRA}")
    for _ in range(more_args):
        reader.string(_EXTRA_BUFFER)
    reader.done()
    return Connect(sock_id, client_name, timeout, more_args)


def decode_pass_sock(message: bytes) -> None:
    """Check that the message, header included, is PASS_SOCK.

    Args:
        message: The first ``PASS_SOCK_SIZE`` bytes of a connection from the
            shared port, no more: a read that runs on loses the descriptor.

    Raises:
        CedarError: It is anything else.
    """
    if message != PASS_SOCK:
        raise CedarError(
            f"expected the {PASS_SOCK_SIZE} bytes of SHARED_PORT_PASS_SOCK, got "
            f"{len(message)}: {message[: PASS_SOCK_SIZE + 3].hex()}; the peer is not "
            "condor_shared_port; drop the connection"
        )


def _excerpt(text: str) -> str:
    """Quote a value for a message: ASCII, cut to a length that fits one."""
    return ascii(text if len(text) <= 60 else f"{text[:57]}...")
