"""Run an unmodified worker whose manager is behind a shared port."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType

from vine_sharedport.errors import EndpointError, LaunchError, SinfulError
from vine_sharedport.link.dial import connect
from vine_sharedport.link.relay import Relay
from vine_sharedport.link.secret import read_secret_file
from vine_sharedport.wire.handoff import check_sock_id
from vine_sharedport.wire.sinful import Sinful

__all__ = ["ADDRESS_VARIABLE", "SECRET_VARIABLE", "run_worker"]

log = logging.getLogger(__name__)

ADDRESS_VARIABLE = "VINE_SHARED_PORT_ADDRESS"
"""Environment variable with the manager's address."""

SECRET_VARIABLE = "VINE_SHARED_PORT_SECRET_FILE"
"""Environment variable with the path of the file that holds the manager's secret."""

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def run_worker(
    address: str,
    options: Sequence[str] = (),
    *,
    secret_file: str | None = None,
    worker: str = "vine_worker",
    timeout: float = 30.0,
) -> int:
    """Run a worker until it ends, through a relay on this machine.

    Args:
        address: The manager's, for example ``<192.0.2.7:9618?sock=vine_42>``.
        secret_file: File with the manager's secret; None for a manager without a gate.
        options: The worker's own options.
        worker: The worker's program, a path or a name on PATH.
        timeout: Seconds for each connection to the shared port.

    Returns:
        The worker's exit status, as a shell tells it: 128 + N if signal N ended it.

    Raises:
        SinfulError: The text is no address.
        GateError: The secret file cannot be used.
        LaunchError: The worker cannot be started.
    """
    sinful = Sinful.parse(address)
    if sinful.sock is None:
        raise SinfulError(f"the address {address} names no manager: it has no sock= parameter")
    try:
        check_sock_id(sinful.sock)
    except EndpointError as error:
        raise SinfulError(f"the address {address} is no manager's: {error}") from error
    program = shutil.which(worker)
    if program is None:
        raise LaunchError(
            f"there is no worker program {worker!r}; give its path with --worker, "
            "or put the directory of vine_worker on PATH"
        )
    secret = None if secret_file is None else read_secret_file(secret_file)
    name = os.path.basename(worker)
    relay = Relay(partial(connect, sinful, secret=secret, timeout=timeout, client_name=name))
    # Tasks are the worker's children and need not know where its manager is.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in (ADDRESS_VARIABLE, SECRET_VARIABLE)
    }
    try:
        command = [program, *options, "127.0.0.1", str(relay.port)]
        with _passing_signals_on() as worker_started:
            try:
                process = subprocess.Popen(command, env=environment)
            except OSError as error:
                raise LaunchError(f"cannot start {program}: {error.strerror}") from error
            worker_started(process)
            log.info("%s started, pid %d, manager %s", worker, process.pid, sinful)
            status = process.wait()
    finally:
        relay.close()
    return status if status >= 0 else 128 - status


@contextmanager
def _passing_signals_on() -> Iterator[_Started]:
    """Send the signals that ask us to end to the worker, which ends us with its status."""
    started = _Started()
    before = {
        number: signal.signal(number, started.pass_on)
        for number in _PASSED_ON
        if signal.getsignal(number) is not signal.SIG_IGN  # by nohup, say: it stays ignored
    }
    try:
        yield started
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Started:
    """The worker, once there is one; signals that come before are kept for it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def __call__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)
