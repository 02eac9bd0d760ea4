"""What a manager says of itself: its status, its workers, its tasks."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import socket
import ssl
import time
from typing import Any

from vine_sharedport.dialing import dial
from vine_sharedport.dialing.race import verdict_of
from vine_sharedport.errors import DialError, SharedPortError, Verdict, WrongSecretError
from vine_sharedport.manager_protocol import tls
from vine_sharedport.registry.reference import Reference
from vine_sharedport.secret_file import read_secret_file
from vine_sharedport.wire.gate import MAGIC

__all__ = [
    "MAX_ANSWER",
    "MAX_VALUES",
    "OTHER_SECRET",
    "ManagerUnreachable",
    "query_manager",
    "read_answer",
]

OTHER_SECRET = (
    "give --secret-file FILE, in Python secret_file=, with the file that "
    "manager.shared_port.secret_file names"
)
"""What to do about it."""

MAX_ANSWER = 64 << 20
"""Bytes of the longest answer that is read: some 50,000 workers."""

MAX_VALUES = 8_000_000
"""Values in an answer that are accepted: they take up to 30 times the room of their text."""

# vine_manager.c and work_queue.c, construct_status_message(): what each of them answers.
# They do not know each other's first word, and close the connection on it.
_QUERIES = {
    "manager": {"taskvine": "manager_status", "work_queue": "queue_status"},
    "workers": {"taskvine": "worker_status", "work_queue": "worker_status"},
    "tasks": {"taskvine": "task_status", "work_queue": "task_status"},
    "categories": {"taskvine": "wable_status", "work_queue": "wable_status"},
}

# link_auth.c: how a peer that wants a password begins, in a line of its own.
_PASSWORD_IDENT = b"auth password sha1"
_MAX_LINE = 1023
_CHALLENGE_SIZE = 32

# RFC 8446, 5.1: the record of an alert, major version 3; what a TLS server says to others.
_TLS_ALERT = b"\x15\x03"

# What jx_escape_string in jx_print.c writes and is no JSON: \' for an apostrophe, and a byte
# above 0x7f as a negative number, such as \uffffffc3. Each escape is taken as a whole, for a
# backslash before one may be escaped itself.
_ESCAPE = re.compile(rb"\\(?:uffffff([89a-f][0-9a-f])|.)", re.DOTALL)


# Of integers in JSON: more digits than any counter has, and no work for int().
_MAX_DIGITS = 100


class ManagerUnreachable(DialError):
    """The manager gave no answer that could be used; the message says where it failed."""


class _ClosedError(Exception):
    """The manager closed the connection before it had said anything."""


def query_manager(
    manager: Reference, what: str, *, timeout: float = 30.0
) -> list[dict[str, Any]]:
    """Ask the manager, and return what it answers.

    Every question is a connection of its own, as for the systems' status programs. The
    manager answers between two turns of its loop, in one go; while its program does not
    wait for tasks it does not answer at all, and neither is that a sign of its end.

    Args:
        manager: Which one. An address without a sock id is its own TCP port's.
        what: "manager" (one entry), "workers", "tasks" or "categories".
        timeout: Seconds for everything together. Names are looked up by the system, which
            has a limit of its own.

    Returns:
        One entry for each, in the manager's words. Which keys there are depends on the
        system and its version.

    Raises:
        ManagerUnreachable: No answer in time, or none that could be used: longer than
            ``MAX_ANSWER``, of more than ``MAX_VALUES`` values, or no JSON array of objects;
            or the manager wants TLS, a password or a secret, or another one.
    """
    if what not in _QUERIES:
        raise ValueError(f"what is {what!r}, wanted one of {', '.join(_QUERIES)}")
    deadline = time.monotonic() + timeout
    words = _QUERIES[what]
    queries = [words.get(manager.system or "taskvine", words["taskvine"])]
    queries += [word for word in words.values() if word not in queries]
    tried = []
    for query in queries:
        try:
            return _ask_once(manager, query, deadline)
        except _ClosedError:
            tried.append(query)
        except ManagerUnreachable:
            raise
        except WrongSecretError as error:
            raise ManagerUnreachable(
                f"the manager {manager} has another secret than the factory's file "
                f"{manager.secret_file}; {OTHER_SECRET}",
                error.verdict,
            ) from error
        except SharedPortError as error:  # a time-out on the way to it among them
            attempts = error.attempts if isinstance(error, DialError) else ()
            which = "" if attempts else f" {manager}"
            raise ManagerUnreachable(
                f"cannot query the manager{which}: {error}", verdict_of(error), attempts
            ) from error
        except (socket.timeout, TimeoutError) as error:
            raise ManagerUnreachable(
                f"the manager {manager} did not answer {query} within {timeout:g} s: its "
                "program is busy with something else than waiting for tasks, or it hangs",
                Verdict.TIMED_OUT,
            ) from error
        except OSError as error:
            raise ManagerUnreachable(
                f"cannot query the manager {manager} ({query}): {_reason_of(error)}",
                verdict_of(error),
            ) from error
    closed = "closed the connection without an answer"
    if manager.address.sock is not None and manager.secret_file is None:
        # Behind a gate somebody was there; without one the shared port closes as a manager
        # does, but before anything was said.
        try:
            dial.connect(manager.address, timeout=_left(deadline), check=True).close()
        except (SharedPortError, OSError) as error:
            if verdict_of(error) is Verdict.NOBODY_THERE:
                raise ManagerUnreachable(
                    f"nobody serves the sock id {manager.sock_id} (yet): does the manager's "
                    f"program run? The shared port {closed}",
                    Verdict.NOBODY_THERE,
                ) from None
    other = "refuses TLS, or wants another password" if manager.tls else "wants TLS: set ssl"
    raise ManagerUnreachable(
        f"the manager {manager} {closed} to {' and '.join(tried)}: it is ending, or {other}",
        Verdict.UNANSWERED,
    )


def _ask_once(manager: Reference, query: str, deadline: float) -> list[dict[str, Any]]:
    password = None if manager.password_file is None else _read_password(manager.password_file)
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(_connect(manager, deadline))
        if manager.tls:
            sock = stack.enter_context(_wrap(sock, manager, deadline))
        if password is not None:
            _authenticate(sock, manager, password, deadline)
        _send(sock, f"{query}\n".encode(), deadline)
        data = _receive_all(sock, manager, deadline)
    return read_answer(data, str(manager))


def _connect(manager: Reference, deadline: float) -> socket.socket:
    """Return a connection that has passed the gate, if there is one."""
    secret = None if manager.secret_file is None else read_secret_file(manager.secret_file)
    return dial.connect(
        manager.address,
        secret=secret,
        timeout=_left(deadline),
        client_name="vine_sharedport factory",
    )


def _wrap(sock: socket.socket, manager: Reference, deadline: float) -> ssl.SSLSocket:
    """Return the connection in TLS, which verifies nothing."""
    sock.settimeout(_left(deadline))
    try:
        return tls.wrap(sock, manager.tls_sni)
    except ValueError as error:  # no name that TLS could ask for
        raise ManagerUnreachable(
            f"cannot ask for {manager.tls_sni!r} in TLS: {error}; set tls_sni"
        ) from error
    except (socket.timeout, TimeoutError):
        raise
    except OSError as error:
        closed = isinstance(error, (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError))
        if closed and manager.address.sock is not None and manager.secret_file is None:
            raise _ClosedError from None  # no gate has told that a manager is there
        raise ManagerUnreachable(
            f"the manager {manager} answers no TLS ({_reason_of(error)}): is ssl set for a "
            "manager without it?"
        ) from error


def _read_password(path: str) -> bytes:
    """Return the password, up to the first NUL: link_auth.c handles it as a C string."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_LINE).split(b"\0")[0]
    except OSError as error:
        raise ManagerUnreachable(
            f"cannot read the password file {path}: {_reason_of(error)}"
        ) from error


