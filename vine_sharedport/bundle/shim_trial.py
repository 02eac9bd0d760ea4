"""A manager's address tried with the shim itself, as a worker on this machine would use it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from vine_sharedport import environment
from vine_sharedport.bundle.shim_build import RESERVED_HOST, RESERVED_PORT, library_path

__all__ = ["ShimTrial", "try_shim"]

# What a worker does, by a Python: one connect(), and a handler of the signal by which the shim
# ends a worker that has waited for long enough.
_WORKER = """
import signal, socket, time
signal.signal(signal.SIGTERM, lambda *_: None)
began = time.monotonic()
with socket.socket() as sock:
    failed = sock.connect_ex(({host!r}, {port}))
    print(failed, time.monotonic() - began, flush=True)
"""
_PREFIX = "vine_sharedport: "
# What it says of attempts that a worker would make, and here nobody does.
_LATER = ("trying again", "still so; trying again", "the manager was not reached within")

# backoff.c: an attempt's longest, and its shortest.
_MOST, _LEAST = 30.0, 3.0


@dataclass(frozen=True)
class ShimTrial:
    """What came of it.

    Attributes:
        works: Whether it has led to the manager.
        seconds: How long that took, or until it was given up.
        said: What the shim has said, a line each; why it was not tried.
    """

    works: bool
    seconds: float
    said: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        took = round(1000 * self.seconds, 3)
        return {"works": self.works, "took_ms": took, "said": list(self.said)}

    def lines(self) -> list[str]:
        """Return it for people."""
        after = f"after {1000 * self.seconds:.1f} ms"
        if not self.seconds:
            return list(self.said)
        if self.works:
            return [*self.said[:-1], *(f"{line}, {after}" for line in self.said[-1:])]
        return [*self.said, f"failed {after}"]


def try_shim(
    address: str,
    *,
    secret_file: str | None = None,
    timeout: float = _MOST,
    private_network: str | None = None,
    library: str | None = None,
) -> ShimTrial:
    """Connect to a manager through the shim, and close the connection again.

    Args:
        address: The manager's, with its sock id.
        secret_file: File with its secret; None without a gate.
        timeout: Seconds; the shim takes from 3 to 30 of them.
        private_network: This machine's.
        library: The shim's file; the installation's by default.
    """
    library = library or library_path()
    if library is None:
        return ShimTrial(False, 0.0, ("not tried: this installation has none",))
    if not sys.executable:
        return ShimTrial(False, 0.0, ("not tried: this Python does not know its own program",))
    limit = min(_MOST, max(_LEAST, timeout))
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(environment.PREFIX) or name == environment.KEEPALIVE
    }
    variables["LD_PRELOAD"] = library
    variables[environment.ADDRESS] = address
    variables[environment.CONNECT_TIMEOUT] = str(math.ceil(limit))
    if secret_file is not None:
        variables[environment.SECRET_FILE] = os.path.abspath(secret_file)
    if private_network:
        variables[environment.PRIVATE_NETWORK] = private_network
    program = _WORKER.format(host=RESERVED_HOST, port=RESERVED_PORT)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", program],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=3 * _MOST,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return ShimTrial(False, 0.0, (f"not tried: {error}",))
    lines = done.stderr.splitlines()
    said = [line[len(_PREFIX) :] for line in lines if line.startswith(_PREFIX)]
    if not said:  # ld.so says why, where the C library has one that does
        why = "; ".join(lines[:1]) or "the C library of this Python takes no LD_PRELOAD"
        return ShimTrial(False, 0.0, (f"does not load here: {why}",))
    failed, _, seconds = done.stdout.strip().partition(" ")
    shown = tuple(line for line in said if not line.startswith(_LATER))
    return ShimTrial(failed == "0", float(seconds or 0.0), shown)
