"""Whether an address answers, within a time limit, names included."""

from __future__ import annotations

import random
import socket
import threading
import time
from typing import Any

import pytest

from tests.loopback import mute
from vine_sharedport.condor import reachability
from vine_sharedport.condor.reachability import connect_problem
from vine_sharedport.wire.sinful import Sinful


def test_one_address_that_answers_is_enough() -> None:
    with mute() as silent, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = f"<127.0.0.1:{silent}?addrs=127.0.0.1-{silent}+127.0.0.1-{port}>"
        assert connect_problem(Sinful.parse(text)) is None


@pytest.mark.parametrize("kind", ["hangs", "fails", "knows none"])
def test_a_name_is_looked_up_within_a_time_limit(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    over = threading.Event()
    host = f"ap{random.randrange(10**6)}.example.org"

    def look_up(name: str, *_: object, **__: object) -> list[Any]:
        if kind == "hangs":
            over.wait(20)
        code = socket.EAI_AGAIN if kind == "fails" else socket.EAI_NONAME
        raise socket.gaierror(code, "no address")

    monkeypatch.setattr(reachability, "_CONNECT_TIMEOUT", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    began = time.monotonic()
    try:
        problem = connect_problem(Sinful(host, 9618))
        took = time.monotonic() - began
    finally:
        over.set()
    assert took < 5
    assert host in str(problem)
    for thread in threading.enumerate():
        if thread.name == "resolve-shared-port":
            thread.join()