def _authenticate(
    sock: socket.socket, manager: Reference, password: bytes, deadline: float
) -> None:
    """Prove that we know the password, and let the manager prove that it does.

    Each side names the procedure and sends a line of random letters; each answers with
    SHA-1 of the password, a blank and the other's line, and says whether it agrees.

    Source: ``link_auth.c``.
    """
    # Letters: the peer reads lines, and a C string.
    challenge = secrets.token_hex(_CHALLENGE_SIZE).encode()
    _send(sock, _PASSWORD_IDENT + b"\n" + challenge + b"\n", deadline)
    ident = _receive_line(sock, deadline)
    if ident != _PASSWORD_IDENT:
        raise ManagerUnreachable(
            f"the manager {manager} asks for no password, and a password file is set: "
            "unset password_file, or start the manager with it"
        )
    theirs = _receive_line(sock, deadline)
    if theirs is not None:
        _send(sock, _digest(password, theirs) + b"\n", deadline)
        proof = _receive_line(sock, deadline)
        agreed = hmac.compare_digest(proof or b"", _digest(password, challenge))
        _send(sock, b"ok\n" if agreed else b"failure\n", deadline)
        if _receive_line(sock, deadline) == b"ok" and agreed:
            return
    raise ManagerUnreachable(
        f"the manager {manager} has another password than the file {manager.password_file}: "
        "the files must be alike in every byte, a line break at the end included"
    )


