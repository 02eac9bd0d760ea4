"""TCP to the first of several addresses that answers ("happy eyeballs", RFC 8305).

One thread waits for all attempts together. Only the name service needs another: its
calls take no deadline, and one that hangs must not hold back an address that works.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Callable

from vine_sharedport.dialing.candidates import Candidate, family_of, interleave
from vine_sharedport.errors import DialAttempt, DialError, GateError, Verdict
from vine_sharedport.keepalive import DEFAULT, Keepalive

__all__ = ["STAGGER", "Attempt", "DialEvent", "Race", "reason_of", "verdict_of"]

STAGGER = 0.25
"""Seconds until the next attempt starts beside one without an answer (RFC 8305, 5)."""

_BY_ERRNO = {
    errno.ECONNREFUSED: Verdict.CONNECTION_REFUSED,
    errno.EHOSTUNREACH: Verdict.HOST_UNREACHABLE,
    errno.ENETUNREACH: Verdict.NETWORK_UNREACHABLE,
}


@dataclass(frozen=True)
class DialEvent:
    """One step on the way in, for somebody who wants to see it.

    Attributes:
        what: ``started``, ``connected``, ``failed``, ``left`` (another was faster),
            ``resolving``, ``resolved``, ``sent``, ``gate passed``, ``not closed`` or
            ``answered``.
        at: Seconds since the beginning.
        took: Seconds since this step began.
        candidate: What is tried.
        host: The literal address; "" while a name is being resolved.
        detail: Why, for ``failed``; the addresses, for ``resolved``.
        verdict: What came of it, for ``failed``.
    """

    what: str
    at: float
    took: float
    candidate: Candidate
    host: str = ""
    detail: str = ""
    verdict: Verdict | None = None


@dataclass(eq=False)
class Attempt:
    """One literal address, or one name, that is tried.

    Attributes:
        candidate: Where it comes from.
        order: Its place among all.
        host: The literal address; "" for a name.
        started: ``time.monotonic()`` value.
        round_trip: Seconds that the handshake took.
        sock: The established connection, blocking and close-on-exec, the caller's, once
            the attempt has won.
    """

    candidate: Candidate
    order: tuple[int, int]
    host: str = ""
    started: float = 0.0
    round_trip: float = 0.0
    sock: socket.socket | None = None

    def __str__(self) -> str:
        """Return it as messages name it."""
        if self.host in ("", self.candidate.literal):
            return str(self.candidate)
        return f"{self.candidate.host} ({self.host}) port {self.candidate.port}"


class Race:
    """Attempts at several candidates, of which the fastest wins.

    Owns its sockets, except the winners', until ``close()``. Attempts that a winner
    leaves behind are closed; if the winner turns out to be of no use, the next call of
    ``winner()`` tries them again.

    Args:
        places: In the order in which they are to start. Names start after all literals.
        deadline: ``time.monotonic()`` value for everything.
        on_event: Called with each step.
        keepalive: How the winner is probed when it is silent; None leaves it as it is.
    """

    def __init__(
        self,
        places: Iterable[Candidate],
        *,
        deadline: float,
        on_event: Callable[[DialEvent], None] | None = None,
        keepalive: Keepalive | None = DEFAULT,
    ) -> None:
        self._keepalive = keepalive
        self._deadline = deadline
        self._on_event = on_event
        self._began = self._next_start = time.monotonic()
        self._failures: list[tuple[tuple[int, int], DialAttempt]] = []
        self._seen: set[tuple[str, int]] = set()
        self._resolving: set[Attempt] = set()
        self._connecting: dict[Attempt, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._mailbox: _Mailbox | None = None
        attempts = [
            Attempt(candidate, (number, 0), candidate.literal or "")
            for number, candidate in enumerate(places)
        ]
        # Stable: each kind keeps its order.
        self._waiting = collections.deque(sorted(attempts, key=lambda a: not a.host))

    def __enter__(self) -> Race:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every attempt. Idempotent."""
        for attempt in list(self._connecting):
            self._stop(attempt)
        self._resolving.clear()
        if self._mailbox is not None:
            self._mailbox.close()
            self._mailbox = None
        self._selector.close()

    @property
    def failures(self) -> list[DialAttempt]:
        """What became of those that failed, in the candidates' order."""
        return [failed for _, failed in sorted(self._failures, key=lambda item: item[0])]

    @property
    def left(self) -> int:
        """How many are still worth a try."""
        return len(self._waiting) + len(self._resolving) + len(self._connecting)

    def winner(self) -> Attempt | None:
        """Wait for the next connection that is established.

        Returns:
            An attempt whose ``sock`` is the caller's from now on. None when no candidate
            is left or the deadline has passed; ``failures`` tells what became of each.
        """
        self._next_start = time.monotonic()
        while self.left:
            now = time.monotonic()
            if now >= self._deadline:
                self._run_out()
                break
            if self._waiting and (now >= self._next_start or not self._under_way):
                self._start(self._waiting.popleft())
                continue
            until = min(self._deadline, self._next_start) if self._waiting else self._deadline
            connected = []
            for key, _ in self._selector.select(max(0.0, until - now)):
                if key.data is None:
                    self._take_answers()
                elif self._has_connected(key.data):
                    connected.append(key.data)
            if connected:
                return self._win(min(connected, key=lambda attempt: attempt.order))
        return None

    def hurry(self, seconds: float) -> None:
        """Leave those that remain this much time at most."""
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def fail(self, attempt: Attempt, verdict: Verdict, reason: str) -> None:
        """Take note of why an attempt was of no use; the next one starts at once."""
        self._failures.append((attempt.order, DialAttempt(str(attempt), verdict, reason)))
        self._next_start = time.monotonic()
        self.report("failed", attempt, attempt.started, reason, verdict)

    def report(
        self,
        what: str,
        attempt: Attempt,
        since: float,
        detail: str = "",
        verdict: Verdict | None = None,
    ) -> None:
        """Tell whoever listens about a step that began at ``since``."""
        if self._on_event is not None:
            now = time.monotonic()
            at, took = now - self._began, now - since
            self._on_event(
                DialEvent(what, at, took, attempt.candidate, attempt.host, detail, verdict)
            )

    def _fail_with(self, attempt: Attempt, error: OSError) -> None:
        self.fail(attempt, verdict_of(error), reason_of(error))

    @property
    def _under_way(self) -> int:
        return len(self._resolving) + len(self._connecting)

    def _start(self, attempt: Attempt) -> None:
        attempt.started = time.monotonic()
        self._next_start = attempt.started + STAGGER
        if not attempt.host:
            self._resolve(attempt)
            return
        self.report("started", attempt, attempt.started)
        port = attempt.candidate.port
        self._seen.add((attempt.host, port))
        try:
            family = family_of(attempt.host)
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # a kernel without IPv6
            self._fail_with(attempt, error)
            return
        self._connecting[attempt] = sock
        sock.setblocking(False)
        # A literal is never looked up: this does not block.
        found = sock.connect_ex((attempt.host, port))
        if found in (0, errno.EINPROGRESS):
            self._selector.register(sock, selectors.EVENT_WRITE, attempt)
        else:
            self._stop(attempt)
            self._fail_with(attempt, OSError(found, os.strerror(found)))

    def _has_connected(self, attempt: Attempt) -> bool:
        """Return whether an attempt that has come to its end has ended well."""
        found = self._connecting[attempt].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if found:
            self._stop(attempt)
            self._fail_with(attempt, OSError(found, os.strerror(found)))
        return not found

    def _win(self, attempt: Attempt) -> Attempt:
        """Return the attempt with its connection, having closed all others."""
        attempt.round_trip = time.monotonic() - attempt.started
        sock = self._connecting.pop(attempt)
        self._selector.unregister(sock)
        attempt.sock = sock
        self.report("connected", attempt, attempt.started)
        losers = sorted(self._connecting, key=lambda loser: loser.order)
        for loser in losers:
            self._stop(loser)
            self.report("left", loser, loser.started)
        self._waiting.extendleft(reversed(losers))
        sock.setblocking(True)
        # Small messages go back and forth.
        with contextlib.suppress(OSError):  # broken already: its first use will tell
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._keepalive is not None:
            self._keepalive.apply(sock)
        return attempt

    def _stop(self, attempt: Attempt) -> None:
        sock = self._connecting.pop(attempt)
        if sock in self._selector.get_map():
            self._selector.unregister(sock)
        sock.close()

    def _run_out(self) -> None:
        """Say of each that is left that the time was not enough."""
        for attempt in list(self._connecting):
            self._stop(attempt)
            self.fail(attempt, Verdict.TIMED_OUT, "no answer in time")
        for attempt in list(self._resolving):
            self._resolving.remove(attempt)
            reason = "the name service did not answer in time"
            self.fail(attempt, Verdict.NAME_SERVICE, reason)
        while self._waiting:
            attempt, reason = self._waiting.popleft(), "not tried, for lack of time"
            self.fail(attempt, Verdict.NOT_TRIED, reason)

    def _resolve(self, attempt: Attempt) -> None:
        """Ask the name service, in a thread that nobody waits for."""
        self.report("resolving", attempt, attempt.started)
        try:
            if self._mailbox is None:
                self._mailbox = _Mailbox()
                self._selector.register(self._mailbox.readable, selectors.EVENT_READ, None)
            arguments = (attempt, self._mailbox)
            threading.Thread(target=_look_up, args=arguments, daemon=True).start()
        except OSError as error:
            self._fail_with(attempt, error)
        except RuntimeError as error:  # the limit of processes
            self.fail(attempt, Verdict.FAILED, str(error))
        else:
            self._resolving.add(attempt)

    def _take_answers(self) -> None:
        """Put what names have led to in front of those that wait."""
        assert self._mailbox is not None
        for name, answer in self._mailbox.take():
            self._resolving.discard(name)
            if isinstance(answer, OSError):
                reason = f"the name service says: {reason_of(answer)}"
                self.fail(name, verdict_of(answer), reason)
                continue
            self.report("resolved", name, name.started, ", ".join(answer) or "no address")
            port = name.candidate.port
            new = [host for host in answer if (host, port) not in self._seen]
            self._seen.update((host, port) for host in new)
            if not new:
                reason = f"leads to {', '.join(answer) or 'nothing'}, tried already"
                self.fail(name, Verdict.NOT_TRIED, reason)
            self._waiting.extendleft(
                Attempt(name.candidate, (name.order[0], place), host)
                for place, host in reversed(list(enumerate(new, 1)))
            )
            self._next_start = time.monotonic()


