"""Run an unmodified worker whose manager is behind a shared port."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Callable

from vine_sharedport import environment
from vine_sharedport.errors import (
    ExitStatus,
    HandOffError,
    LaunchError,
    SettingError,
    SharedPortError,
    SinfulError,
    WrongSecretError,
)
from vine_sharedport.link.advice import has_successor, its_manager, its_secret
from vine_sharedport.link.commands import (
    connect_command,
    manager_worker_command,
    worker_command,
)
from vine_sharedport.link.dial import connect
from vine_sharedport.link.reference import check_address
from vine_sharedport.link.relay import Relay, no_thread
from vine_sharedport.link.run_file import secret_file_of
from vine_sharedport.link.secret import read_secret_file
from vine_sharedport.units import parse_seconds
from vine_sharedport.wire.sinful import Sinful
from vine_sharedport.worker.program import find_program

__all__ = [
    "check_options",
    "run_worker",
]

log = logging.getLogger(__name__)

_DEFAULT_LIMIT = 900.0  # vine_worker's own --connect-timeout
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


def run_worker(
    address: str,
    options: Sequence[str] = (),
    *,
    secret_file: str | None = None,
    worker: str = "vine_worker",
    connect_timeout: float | None = None,
    private_network: str | None = None,
) -> int:
    """Run a worker until it ends, through a relay on this machine.

    Args:
        address: The manager's, for example ``<192.0.2.7:9618?sock=vine_42>``.
        options: The worker's own options.
        secret_file: File with the manager's secret; None for a manager without a gate.
        worker: The worker's program, a path or a name on PATH.
        connect_timeout: Seconds after which a manager that cannot be reached is given
            up; by default what the environment says, else the worker's options, else 900.
        private_network: Name of the network that this machine is in; by default what the
            environment says.

    Returns:
        The worker's exit status, as a shell tells it: 128 + N if signal N ended it. 77
        if the manager has refused the secret, 75 if it was given up as unreachable; the
        log says more.

    Raises:
        SinfulError: The text is no address.
        SettingError: The secret file cannot be used, the environment's time limit is none, or
            the worker's options name another manager.
        LaunchError: The worker cannot be started.
    """
    more = [] if connect_timeout is None else ["--connect-timeout", f"{connect_timeout:.0f}"]
    if private_network:
        more += ["--private-network", private_network]
    line = partial(worker_command, worker=worker, options=options, more=more)
    network = private_network or os.environ.get(environment.PRIVATE_NETWORK)
    try:
        sinful = Sinful.parse(address)
        check_address(sinful, network)  # nor would an hour's patience find a port
    except SinfulError as error:
        raise SinfulError(f"{error.cause}; {_yours(line)}") from error
    check_options(options, partial(line, address, secret_file))
    try:
        secret = None if secret_file is None else read_secret_file(secret_file)
    except SettingError as error:
        if sinful.sock is None or secret_file_of(sinful.sock) is None:
            raise
        step = its_secret(sinful.sock, partial(line, address))
        raise SettingError(f"{error.cause}; {step}") from error
    try:
        program = find_program(worker, option="--worker")
    except SettingError as error:
        raise LaunchError(str(error)) from error  # as a shell tells it, by its status
    limit = max(1.0, _time_limit(options) if connect_timeout is None else connect_timeout)
    dial = partial(
        connect,
        sinful,
        secret=secret,
        timeout=min(_LONGEST_ATTEMPT, limit),
        client_name=os.path.basename(worker),
        private_network=network,
        check=True,
    )
    ending = _Ending()
    relay = Relay(
        dial,
        time_limit=limit,
        proven=secret is not None,
        gave_up=ending.give_up,
        turned_away=_other_kind(os.path.basename(worker), partial(line, address, secret_file)),
    )
    # Tasks are the worker's children and need not know where its manager is.
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(environment.PREFIX)
    }
    try:
        command = [program, *options, _relay_host(), str(relay.port)]
        with _passing_signals_on() as worker_started:
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
        return _tell(ending.reason, worker, sinful, secret_file, line)
    return status if status >= 0 else 128 - status


def _relay_host() -> str:
    """Return our side of the loopback interface as the worker's address family has it."""
    # cctools' setting: IPV4 (default), IPV6 or AUTO. An IPv6 socket reaches an IPv4 one
    # by the address mapped into IPv6.
    return "::ffff:127.0.0.1" if os.environ.get("CCTOOLS_IP_MODE") == "IPV6" else "127.0.0.1"


def _yours(line: partial[str]) -> str:
    """Return the next step where the address leads to no manager."""
    given = line.keywords
    return its_manager(
        None, partial(manager_worker_command, options=given["options"], more=given["more"])
    )