def _digest(password: bytes, challenge: bytes) -> bytes:
    """Return the proof for a challenge, in hexadecimal."""
    return hashlib.sha1(password + b" " + challenge).hexdigest().encode()


def _receive_line(sock: socket.socket, deadline: float) -> bytes | None:
    """Return the next line; None at the stream's end, or when it is too long."""
    # Byte by byte: what follows the last line is not ours to take. They are few.
    line = bytearray()
    while len(line) <= _MAX_LINE:
        sock.settimeout(_left(deadline))
        try:
            byte = sock.recv(1)
        except ConnectionError:
            byte = b""
        if not byte:
            return None
        if byte == b"\n":
            return bytes(line)
        line += byte
    return None


def _receive_all(sock: socket.socket, manager: Reference, deadline: float) -> bytes:
    """Return all that comes until the manager closes the connection."""
    data = bytearray()
    while True:
        sock.settimeout(_left(deadline))
        try:
            part = sock.recv(1 << 18)
        except (ConnectionError, ssl.SSLError):
            if not data:
                raise _ClosedError from None
            part = b""  # the JSON tells whether anything is missing
        if not part:
            break
        data += part
        if manager.secret_file is None and data.startswith(MAGIC):
            # It has greeted later than dial.connect() waits for that.
            raise ManagerUnreachable(
                f"the manager {manager} asks for its secret, and the factory has none; "
                f"{OTHER_SECRET}"
            )
        if len(data) > MAX_ANSWER:
            raise ManagerUnreachable(
                f"the manager {manager} answers with more than {MAX_ANSWER >> 20} MiB; "
                "what is at this address?"
            )
    if not data:
        raise _ClosedError
    if data.startswith(_PASSWORD_IDENT):
        raise ManagerUnreachable(
            f"the manager {manager} asks for a password: set password_file to the file "
            "that it has"
        )
    if data.startswith(_TLS_ALERT):
        raise ManagerUnreachable(f"the manager {manager} speaks TLS: set ssl")
    return bytes(data)


def read_answer(data: bytes, manager: str) -> list[dict[str, Any]]:
    """Return the entries of an answer.

    Args:
        data: What came; bytes that are no UTF-8 are replaced.
        manager: Whose, for the message.

    Raises:
        ManagerUnreachable: It is no JSON array of objects, is nested too deep or has more
            than ``MAX_VALUES`` values.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ManagerUnreachable(
            f"the manager {manager} answers with more than {MAX_VALUES} values; what is at "
            "this address?"
        )
    shown = ascii(data[:60].decode(errors="replace"))
    data = _ESCAPE.sub(_as_json, data)
    try:
        found = json.loads(data.decode(errors="replace"), parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise ManagerUnreachable(
            f"the manager {manager} answers {len(data)} bytes that are no JSON ({error}), "
            f"beginning {shown}: is it a manager, and was it ending?"
        ) from error
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ManagerUnreachable(
            f"the manager {manager} answers no array of objects, beginning {shown}: is it a "
            "manager?"
        )
    return found


def _as_json(found: re.Match[bytes]) -> bytes:
    """Return an escape as JSON has it."""
    if found[0] == b"\\'":
        return b"'"
    return bytes([int(found[1], 16)]) if found[1] else found[0]


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _send(sock: socket.socket, data: bytes, deadline: float) -> None:
    sock.settimeout(_left(deadline))
    # The answer, or its absence, tells more than that the peer has closed.
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
        sock.sendall(data)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is over")
    return left


def _reason_of(error: BaseException) -> str:
    """Return the reason without its number."""
    text = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
    return str(text) or os.strerror(getattr(error, "errno", None) or 0)
