"""The relay, and the worker behind it: what ``vine_sharedport.pyz`` runs on the execute point.

Its arguments are the worker's program and its options; the launcher's variables tell the rest.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType

from vine_sharedport import environment
from vine_sharedport.dialing.dial import connect
from vine_sharedport.dialing.relay import Relay, no_thread
from vine_sharedport.errors import (
    ExitStatus,
    LaunchError,
    SettingError,
    SharedPortError,
    WrongSecretError,
)
from vine_sharedport.keepalive import OFF, chosen_keepalive
from vine_sharedport.secret_file import read_secret_file
from vine_sharedport.wire.sinful import Sinful

__all__ = ["main", "passing_signals_on", "run_behind_relay"]

log = logging.getLogger(__name__)

_DEFAULT_LIMIT = "900"  # vine_worker's own --connect-timeout
_LONGEST_ATTEMPT = 30.0
_TIME_TO_CLEAN_UP = 10.0

_PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,  # workers take these two as a goodbye; Slurm's --signal sends them
    signal.SIGUSR2,
)


def main() -> int:
    """Run the worker of the command line; return its exit status, or ours."""
    logging.basicConfig(format="vine_sharedport: %(message)s", level=logging.INFO)
    try:
        return run_behind_relay(sys.argv[1], sys.argv[2:])
    except SharedPortError as error:
        log.error("%s", error)
        is_setting = not isinstance(error, LaunchError) or isinstance(error, SettingError)
        return ExitStatus.SETTING if is_setting else ExitStatus.NO_PROGRAM


def run_behind_relay(program: str, options: Sequence[str] = ()) -> int:
    """Run a worker until it ends, through a relay on this machine.

    Args:
        program: The worker's program, a path.
        options: Its own options.

    Returns:
        As ``run_worker`` of ``bundle.local_worker``, with the same errors.
    """
    given = os.environ.get
    sinful = Sinful.parse(given(environment.ADDRESS, ""))
    secret_file = given(environment.SECRET_FILE)
    secret = read_secret_file(secret_file) if secret_file else None
    keepalive = str(chosen_keepalive() or OFF)  # one that cannot be read is told now
    limit = max(1.0, float(given(environment.CONNECT_TIMEOUT) or _DEFAULT_LIMIT))
    worker = os.path.basename(program)
    reach = partial(
        connect,
        sinful,
        secret=secret,
        timeout=min(_LONGEST_ATTEMPT, limit),
        client_name=worker,
        private_network=given(environment.PRIVATE_NETWORK),
        check=True,
        keepalive=keepalive,
    )

    def dial() -> socket.socket:
        sock = reach()
        log.info("connected to manager %s", sinful.sock)  # as the shim does
        return sock

    ending = _Ending()
    relay = Relay(
        dial,
        time_limit=limit,
        proven=secret is not None,
        gave_up=ending.give_up,
        turned_away=f"the manager wants no {worker} such as this; if it has TLS, add --ssl to "
        "the worker's options; Work Queue managers take work_queue_worker alone, TaskVine's "
        "vine_worker",
    )
    # Tasks are the worker's children and need not know where its manager is.
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(environment.PREFIX)
    }
    try:
        command = [program, *options, _relay_host(), str(relay.port)]
        with passing_signals_on() as worker_started:
            try:
                process = subprocess.Popen(command, env=variables)
            except OSError as error:
                raise LaunchError(f"cannot start {program}: {error.strerror}") from error
            worker_started(process)
            log.info("%s started, pid %d, manager %s", worker, process.pid, sinful)
            ending.watch(process, relay, with_parent="--parent-death" in options)
            status = process.wait()
    finally:
        ending.close()
        relay.close()
    if ending.reason is not None:
        log.error("%s; so %s was ended", ending.reason, worker)
        refused = isinstance(ending.reason, WrongSecretError)
        return ExitStatus.WRONG_SECRET if refused else ExitStatus.LATER
    return status if status >= 0 else 128 - status


def _relay_host() -> str:
    """Return our side of the loopback interface as the worker's address family has it."""
    # cctools' setting: IPV4 (default), IPV6 or AUTO. An IPv6 socket reaches an IPv4 one
    # by the address mapped into IPv6.
    return "::ffff:127.0.0.1" if os.environ.get("CCTOOLS_IP_MODE") == "IPV6" else "127.0.0.1"


class _Ending:
    """Ends the worker when there is no use for it any more.

    Attributes:
        reason: Why it was; None if it ended by itself, or with our parent.
    """

    def __init__(self) -> None:
        self.reason: SharedPortError | None = None
        self._wanted = threading.Event()
        self._closed = False
        self._parent = os.getppid()
        self._thread: threading.Thread | None = None

    def give_up(self, reason: SharedPortError) -> None:
        """End the worker for this reason; may come before there is one."""
        self.reason = reason
        self._wanted.set()

    def watch(
        self, process: subprocess.Popen[bytes], relay: Relay, *, with_parent: bool
    ) -> None:
        """Take care of this worker from now on.

        Args:
            process: It.
            relay: What it is connected to.
            with_parent: End it with our parent, too. It asked for that, but its parent
                are we.

        Raises:
            LaunchError: There is no thread to be had; the worker was ended.
        """
        arguments = (process, relay, 1.0 if with_parent else None)
        thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            process.terminate()
            if not _ends_within(process, _TIME_TO_CLEAN_UP):
                process.kill()
                process.wait()
            raise no_thread(error) from error
        self._thread = thread

    def close(self) -> None:
        """Stop watching: the worker has ended. Idempotent."""
        self._closed = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _run(
        self, process: subprocess.Popen[bytes], relay: Relay, look_every: float | None
    ) -> None:
        while not self._wanted.wait(look_every):
            if os.getppid() != self._parent:
                log.warning("our parent has ended, so the worker ends, by its --parent-death")
                break
        if self._closed:
            return
        process.terminate()
        # It says goodbye and cleans up. One that waits for an answer, to a password say,
        # looks at its signals only when the connection ends.
        if not _ends_within(process, 1.0):
            relay.close()
            if not _ends_within(process, _TIME_TO_CLEAN_UP - 1.0):
                log.warning("the worker has not ended %g s after SIGTERM", _TIME_TO_CLEAN_UP)
                process.kill()


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextmanager
def passing_signals_on() -> Iterator[_Started]:
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
