"""All our environment variables: what they mean, who sets and who reads them."""

from __future__ import annotations

import difflib
import functools
import logging
import os
from dataclasses import dataclass

__all__ = ["PREFIX", "VARIABLES", "Variable", "warn_of_unknown"]

log = logging.getLogger(__name__)

PREFIX = "VINE_SHAREDPORT_"
"""What all names begin with, and none of others; no task gets to see one."""


@dataclass(frozen=True)
class Variable:
    """One variable, as docs/workers.md has it."""

    name: str
    meaning: str
    set_by: str
    read_by: str


VARIABLES: dict[str, Variable] = {}


def _variable(name: str, set_by: str, read_by: str, meaning: str) -> str:
    name = PREFIX + name
    VARIABLES[name] = Variable(name, meaning, set_by, read_by)
    return name


ADDRESS = _variable(
    "ADDRESS", "you, worker jobs", "launcher, shim, command",
    "the manager's address; for the launcher also in the file vine_sharedport.address",
)  # fmt: skip
SECRET_FILE = _variable(
    "SECRET_FILE", "you, worker jobs", "launcher, shim, command",
    "file with the manager's secret; for the launcher by default vine_sharedport.secret",
)  # fmt: skip
TRANSPORT = _variable(
    "TRANSPORT", "you", "launcher", "shim, relay, or auto (default): the shim where it loads"
)
CONNECT_TIMEOUT = _variable(
    "CONNECT_TIMEOUT", "you, launcher", "launcher, shim, command",
    "seconds after which an unreachable manager is given up; by default the worker's --timeout "
    "or --connect-timeout, else 900",
)  # fmt: skip
PRIVATE_NETWORK = _variable(
    "PRIVATE_NETWORK", "you, launcher", "launcher, shim, command",
    "the network that this machine is in, a private address of which is tried first; by "
    "default what the machine's ad tells (see below)",
)  # fmt: skip
KEEPALIVE = _variable(
    "KEEPALIVE", "you", "launcher, shim, command, programs",
    "how a silent connection is probed: IDLE/INTERVAL/COUNT, by default 8/8/75; off: as the "
    "system has it",
)  # fmt: skip
PYTHON_ENV = _variable(
    "PYTHON_ENV", "you, worker jobs", "launcher",
    "tarball of a Python environment to run the worker in",
)  # fmt: skip
PYTHON = _variable(
    "PYTHON", "you, command", "launcher",
    "Python of the relay; by default the first on PATH that is 3.9 or later",
)  # fmt: skip
COMMAND = _variable(
    "COMMAND", "command", "launcher", "1: no file is taken from the present directory"
)
CHECK = _variable(
    "CHECK", "launcher", "shim", "1: the worker is only tried out, its settings are checked"
)
OWN_POOL = _variable(
    "OWN_POOL", "you, command, factory, manager jobs", "command, programs",
    "no: your own pool is not taken where no HTCondor is named",
)  # fmt: skip
POOL = _variable("POOL", "own pool", "own pool", "the pool that a process belongs to")
RUN = _variable("RUN", "command", "programs", "settings of run for further Python processes")
_variable("METHOD", "you", "sandbox", "the way into the sandbox")
_variable("NATIVE", "you", "sandbox", "1: no sandbox, the machine's own HTCondor and ndcctools")
_variable("MIRROR", "you", "sandbox", "Debian mirror that the sandbox is made from")
_variable("SUITE", "you", "sandbox", "Debian suite that the sandbox is made of")
_variable("SANDBOX", "sandbox", "tests", "the way by which they are in the sandbox")
_variable("REQUIRE", "you", "tests", "tests that fail where they would be skipped")


@functools.cache  # once for a process
def warn_of_unknown() -> None:
    """Warn of variables with our prefix that are none, each with the nearest that is one."""
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in VARIABLES:
            near = difflib.get_close_matches(name[:80], VARIABLES, n=1, cutoff=0)
            log.warning(
                "%s has no effect: there is no such variable; did you mean %s?",
                name[:80],
                *near,
            )
