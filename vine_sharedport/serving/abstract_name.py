"""The sock id's other name, held so that nobody else on this host can take it.

condor_shared_port first tries the abstract Unix socket ``\\0<cookie>/<sock id>`` and only
then the file. Abstract names have no owner and no mode, and the cookie stands in
``/proc/net/unix``: who binds the name gets the connections of a running manager.

So the name is bound and never listened on: it cannot be bound again, and the shared port's
connect is refused and goes on to the file. The cookies that count are those under which
root, HTCondor's user or this user listens, as the kernel attests (``SO_PEERCRED``); anybody
can make thousands of others. HTCondor makes a new one when it is restarted.

An ``AbstractName`` has no thread: its owner calls ``step()`` when ``due`` has come, and each
call is short.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Callable

from vine_sharedport import fdpass
from vine_sharedport.events import Journal, NameHeld, NameTaken, NameUnknown

__all__ = ["AbstractName", "find_owners", "owner_of"]

log = logging.getLogger("vine_sharedport.porter")

# NETLINK_SOCK_DIAG, sock_diag(7): struct nlmsghdr, unix_diag_req, unix_diag_msg, nlattr.
_SOCK_DIAG, _BY_FAMILY, _REQUEST = 4, 20, 1
_HEADER, _QUESTION = struct.Struct("=IHHII"), struct.Struct("=BBHIIIII")
_ANSWER, _ATTRIBUTE = struct.Struct("=BBBBIII"), struct.Struct("=HH")
_SHOW_NAME, _SHOW_UID, _NO_COOKIE = 0x01, 0x40, 0xFFFFFFFF
_NAME, _UID = 0, 7

_SOCKETS = "/proc/net/unix"
# Between two looks, in seconds: a new cookie is to be found within 5 s. A host with so many
# sockets that a look takes long is looked at less often.
_LOOK_EVERY, _LOOK_RARELY, _COST = 2.0, 4.0, 50.0
_RETRY = 0.1
_SLICE = 0.002  # a step is to be shorter than what a worker notices
_MOST_BYTES = 64 << 20  # of one look: half a million sockets
_MOST_HELD = 16
_MOST_ELSEWHERE = 65536
_MOST_WITNESSES = 64
_FORGET = 60.0
# A porter that has just ended may hold the name for a moment.
_TAKEN_AFTER = 3

# RefCount, Protocol, Flags, Type (SOCK_STREAM), St, Inode, Path.
_NAMED = re.compile(
    rb"^\w+: \w+ \w+ (\w+) 0001 01 +(\d+) @(([0-9a-f]{64})/([\w.-]{1,42}))$", re.MULTILINE
)
_LISTENS = b"00010000"  # __SO_ACCEPTCON


def find_owners(ad_file: str | None) -> list[int]:
    """Return the uids of HTCondor's daemons, beside root and this user.

    Args:
        ad_file: The shared port's ad file, which its daemon's user owns; None if unknown.
    """
    found = set()
    if ad_file is not None:
        with contextlib.suppress(OSError):
            found.add(os.stat(ad_file).st_uid)
    # Not by the name service, which may be far away: HTCondor's packages make a local user.
    with contextlib.suppress(OSError, ValueError), open("/etc/passwd", "rb") as file:
        found |= {int(line.split(b":")[2]) for line in file if line.startswith(b"condor:")}
    return sorted(found)


def owner_of(inode: int, name: bytes) -> int | None:
    """Return whose an abstract Unix socket is, listening or not.

    Args:
        inode: As in ``/proc/net/unix``.
        name: Its name, which is compared: the table can be made to lie about it.

    Returns:
        The uid; None if there is none such, or the kernel does not tell (before Linux 5.3).
    """
    question = _QUESTION.pack(
        socket.AF_UNIX, 0, 0, _NO_COOKIE, inode, _SHOW_NAME | _SHOW_UID, _NO_COOKIE, _NO_COOKIE
    )
    size = _HEADER.size + _QUESTION.size
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as kernel:
            kernel.setblocking(False)  # it answers within the call
            kernel.send(_HEADER.pack(size, _BY_FAMILY, _REQUEST, 0, 0) + question)
            answer = kernel.recv(4096)
    except OSError:
        return None
    if _HEADER.unpack_from(answer)[1] != _BY_FAMILY:
        return None
    found: dict[int, bytes] = {}
    at = _HEADER.size + _ANSWER.size
    while at + _ATTRIBUTE.size <= len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, at)
        found[kind] = answer[at + _ATTRIBUTE.size : at + length]
        at += max(length + 3 & ~3, _ATTRIBUTE.size)
    if found.get(_NAME) != b"\0" + name or _UID not in found:
        return None
    return int.from_bytes(found[_UID], sys.byteorder)


class _Cookie:
    """A cookie of HTCondor's, and what we have of it.

    Attributes:
        witness: The line of a listening name whose owner was seen.
        seen: When the witness was there last, monotonic seconds.
        held: The socket that has our name; None while another has it.
        failures: How often in a row it could not be bound.
        friend: Whether who has it holds it only, too, and is this user or HTCondor.
    """

    __slots__ = ("failures", "friend", "held", "seen", "witness")

    def __init__(self, witness: bytes, seen: float) -> None:
        self.witness = witness
        self.seen = seen
        self.held: socket.socket | None = None
        self.failures = 0
        self.friend = False

    @property
    def is_taken(self) -> bool:
        """Whether somebody else has the name, who gets or may get the connections."""
        return self.failures >= _TAKEN_AFTER and not self.friend


class AbstractName:
    """Keep a sock id's abstract names from others until ``close()``.

    Owns the sockets that have the names.

    Args:
        sock_id: What stands behind ``sock=`` in the address.
        owners: Uids of HTCondor's daemons, beside root and this user.
        clock: Monotonic seconds.
        sockets: File in the place of the kernel's table of Unix sockets.

    Attributes:
        due: Monotonic time of the next ``step()``.
        taken_so_far: How often the name was found taken by somebody else.
    """

    def __init__(
        self,
        sock_id: str,
        owners: Iterable[int] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        sockets: str | None = None,
    ) -> None:
        self._sock_id = sock_id.encode()
        self._owners = {0, os.geteuid(), *owners}
        self._clock = clock
        self._sockets = sockets or _SOCKETS
        self._journal = Journal(log, clock=clock)
        self._cookies: dict[bytes, _Cookie] = {}
        self._elsewhere: set[int] = set()  # hashes of lines of other users' names
        self._forget_at = 0.0
        self._look: Iterator[None] | None = None
        self._look_at = self._retry_at = clock()
        self._spent = 0.0
        self._look_again = False
        self.taken_so_far = 0

    @property
    def due(self) -> float:
        """When ``step()`` has something to do."""
        if self._look is not None:
            return self._clock()
        if any(cookie.held is None for cookie in self._cookies.values()):
            return min(self._look_at, self._retry_at)
        return self._look_at

    @property
    def held(self) -> int:
        """How many names are held: one for each HTCondor that runs here."""
        return sum(cookie.held is not None for cookie in self._cookies.values())

    @property
    def taken(self) -> int:
        """How many names somebody else has now."""
        return sum(cookie.is_taken for cookie in self._cookies.values())

    def step(self) -> None:
        """Do a few milliseconds of what is due."""
        began = self._clock()
        if self._look is None and began >= self._look_at:
            self._look, self._spent = self._look_around(), 0.0
        if self._look is not None:
            try:
                while self._clock() < began + _SLICE:
                    next(self._look)
            except StopIteration:
                self._look = None
            except OSError as error:
                self._look = None
                self._journal.record(NameUnknown(f"{self._sockets}: {error.strerror}"))
            now = self._clock()
            self._spent += now - began
            if self._look is None:
                pause = min(_LOOK_RARELY, max(_LOOK_EVERY, _COST * self._spent))
                self._look_at = now if self._look_again else now + pause
                self._look_again = False
        if began >= self._retry_at:
            self._retry_at = began + _RETRY
            for value, cookie in self._cookies.items():
                if cookie.held is None:
                    self._hold(value, cookie)

    def first_look(self, longest: float = 0.5) -> None:
        """Look once, to the end unless that takes too long."""
        until = self._clock() + longest
        self.step()
        while self._look is not None and self._clock() < until:
            self.step()

    def close(self) -> None:
        """Give the names up. Idempotent."""
        self._look = None  # closes the table
        self._look_at = float("inf")
        for value in list(self._cookies):
            self._release(value)

    # ---- the look ----

    def _look_around(self) -> Iterator[None]:
        """Read the table in small pieces; find new cookies, and drop those that have gone."""
        now = self._clock()
        if now >= self._forget_at:
            # Whose backlog was full, or was not ours to connect to, is asked again.
            self._elsewhere.clear()
            self._forget_at = now + _FORGET
        others: dict[bytes, list[tuple[bytes, bytes]]] = {}
        seen: set[bytes] = set()
        read = 0
        for line, name, value in self._lines():
            if line is None:
                read += 1
                yield
                continue
            known = self._cookies.get(value)
            if value in seen or hash(line) in self._elsewhere:
                continue
            if known is None:
                if self._is_trusted(line, name):
                    self._add(value, line)
                    seen.add(value)
                yield
            elif known.witness == line:
                known.seen = self._clock()
                seen.add(value)
            elif len(others.setdefault(value, [])) < _MOST_WITNESSES:
                others[value].append((line, name))
        # The daemon that was seen has ended, and others of the same HTCondor may live. They
        # are not asked otherwise: each question is an error in a daemon's log.
        for value, found in others.items():
            for line, name in found if value not in seen else ():
                yield
                known = self._cookies.get(value)
                if known is not None and self._is_trusted(line, name):
                    known.witness, known.seen = line, self._clock()
                    break
        for value, known in list(self._cookies.items()):
            if self._clock() > known.seen + _FORGET:
                self._release(value)

    def _lines(self) -> Iterator[tuple[bytes | None, bytes, bytes]]:
        """Yield each listening name as line, name, cookie; Nones after each piece."""
        rest, read = b"", 0
        with open(self._sockets, "rb", buffering=0) as table:
            while True:
                piece = table.read(1 << 16)
                complete, _, rest = (rest + piece).rpartition(b"\n")
                for flags, inode, name, value, sock_id in _NAMED.findall(complete):
                    if flags == _LISTENS:
                        yield inode + b" " + name, name, value
                    if sock_id == self._sock_id and value in self._cookies:
                        # Who listens gets the workers; another porter of this user does not.
                        self._cookies[value].friend = (
                            flags != _LISTENS and owner_of(int(inode), name) in self._owners
                        )
                yield None, b"", b""
                read += len(piece)
                if not piece:
                    return
                if read > _MOST_BYTES:
                    # Nobody is to lose a name because others have made too many.
                    for known in self._cookies.values():
                        known.seen = self._clock()
                    return

    def _is_trusted(self, line: bytes, name: bytes) -> bool:
        """Whether HTCondor listens on a name, by the credentials of who does."""
        asking = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with asking, contextlib.suppress(OSError):
            asking.connect(b"\0" + name)
            if fdpass.peer_credentials(asking).uid in self._owners:
                return True
        if len(self._elsewhere) < _MOST_ELSEWHERE:
            # By the whole line: a name may contain a line's end and what looks like another.
            self._elsewhere.add(hash(line))
        return False

    # ---- the names ----

    def _add(self, value: bytes, line: bytes) -> None:
        if len(self._cookies) >= _MOST_HELD:
            oldest = min(self._cookies, key=lambda each: self._cookies[each].seen)
            if self._cookies[oldest].seen > self._clock() - _LOOK_RARELY - 1:
                return
            self._release(oldest)
        self._cookies[value] = cookie = _Cookie(line, self._clock())
        self._hold(value, cookie)

    def _hold(self, value: bytes, cookie: _Cookie) -> None:
        """Bind the name, unless somebody else has it."""
        try:
            holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:  # no descriptor is left
            self._journal.record(NameUnknown(str(error.strerror)))
            return
        try:
            holder.bind(b"\0" + value + b"/" + self._sock_id)
        except OSError as error:
            holder.close()
            if error.errno != errno.EADDRINUSE:
                self._journal.record(NameUnknown(str(error.strerror)))
                return
            cookie.failures += 1
            if cookie.failures == 1:
                self._look_again = True  # for whose it is
                self._look_at = self._clock()
            if cookie.failures == _TAKEN_AFTER and not cookie.friend:
                self.taken_so_far += 1
            if cookie.is_taken:
                self._journal.record(NameTaken(self._sock_id.decode()))
            return
        cookie.held, cookie.failures, cookie.friend = holder, 0, False
        self._journal.record(NameHeld(self._sock_id.decode()))

    def _release(self, value: bytes) -> None:
        cookie = self._cookies.pop(value)
        if cookie.held is not None:
            cookie.held.close()
