"""The endpoint beside a model of it, for tests that do anything to it in any order.

``Both`` does something to a real endpoint and to the model, and compares the two. The
model is what the endpoint's documentation promises, without sockets: a hand-off is the
bytes and descriptors that its daemon has sent, and the bytes of its client.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fake_shared_port import PASS_SOCK
from tests.unit import helpers
from vine_sharedport.serving.counters import Refusal
from vine_sharedport.serving.endpoint import Endpoint, Limits
from vine_sharedport.wire.gate import ANSWER_SIZE, GREETING_SIZE, NONCE_SIZE, GateClient

SOCK_ID = "vine_1"
SECRET = bytes(range(32))
LIMITS = Limits(hand_off=10, gate=20, first_bytes=30, pending=5)

DESCRIPTORS = ("tcp", "none", "two", "pipe", "unix")
"""What can travel with the byte after the header."""

BACKLOG, ARRIVAL, GATE, HELD, READY, REFUSED = range(6)


@dataclass(eq=False)
class HandOff:
    """One connection of the shared port, and its client, as the model sees them."""

    daemon: socket.socket
    client: socket.socket
    server: socket.socket  # the client's other end, the daemon's until it is passed
    state: int = BACKLOG
    header: bytes = b""  # what the endpoint has read of it
    deadline: float = 0.0
    sent: int = 0  # bytes of the header that the daemon has sent
    daemon_stream: list[tuple[int, str | None]] = field(default_factory=list)  # unread
    daemon_ended: bool = False
    said: bytearray = field(default_factory=bytearray)  # by the client, and unread
    client_ended: bool = False
    answer: bytes = b""  # the right one, known when the greeting has come
    answered: int = 0  # bytes of an answer that the endpoint has read
    right: bool = True  # whether those are the right ones


class Both:
    """An endpoint and its model. Owns every socket until ``close()``.

    Args:
        directory: For the socket.
        gate: Whether clients must prove that they hold the secret.
        listener: Where the clients' TCP connections come from; stays the caller's.
    """

    def __init__(self, directory: Path, *, gate: bool, listener: socket.socket) -> None:
        self.clock = helpers.Clock()
        self.endpoint = Endpoint(
            SOCK_ID,
            str(directory),
            secret=SECRET if gate else None,
            limits=LIMITS,
            clock=self.clock,
        )
        self.hand_offs: list[HandOff] = []
        self.refused: Counter[Refusal] = Counter()
        self.paused = False
        self._gate = gate
        self._listener = listener
        # The model's states, the oldest first.
        self._waiting: dict[int, list[HandOff]] = {ARRIVAL: [], GATE: [], HELD: []}

    def close(self) -> None:
        self.endpoint.close()
        for hand_off in self.hand_offs:
            _close(hand_off)

    @property
    def open(self) -> list[HandOff]:
        """Return those that the model has not come to an end with."""
        return [one for one in self.hand_offs if one.state not in (READY, REFUSED)]

    # ---- what can happen ----

    def connect(self) -> None:
        """Let the shared port connect; nobody looks at it yet."""
        client = socket.create_connection(self._listener.getsockname())
        # No TIME_WAIT, of which there is room for some ten thousands only.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # What is sent is there when send() returns, also after what nobody has acknowledged.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(10)
        server, _ = self._listener.accept()
        daemon = helpers.connect_unix(self.endpoint.path)
        self.hand_offs.append(HandOff(daemon, client, server))

    def send_header(self, one: HandOff, size: int, *, damaged: bool = False) -> None:
        """Let the daemon send so many of the header's bytes, or what is none."""
        data = PASS_SOCK[one.sent : one.sent + size] if not damaged else b"\x02" * size
        if not data or one.daemon_ended:
            return
        one.sent += len(data)
        self._send(one, [(byte, None) for byte in data])

    def send_descriptor(self, one: HandOff, kind: str) -> None:
        """Let the daemon send a byte with what should be the client's connection."""
        if one.daemon_ended or one.server.fileno() < 0:
            return
        self._send(one, [(0, kind)])

    def end_daemon(self, one: HandOff) -> None:
        """Let the daemon end its stream."""
        one.daemon_ended = True
        with contextlib.suppress(OSError):
            one.daemon.shutdown(socket.SHUT_WR)
        self._settle_unless_new(one)

    def say(self, one: HandOff, data: bytes) -> None:
        """Let the client send bytes of its own."""
        if one.client_ended or not data:
            return
        one.said += data
        one.client.sendall(data)
        self._settle_unless_new(one)

    def answer(
        self, one: HandOff, size: int, *, wrong: bool = False, more: bytes = b""
    ) -> None:
        """Let the client send so many bytes of its answer at the gate, or wrong ones.

        When the answer is whole, ``more`` follows at once.
        """
        if one.state in (READY, REFUSED):
            return
        part = one.answer[one.answered : one.answered + size]
        if one.state == GATE and one.right and not wrong:
            is_whole = one.answered + len(part) == ANSWER_SIZE
            self.say(one, part + more if is_whole else part)
        else:
            self.say(one, b"\xff" * size)

    def end_client(self, one: HandOff) -> None:
        """Let the client end its stream."""
        if not one.client_ended:
            one.client_ended = True
            one.client.shutdown(socket.SHUT_WR)
            self._settle_unless_new(one)

    def reset_client(self, one: HandOff) -> None:
        """Let the client reset its connection."""
        # What it has said and nobody has read may be lost with it, or not.
        if not one.said and one.client.fileno() >= 0:
            one.client_ended = True
            one.client.close()
            self._settle_unless_new(one)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now += seconds
        self.settle()

    def advance_to_deadline(self, *, before: float = 0.0) -> None:
        """Let time pass until something expires, or almost."""
        self.settle()
        if self.endpoint.next_deadline is not None:
            self.advance(max(0.0, self.endpoint.next_deadline - before - self.clock.now))

    def pause(self, paused: bool) -> None:
        """Let newcomers wait, or in again."""
        self.settle()
        self.paused = paused
        self.endpoint.pause(paused)
        self.settle()

    def vanish(self) -> None:
        """Remove the socket file and make it again."""
        self.settle()
        if any(one.state == BACKLOG for one in self.hand_offs):
            return  # paused: they are lost with the old listener
        Path(self.endpoint.path).unlink()
        self.endpoint.keep_alive()

    def settle(self) -> None:
        """Poll until nothing more can happen, and compare."""
        for _ in range(4):
            ready = self.endpoint.poll()
            self._check_ready(ready, self._poll())
        assert +self.endpoint.refused == +self.refused
        assert self.endpoint.pending == sum(map(len, self._waiting.values()))
        deadlines = [one.deadline for waiting in self._waiting.values() for one in waiting]
        assert self.endpoint.next_deadline == min(deadlines, default=None)

    # ---- the sockets ----

    def _settle_unless_new(self, one: HandOff) -> None:
        """Keep to one event at a time for those that the endpoint knows."""
        if one.state != BACKLOG:
            self.settle()

    def _send(self, one: HandOff, stream: list[tuple[int, str | None]]) -> None:
        kind = stream[0][1]
        data = bytes(byte for byte, _ in stream)
        try:
            if kind is None or kind == "none":
                one.daemon.sendall(data)
            else:
                self._send_fds(one, kind, data)
        except (BrokenPipeError, ConnectionResetError):
            assert one.state not in (BACKLOG, ARRIVAL)
            return
        one.daemon_stream += stream
        self._settle_unless_new(one)

    def _send_fds(self, one: HandOff, kind: str, data: bytes) -> None:
        first, second = socket.socketpair()
        with first, second:
            fds = {
                "tcp": [one.server.fileno()],
                "two": [one.server.fileno(), first.fileno()],
                "unix": [first.fileno()],
                "pipe": [self.endpoint.fileno()],  # an epoll set: no socket at all
            }[kind]
            helpers.send_fds(one.daemon, *fds, data=data)
        if kind in ("tcp", "two"):
            one.server.close()  # the endpoint's is the only copy

    def _check_ready(self, ready: list[socket.socket], expected: list[HandOff]) -> None:
        by_peer = {}
        for sock in ready:
            assert not sock.getblocking()
            by_peer[sock.getpeername()] = sock
        assert len(ready) == len(by_peer) == len(expected)
        for one in expected:
            with by_peer[one.client.getsockname()] as sock:
                sock.setblocking(True)
                sock.settimeout(10)
                assert helpers.receive_exactly(sock, len(one.said)) == bytes(one.said)
                sock.sendall(b"welcome")
            rest = helpers.receive_all(one.client)
            assert rest.endswith(b"welcome")
            _close(one)

    # ---- the model ----

    def _poll(self) -> list[HandOff]:
        """Do what one ``poll()`` of the endpoint does; return the ready clients."""
        ready: list[HandOff] = []
        for state in (HELD, GATE, ARRIVAL):
            for one in list(self._waiting[state]):
                if state == ARRIVAL:
                    self._advance(one, ready)
                elif state == GATE:
                    self._challenge(one, ready)
                else:
                    self._look(one, ready)
        if not self.paused:
            for one in self.hand_offs:
                if one.state == BACKLOG:
                    self._move(one, ARRIVAL, LIMITS.hand_off)
                    self._advance(one, ready)
                    if sum(map(len, self._waiting.values())) > LIMITS.pending:
                        oldest = next(self._waiting[s][0] for s in (GATE, ARRIVAL, HELD)
                                      if self._waiting[s])  # fmt: skip
                        self._refuse(oldest, Refusal.TOO_MANY)
        for state, reason in (
            (ARRIVAL, Refusal.STALLED),
            (GATE, Refusal.GATE_TIMEOUT),
            (HELD, Refusal.SILENT),
        ):
            for one in list(self._waiting[state]):
                if one.deadline <= self.clock.now:
                    self._refuse(one, reason)
        return ready

    def _advance(self, one: HandOff, ready: list[HandOff]) -> None:
        fresh = len(one.header) < len(PASS_SOCK)
        while one.daemon_stream and len(one.header) < len(PASS_SOCK):
            byte, kind = one.daemon_stream.pop(0)
            one.header += bytes([byte])
            fresh = False
            if kind not in (None, "none"):
                if kind in ("tcp", "two"):  # too early: the kernel drops it
                    one.client_ended = True
                    one.said.clear()
                    one.client.close()
                break  # and a read never goes on beyond a descriptor
        if len(one.header) < len(PASS_SOCK):
            if fresh and one.daemon_ended and not one.daemon_stream:
                self._refuse(one, Refusal.NOT_A_HAND_OFF)
            return None
        if one.header != PASS_SOCK:
            return self._refuse(one, Refusal.NOT_A_HAND_OFF)
        if not one.daemon_stream:
            if one.daemon_ended:
                self._refuse(one, Refusal.NO_DESCRIPTOR)
            return None
        _, kind = one.daemon_stream.pop(0)
        if kind == "two":
            return self._refuse(one, Refusal.DESCRIPTORS)
        if kind != "tcp":
            return self._refuse(one, Refusal.NO_DESCRIPTOR)
        if not self._gate:
            self._move(one, HELD, LIMITS.first_bytes)
            return self._look(one, ready)
        self._move(one, GATE, LIMITS.gate)
        if one.client.fileno() < 0:
            self._refuse(one, Refusal.CLOSED_EARLY)  # there is nobody to greet
        else:
            greeting = helpers.receive_exactly(one.client, GREETING_SIZE)
            one.answer = GateClient(SECRET, SOCK_ID, bytes(NONCE_SIZE)).feed(greeting)
        return None

    def _challenge(self, one: HandOff, ready: list[HandOff]) -> None:
        part = bytes(one.said[: ANSWER_SIZE - one.answered])
        del one.said[: len(part)]
        one.right &= part == one.answer[one.answered : one.answered + len(part)]
        one.answered += len(part)
        if one.answered == ANSWER_SIZE:
            if not one.right:
                return self._refuse(one, Refusal.WRONG_SECRET)
            self._move(one, HELD, LIMITS.first_bytes)
            return self._look(one, ready)
        if one.client_ended:
            self._refuse(one, Refusal.CLOSED_EARLY)
        return None

    def _look(self, one: HandOff, ready: list[HandOff]) -> None:
        if one.said:
            self._move(one, READY)
            ready.append(one)
        elif one.client_ended:
            self._refuse(one, Refusal.CLOSED_EARLY)

    def _move(self, one: HandOff, state: int, length: float = 0.0) -> None:
        if one.state in self._waiting:
            self._waiting[one.state].remove(one)
        one.state, one.deadline = state, self.clock.now + length
        if state in self._waiting:
            self._waiting[state].append(one)

    def _refuse(self, one: HandOff, reason: Refusal) -> None:
        self._move(one, REFUSED)
        self.refused[reason] += 1
        one.server.close()
        # By now the endpoint has let go of both; nobody else has a copy.
        assert helpers.is_closed(one.daemon)
        if one.client.fileno() >= 0:
            with contextlib.suppress(ConnectionResetError):
                helpers.receive_all(one.client)
        _close(one)


def _close(one: HandOff) -> None:
    for sock in (one.daemon, one.client, one.server):
        sock.close()
