"""Whatever a shared port, clients, time and the porter can do to an endpoint.

Two bytes are one event; the endpoint and its model must agree after each.

Permitted: nothing.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from pathlib import Path

from tests.unit.serving.endpoint_model import DESCRIPTORS, LIMITS, Both

MOST_EVENTS = 64
TIMES = (0.5, 9.5, LIMITS.hand_off, LIMITS.first_bytes, 100.0)


def one_input(data: bytes) -> None:
    """The first byte tells whether there is a gate; each event is a verb and a number."""
    logging.disable()  # a line for each vanished file would be most of the work
    before = len(os.listdir("/proc/self/fd"))
    directory = Path(tempfile.mkdtemp(prefix="vsp"))
    tcp = socket.create_server(("127.0.0.1", 0))
    try:
        both = Both(directory, gate=data[:1] > b"\x7f", listener=tcp)
        try:
            for at in range(1, min(len(data), 2 * MOST_EVENTS) - 1, 2):
                event(both, data[at], data[at + 1])
            both.settle()
        finally:
            both.close()
        assert not list(directory.iterdir())
    finally:
        logging.disable(logging.NOTSET)
        tcp.close()
        shutil.rmtree(directory)
    assert len(os.listdir("/proc/self/fd")) == before


def event(both: Both, verb: int, number: int) -> None:
    """Do one thing, to one of the latest eight if it is about one."""
    verb %= 13
    if verb == 0:
        both.connect()
    elif verb == 1:
        both.settle()
    elif verb == 2:
        both.pause(number % 2 == 1)
    elif verb == 3:
        both.vanish()
    elif verb == 4:
        if number % 8 < 2:
            both.advance_to_deadline(before=number % 8 / 4)
        else:
            both.advance(TIMES[number % len(TIMES)])
    elif both.open:
        one, number = both.open[-1 - number % min(8, len(both.open))], number >> 3
        if verb == 5:
            both.send_header(one, 13)
            both.send_descriptor(one, "tcp")
        elif verb in (6, 7):
            both.send_header(one, number % 14 + 1, damaged=verb == 7)
        elif verb == 8:
            both.send_descriptor(one, DESCRIPTORS[number % len(DESCRIPTORS)])
        elif verb == 9:
            both.end_daemon(one)
        elif verb == 10:
            both.say(one, b"vine" * (number + 1))
        elif verb == 11:
            more = b"more"[: number >> 2 & 3]
            both.answer(one, (48, 47, 16, 1)[number % 4], wrong=number >= 16, more=more)
        elif number % 2:
            both.end_client(one)
        else:
            both.reset_client(one)
