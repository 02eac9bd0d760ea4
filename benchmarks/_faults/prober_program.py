"""Asks the manager how it is, again and again, and measures how long it takes to answer.

The manager answers from its own loop, so no answer comes while the loop is held.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

from talk import Orders

from vine_sharedport.manager_protocol import tls

_PAUSE = 0.02
_NOTED = 0.005  # shorter answers are not listed


def _waited(pid: int) -> float:
    """Return for how long the process has been ready to run without a processor."""
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):  # a kernel without these numbers
        return 0.0


def _ask(port: int, question: str, speaks_tls: bool, timeout: float) -> Any:
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout))
        if speaks_tls:
            sock = stack.enter_context(tls.wrap(sock))
        sock.sendall(question.encode() + b"\n")
        answer = b""
        while True:
            data = sock.recv(65536)
            answer += data
            try:
                return json.loads(answer)[0]
            except ValueError:
                if not data:
                    raise OSError("no answer") from None


def main() -> None:
    orders = Orders()
    settings = orders.settings
    slow: list[tuple[float, float, float]] = []
    asked = failed = 0
    first = _ask(settings["port"], settings["question"], settings["tls"], 60.0)
    orders.answer({"protocol": first.get("protocol")})
    while not orders.ended:
        begun, waited = time.monotonic(), _waited(settings["pid"])
        try:
            _ask(settings["port"], settings["question"], settings["tls"], 100.0)
        except OSError:
            failed += 1
        length = time.monotonic() - begun
        asked += 1
        if length >= _NOTED:
            slow.append((begun, length, _waited(settings["pid"]) - waited))
        for _ in orders.read(_PAUSE):
            orders.answer({"slow": slow, "asked": asked, "failed": failed})
            slow, asked, failed = [], 0, 0


if __name__ == "__main__":
    main()