class _Mailbox:
    """Where resolvers leave their answers; those that come too late are dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: list[tuple[Attempt, list[str] | OSError]] = []
        self.readable, self._writable = socket.socketpair()

    def put(self, name: Attempt, answer: list[str] | OSError) -> None:
        with self._lock:
            if self._writable.fileno() >= 0:
                self._answers.append((name, answer))
                self._writable.send(b"\0")

    def take(self) -> list[tuple[Attempt, list[str] | OSError]]:
        with self._lock:
            self.readable.recv(len(self._answers))
            answers, self._answers = self._answers, []
            return answers

    def close(self) -> None:
        with self._lock:
            self.readable.close()
            self._writable.close()


def _look_up(name: Attempt, mailbox: _Mailbox) -> None:
    """Put the addresses of a name into the mailbox, families in turns; or the error."""
    answer: list[str] | OSError
    try:
        found: Any = socket.getaddrinfo(
            name.candidate.host, name.candidate.port, type=socket.SOCK_STREAM
        )
    except OSError as error:
        answer = error
    else:
        # The name service's order is RFC 6724's already.
        hosts = dict.fromkeys(str(where[0]) for *_, where in found)
        answer = interleave(hosts, key=family_of)
    mailbox.put(name, answer)


def reason_of(error: OSError) -> str:
    """Return why something failed, in a few words."""
    if error.strerror:
        return error.strerror
    # Not TimeoutError before Python 3.10.
    return "no answer in time" if isinstance(error, socket.timeout) else str(error)


def verdict_of(error: BaseException) -> Verdict:
    """Return the verdict of an error: its own, or what the system's errno says."""
    if isinstance(error, (DialError, GateError)):
        return error.verdict
    if isinstance(error, socket.gaierror):
        return Verdict.NAME_UNKNOWN
    if isinstance(error, (socket.timeout, TimeoutError)):
        return Verdict.TIMED_OUT
    return _BY_ERRNO.get(getattr(error, "errno", None) or 0, Verdict.FAILED)