def _other_kind(worker: str, line: Callable[..., str]) -> str:
    """Return what it means that the manager does not want such a worker."""
    kinds = {
        "vine_worker": ("work_queue_worker", "a Work Queue manager"),
        "work_queue_worker": ("vine_worker", "a TaskVine manager"),
    }
    what = f"the manager wants no {worker} such as this"
    tls = "if it has TLS, add --ssl to the worker's options"
    if worker not in kinds:
        return f"{what}; {tls}"
    other, kind = kinds[worker]
    return f"{what}; {tls}, and if it is {kind}, use its worker:\n  {line(worker=other)}"


def _tell(
    reason: SharedPortError,
    worker: str,
    sinful: Sinful,
    secret_file: str | None,
    line: partial[str],
) -> int:
    """Log what has ended the worker and what to do; return the exit status for it."""
    address = str(sinful)
    if isinstance(reason, WrongSecretError):
        which = "" if secret_file is None else f", by the file {secret_file}"
        step = its_secret(sinful.sock, partial(line, address))
        log.error("%s%s; so %s was ended; %s", reason.cause, which, worker, step)
        return ExitStatus.WRONG_SECRET
    if isinstance(reason, HandOffError):  # and the relay has said what to do
        log.error("%s; so %s was ended", reason, worker)
        return ExitStatus.LATER
    if has_successor(sinful):
        step = _yours(line)
    else:
        step = (
            "--connect-timeout 1h waits for longer; what fails is shown by:\n  "
            + connect_command(address, secret_file)
        )
    log.error("%s; so %s was ended; %s", reason, worker, step)
    return ExitStatus.LATER


# ---- another manager among the worker's options ----

# Options whose value is not the next word; as in launcher.sh. All others take one.
_WITHOUT_VALUE = re.compile(
    r"--.*=|--(ssl|disk-allocation|disable-symlinks|measure-capacity|foreman|advertise|help"
    r"|version|keep-workspace|debug-release)$|--(single|parent)|-[achv]$|--$|-[^-].+"
)
_NAME = re.compile(r"(-M|-N|--man[a-z-]*|--mas[a-z-]*)(=?)(.*)", re.DOTALL)


def check_options(options: Sequence[str], line: Callable[..., str]) -> None:
    """Refuse worker's options that name another manager than the address.

    With them the worker would go there, or ask the catalog for minutes. What is not known
    for sure is left for the worker to judge.

    Args:
        options: The worker's own.
        line: Returns the command to paste, with these ``options`` instead.

    Raises:
        SettingError: There is one.
    """
    kept: list[str] = []
    other: list[str] = []
    words = list(options)
    while words:
        word = words.pop(0)
        match = _NAME.fullmatch(word)
        if match is not None:
            other.append(word)
            if not match[3] and words:  # the name is the next word
                other.append(words.pop(0))
        elif word.startswith("-"):
            kept.append(word)
            if not _WITHOUT_VALUE.match(word) and words:
                kept.append(words.pop(0))
        elif words and words[0].isdecimal():
            other += [word, words.pop(0)]
        elif re.fullmatch(r".*:\d+", word):
            other.append(word)
        else:
            kept.append(word)
    if other:
        raise SettingError(
            f"{shlex.join(other)!r} among the worker's options names another manager than "
            f"--address, which is enough; leave it out:\n  {line(options=kept)}"
        )


# ---- the time limit ----


def _time_limit(options: Sequence[str]) -> float:
    """Return what the environment says, else what the worker's options say, else 900."""
    text = os.environ.get(environment.CONNECT_TIMEOUT)
    if text:
        try:
            return parse_seconds(text)
        except ValueError as error:
            raise SettingError(f"{environment.CONNECT_TIMEOUT}: {error}") from error
    for word in _values_of(options):
        try:
            return parse_seconds(word)
        except ValueError:
            continue  # for the worker to judge
    return _DEFAULT_LIMIT


def _values_of(options: Sequence[str]) -> Iterator[str]:
    """Return the values that a worker's time limit has, the last one first.

    Source: ``long_options`` in ``vine_worker_options.c`` and ``work_queue_worker.c``.
    """
    for at in reversed(range(len(options))):
        word = options[at]
        if word in ("-t", "--timeout", "--connect-timeout"):
            yield from options[at + 1 : at + 2]
        elif word.startswith(("--timeout=", "--connect-timeout=")):
            yield word.partition("=")[2]
        elif word.startswith("-t"):
            yield word[2:]


# ---- its end ----


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
