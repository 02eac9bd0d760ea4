"""Anything, in any order, done to an endpoint and to a model of it: they agree."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from .endpoint_model import DESCRIPTORS, LIMITS, Both, HandOff

WHICH = st.integers(0, 7)
BYTES = st.binary(min_size=1, max_size=100)
EARLY = st.one_of(st.just(b""), st.just(b""), BYTES)
KINDS = st.sampled_from(["tcp"] * 6 + list(DESCRIPTORS))


class EndpointMachine(RuleBasedStateMachine):
    """Whatever a shared port, clients, time and the porter can do to an endpoint."""

    def __init__(self) -> None:
        super().__init__()
        logging.disable()  # each vanished file would be a line
        self.descriptors = len(os.listdir("/proc/self/fd"))
        self.directory = Path(tempfile.mkdtemp(prefix="vsp"))
        self.listener = socket.create_server(("127.0.0.1", 0))

    @initialize(gate=st.sampled_from([True, True, False]))
    def start(self, gate: bool) -> None:
        self.both = Both(self.directory, gate=gate, listener=self.listener)

    def teardown(self) -> None:
        try:
            self.both.settle()
        finally:
            logging.disable(logging.NOTSET)
            self.both.close()
            self.listener.close()
            left = list(self.directory.iterdir())
            shutil.rmtree(self.directory)
        assert not left
        assert len(os.listdir("/proc/self/fd")) == self.descriptors

    def _some(self, which: int) -> HandOff:
        return self.both.open[which % len(self.both.open)]

    def _has_some(self) -> bool:
        return bool(self.both.open)

    @rule()
    def connect(self) -> None:
        self.both.connect()

    @rule(early=EARLY, first=st.sampled_from([*range(14), 13, 13, 13]), kind=KINDS)
    def hand_off(self, early: bytes, first: int, kind: str) -> None:
        """A healthy daemon's, perhaps in two pieces, but for the descriptor."""
        self.both.connect()
        one = self.both.open[-1]
        self.both.say(one, early)
        if first < 13:
            self.both.send_header(one, first)
            self.both.settle()
        if one in self.both.open:
            self.both.send_header(one, 13 - first if first < 13 else 13)
            self.both.send_descriptor(one, kind)

    @precondition(_has_some)
    @rule(which=WHICH, size=st.integers(1, 14), damaged=st.sampled_from([False, False, True]))
    def send_header(self, which: int, size: int, damaged: bool) -> None:
        self.both.send_header(self._some(which), size, damaged=damaged)

    @precondition(_has_some)
    @rule(which=WHICH, kind=KINDS)
    def send_descriptor(self, which: int, kind: str) -> None:
        self.both.send_descriptor(self._some(which), kind)

    @precondition(_has_some)
    @rule(which=WHICH)
    def end_daemon(self, which: int) -> None:
        self.both.end_daemon(self._some(which))

    @precondition(_has_some)
    @rule(which=WHICH, data=BYTES)
    def say(self, which: int, data: bytes) -> None:
        self.both.say(self._some(which), data)

    @precondition(_has_some)
    @rule(which=WHICH, size=st.sampled_from([1, 16, 47, 48]), wrong=st.booleans())
    def answer(self, which: int, size: int, wrong: bool) -> None:
        self.both.answer(self._some(which), size, wrong=wrong)

    @precondition(_has_some)
    @rule(which=WHICH, first=st.integers(0, 48), more=EARLY)
    def pass_the_gate(self, which: int, first: int, more: bytes) -> None:
        """Answer rightly in two pieces, perhaps with the client's bytes right behind."""
        one = self._some(which)
        self.both.answer(one, first)
        self.both.answer(one, 48, more=more)

    @rule(count=st.integers(2, 6))
    def crowd(self, count: int) -> None:
        """Several at once, perhaps more than may wait; nobody has looked at them yet."""
        for _ in range(count):
            self.hand_off(b"", 13, "tcp")

    @rule(first=st.integers(0, 48), more=EARLY)
    def good_client(self, first: int, more: bytes) -> None:
        """All as it should be, unless the porter pauses."""
        self.hand_off(b"", 13, "tcp")
        self.both.settle()
        if self.both.open:
            self.pass_the_gate(-1, first, more)

    @precondition(_has_some)
    @rule(which=WHICH)
    def end_client(self, which: int) -> None:
        self.both.end_client(self._some(which))

    @precondition(_has_some)
    @rule(which=WHICH)
    def reset_client(self, which: int) -> None:
        self.both.reset_client(self._some(which))

    @rule(seconds=st.sampled_from([0.5, LIMITS.hand_off, LIMITS.first_bytes, 100.0]))
    def advance(self, seconds: float) -> None:
        self.both.advance(seconds)

    @rule(before=st.sampled_from([0.0, 0.25]))
    def advance_to_the_next_deadline(self, before: float) -> None:
        self.both.advance_to_deadline(before=before)

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.both.pause(paused)

    @rule()
    def vanish(self) -> None:
        self.both.vanish()

    @rule()
    def settle(self) -> None:
        self.both.settle()


EndpointMachine.TestCase.settings = settings(
    max_examples=250,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow],
)
TestEndpointAgainstItsModel = EndpointMachine.TestCase
