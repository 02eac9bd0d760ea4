"""Signals whose handlers raise: nothing reaches C, nothing is lost, Ctrl-C is kept."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import random
import signal
import socket
import sys
import time
import warnings
from types import FrameType
from typing import Any, Callable

import pytest

from vine_sharedport.hook import accept_hook

from . import support
from .support import (
    NOTHING,
    Hooked,
    Interruptions,
    Manager,
    PairSource,
    in_child,
    is_same_connection,
)

HOOK = os.path.dirname(accept_hook.__file__)


class Alarm(Exception):
    """What a handler for a time limit may raise."""


def raise_alarm(number: int, frame: object) -> None:
    raise Alarm


def leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def raise_in_the_hook(number: int, frame: FrameType | None) -> None:
    """Raise as Ctrl-C does, but only where the hook is at work."""
    if frame is not None and os.path.dirname(frame.f_code.co_filename) == HOOK:
        raise KeyboardInterrupt


# Signals that come in one wait of C's, their handlers, and what these raise.
SIGNALS: dict[str, list[tuple[signal.Signals, Any, type[BaseException]]]] = {
    "ctrl-c": [(signal.SIGINT, signal.default_int_handler, KeyboardInterrupt)],
    "sigterm": [(signal.SIGTERM, leave, SystemExit)],
    "alarm": [(signal.SIGALRM, raise_alarm, Alarm)],
    "six at once": [
        (signal.SIGINT, signal.default_int_handler, KeyboardInterrupt),
        (signal.SIGTERM, leave, SystemExit),
        (signal.SIGALRM, raise_alarm, Alarm),
        (signal.SIGHUP, leave, SystemExit),
        (signal.SIGUSR1, raise_alarm, Alarm),
        (signal.SIGUSR2, leave, SystemExit),
    ],
}


@contextlib.contextmanager
def signals_in_the_wait(
    manager: Manager, source: PairSource, case: str, *, by_source: bool = False
) -> Any:
    """Have another process send the signals while C waits, and then connect a client."""
    parent = os.getpid()
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writer)
        os.close(manager.fd)
        with contextlib.suppress(BaseException):
            support.wait_until_asleep_in(parent, "poll")
            for number, _, _ in SIGNALS[case]:
                os.kill(parent, number)
            client = source.bring() if by_source else manager.connect()
            os.read(reader, 1)
            client.close()
        os._exit(0)
    for number, handler, _ in SIGNALS[case]:
        signal.signal(number, handler)
    try:
        yield
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(pid, 0)


def everything_deferred() -> list[BaseException]:
    found: list[BaseException] = []
    while True:
        try:
            accept_hook.raise_deferred()
            return found
        except BaseException as error:
            found.append(error)


def check_deferred(case: str) -> None:
    """Check that each handler's exception was kept, if only as another's context."""
    found: dict[int, BaseException] = {}
    for error in everything_deferred():
        link: BaseException | None = error
        while link is not None:
            found[id(link)] = link
            link = link.__context__
    expected = collections.Counter(error for _, _, error in SIGNALS[case])
    assert collections.Counter(map(type, found.values())) == expected


@pytest.mark.parametrize("side", ["tcp", "source"])
@pytest.mark.parametrize("case", SIGNALS)
def test_a_signal_before_accept_is_kept_and_the_client_too(
    library: str, case: str, side: str
) -> None:
    @in_child
    def body() -> None:
        manager, source = Manager(library), PairSource()
        with signals_in_the_wait(manager, source, case, by_source=side == "source"):
            accept_hook.attach(library, manager.fd, source)
            # An earlier client, whose number must not be answered again.
            with manager.connect() as earlier:
                first = manager.accept()
                answer = manager.c.server_wait_and_accept(manager.fd, 20_000)
                assert answer == NOTHING or (answer > 2 and answer != first)
                check_deferred(case)
                assert is_same_connection(first, earlier)
            if answer == NOTHING:
                answer = manager.accept()
            with socket.socket(fileno=answer) as ours:
                assert ours.getpeername()
            assert not everything_deferred()
            # And the callbacks have survived it.
            with source.bring() as client:
                assert is_same_connection(manager.accept(), client)
            manager.close()
        assert not accept_hook._attachments
        source.close()

    body()


@pytest.mark.parametrize("case", SIGNALS)
def test_a_signal_before_close_is_kept_and_the_descriptor_closed(
    library: str, case: str
) -> None:
    @in_child
    def body() -> None:
        manager, source = Manager(library), PairSource()
        with signals_in_the_wait(manager, source, case):
            accept_hook.attach(library, manager.fd, source)
            reader, writer = os.pipe()
            assert manager.c.server_wait_and_close(manager.fd, 20_000, writer) == 0
            assert os.read(reader, 1) == b""
            check_deferred(case)
            os.close(manager.accept())
            os.close(reader)
            manager.close()
        source.close()

    body()


@pytest.mark.parametrize("case", SIGNALS)
def test_a_signal_before_the_listener_is_closed_does_not_leave_it_behind(
    library: str, case: str
) -> None:
    @in_child
    def body() -> None:
        manager, source = Manager(library), PairSource()
        values = support.slot_values(library)
        with signals_in_the_wait(manager, source, case):
            attachment = accept_hook.attach(library, manager.fd, source)
            assert manager.c.server_wait_and_close(manager.fd, 20_000, manager.fd) == 0
            check_deferred(case)
            assert not attachment.is_open
            assert source.released == 1
            assert support.slot_values(library) == values
            assert manager.refuses()
        source.close()

    body()


@pytest.mark.parametrize("case", SIGNALS)
def test_a_signal_before_getsockname_is_kept(library: str, case: str) -> None:
    @in_child
    def body() -> None:
        manager, source = Manager(library), PairSource()
        with signals_in_the_wait(manager, source, case):
            accept_hook.attach(library, manager.fd, source)
            # Another descriptor's port would be wrong; none is what C expects of a failure.
            assert manager.c.server_wait_and_port(manager.fd, 20_000) in (0, manager.port)
            check_deferred(case)
            assert manager.c.server_port(manager.fd) == manager.port
            os.close(manager.accept())
            manager.close()
        source.close()

    body()


@in_child
def test_a_source_that_is_interrupted_is_asked_again_at_once(library: str) -> None:
    with Hooked(library) as hooked:
        answers: list[int] = []

        def receive() -> int | None:
            if not answers:
                answers.append(hooked.source._receive())
                raise KeyboardInterrupt
            return answers[0]

        hooked.source.receive = receive
        with hooked.source.bring() as client:
            assert is_same_connection(hooked.manager.accept(), client)
        assert [type(error) for error in everything_deferred()] == [KeyboardInterrupt]


# Python 3.12 tells a generator that was there before of lines only.
STEP = "line" if sys.version_info[:2] == (3, 12) else "opcode"
CALLBACKS = ("accept_hook.py", "_callback.py")


def check_interrupted(times: int, step: int) -> None:
    assert list(map(type, everything_deferred())) == [KeyboardInterrupt] * times, step


def at_every_step(run: Callable[[int], int]) -> None:
    """Call ``run(n)`` for n = 0, 1, ... until it says that there was no n-th step."""
    steps = 0
    while run(steps):
        steps += 1
        assert steps < 2000
    assert steps > 5


@pytest.mark.parametrize("side", ["tcp", "source"])
def test_accept_can_be_interrupted_at_every_instruction(library: str, side: str) -> None:
    @in_child
    def body() -> None:
        with Hooked(library) as hooked:
            manager = hooked.manager

            def run(step: int) -> int:
                client = hooked.source.bring() if side == "source" else manager.connect()
                assert manager.c.server_wait(manager.fd, 5000)
                with Interruptions(step, STEP, *CALLBACKS) as done:
                    answer = manager.c.server_raw_accept(manager.fd, None, None)
                check_interrupted(done.raised, step)
                if answer == NOTHING:
                    answer = manager.accept()
                assert is_same_connection(answer, client), step
                counts = (hooked.attachment.by_tcp, hooked.attachment.by_source)
                assert counts == ((0, step + 1) if side == "source" else (step + 1, 0))
                assert manager.c.server_raw_accept(manager.fd, None, None) == NOTHING
                client.close()
                return done.raised

            at_every_step(run)

    body()


@in_child
def test_another_listeners_accept_can_be_interrupted_at_every_instruction(library: str) -> None:
    with Hooked(library) as hooked:
        manager = Manager(library)

        def run(step: int) -> int:
            with manager.connect() as client:
                assert manager.c.server_wait(manager.fd, 5000)
                with Interruptions(step, STEP, *CALLBACKS) as done:
                    answer = manager.c.server_raw_accept(manager.fd, None, None)
                check_interrupted(done.raised, step)
                if answer == NOTHING:
                    answer = manager.accept()
                assert is_same_connection(answer, client), step
            return done.raised

        at_every_step(run)
        manager.close()
        assert hooked.attachment.is_open


@in_child
def test_getsockname_can_be_interrupted_at_every_instruction(library: str) -> None:
    with Hooked(library) as hooked:
        manager = hooked.manager

        def run(step: int) -> int:
            with Interruptions(step, STEP, *CALLBACKS) as done:
                assert manager.c.server_port(manager.fd) in (0, manager.port)
            check_interrupted(done.raised, step)
            assert manager.c.server_port(manager.fd) == manager.port
            return done.raised

        at_every_step(run)


@in_child
def test_close_of_the_listener_can_be_interrupted_at_every_line(library: str) -> None:
    manager = Manager(library)
    manager.bind_imports()
    manager.close()
    values = support.slot_values(library)
    descriptors = support.open_descriptors()

    def run(step: int) -> int:
        hooked = Hooked(library)
        with Interruptions(step, "line", *CALLBACKS, "_libc.py") as done:
            assert hooked.manager.close() == 0
        check_interrupted(done.raised, step)
        assert not accept_hook._attachments, step
        assert not hooked.attachment.is_open
        assert hooked.source.released >= 1
        hooked.source.close()
        assert support.slot_values(library) == values, step
        assert support.open_descriptors() == descriptors, step
        return min(done.raised, step < 150)  # from then on it reads /proc/self/maps

    at_every_step(run)


@pytest.mark.parametrize("tcp", ["all", "loopback", "off"])
def test_attach_and_detach_can_be_interrupted_at_every_line(library: str, tcp: str) -> None:
    @in_child
    def body() -> None:
        warnings.simplefilter("ignore", ResourceWarning)  # what the collector closes
        manager, source = Manager(library), PairSource()
        manager.bind_imports()
        values = support.slot_values(library)
        descriptors = support.open_descriptors()

        def run(step: int) -> int:
            done = Interruptions(step, "line", "accept_hook.py", "tcp_listener.py")
            with contextlib.suppress(KeyboardInterrupt), done:
                accept_hook.attach(library, manager.fd, source, tcp=tcp).detach()
            for attachment in list(accept_hook._attachments.values()):
                attachment.detach()
            assert support.slot_values(library) == values, step
            assert support.open_descriptors() == descriptors, step
            with manager.connect() as client:
                fd = manager.accept()
                assert is_same_connection(fd, client), step
            return done.raised

        at_every_step(run)
        manager.close()
        source.close()

    body()


@pytest.mark.alone
def test_a_storm_of_ctrl_c_loses_no_client(library: str) -> None:
    total, signals = 500, 200

    @in_child
    def body() -> None:
        manager, source = Manager(library, backlog=total), PairSource()
        parent = os.getpid()
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(writer)
            storm(parent, manager, source, reader)
        os.close(reader)
        attachment = accept_hook.attach(library, manager.fd, source)
        clients, count = (ctypes.c_int * (2 * total))(), ctypes.c_int()
        kept: list[BaseException] = []
        until = time.monotonic() + 20
        signal.signal(signal.SIGINT, raise_in_the_hook)
        while count.value < total and time.monotonic() < until:
            manager.c.server_serve(manager.fd, 200, clients, ctypes.byref(count), total)
            try:
                kept += everything_deferred()
            except KeyboardInterrupt as error:
                kept.append(error)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        source.only_receive()
        os.write(writer, b"x")
        os.waitpid(pid, 0)
        assert count.value == total
        assert manager.number("server_strangers") == 0
        numbers = []
        for fd in clients[:total]:
            with socket.socket(fileno=fd) as ours:
                ours.settimeout(5)
                numbers.append(int.from_bytes(ours.recv(2), "big"))
        assert sorted(numbers) == list(range(total))
        assert attachment.by_tcp + attachment.by_source == total
        assert len(kept) > 10
        assert {type(error) for error in kept} == {KeyboardInterrupt}
        for closing in (manager, source):
            closing.close()
        os.close(writer)

    def storm(parent: int, manager: Manager, source: PairSource, reader: int) -> None:
        with contextlib.suppress(BaseException):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            source.only_send()
            support.wait_until_asleep_in(parent, "poll")
            chance = random.Random(2)
            clients = []
            for number in range(total):
                client = source.bring() if number % 2 else manager.connect()
                client.sendall(number.to_bytes(2, "big"))
                clients.append(client)
                if chance.random() < signals / total:
                    os.kill(parent, signal.SIGINT)
            os.read(reader, 1)  # until all are accepted
        os._exit(0)

    body()
