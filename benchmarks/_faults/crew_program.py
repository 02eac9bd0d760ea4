"""Honest workers, as a program: real vine_worker processes, each behind a relay.

The relays are those of ``vine_sharedport worker``, here as threads of one process. A
worker that had to connect again was disconnected before.
"""

from __future__ import annotations

import subprocess
import tempfile
from typing import Any

from talk import CREW, Orders

from vine_sharedport.dialing.dial import connect
from vine_sharedport.dialing.relay import Relay
from vine_sharedport.secret_file import read_secret_file


class _Worker:
    def __init__(self, settings: dict[str, Any], secret: bytes) -> None:
        self.dials = 0
        self._address = settings["address"]
        self._secret = secret
        self.relay = Relay(self._dial)
        self._output = tempfile.TemporaryFile()
        options = ["--ssl"] if settings["tls"] else []
        self.process = subprocess.Popen(
            [settings["worker"], "--cores", "1", "--memory", "100", "--disk", "100",
             "--feature", CREW, *options, "127.0.0.1", str(self.relay.port)],
            stdout=self._output, stderr=self._output, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def _dial(self) -> Any:
        self.dials += 1
        return connect(self._address, secret=self._secret)


def main() -> None:
    orders = Orders()
    secret = read_secret_file(orders.settings["secret_file"])
    crew = [_Worker(orders.settings, secret) for _ in range(orders.settings["count"])]
    orders.answer({})
    while not orders.ended:
        for _ in orders.read(60):
            orders.answer(
                {
                    "dials": sum(worker.dials for worker in crew),
                    "alive": sum(worker.process.poll() is None for worker in crew),
                }
            )
    for worker in crew:
        worker.process.kill()
        worker.process.wait()
        worker.relay.close()


if __name__ == "__main__":
    main()
