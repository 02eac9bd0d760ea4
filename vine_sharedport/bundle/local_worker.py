"""Run an unmodified worker whose manager is behind a shared port."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Callable

from vine_sharedport import environment
from vine_sharedport.bundle.worker_program import find_program
from vine_sharedport.errors import (
    ExitStatus,
    LaunchError,
    SettingError,
    SinfulError,
)
from vine_sharedport.registry.advice import has_successor, its_manager, its_secret
from vine_sharedport.registry.command_lines import (
    connect_command,
    manager_worker_command,
    worker_command,
)
from vine_sharedport.registry.reference import check_address
from vine_sharedport.registry.run_file import running_managers, secret_file_of
from vine_sharedport.secret_file import read_secret_file
from vine_sharedport.supervision import PR_SET_PDEATHSIG, prctl
from vine_sharedport.units import parse_seconds
from vine_sharedport.wire.sinful import Sinful
from vine_sharedport.worker.relay import passing_signals_on

__all__ = [
    "LAUNCHER",
    "check_options",
    "launcher_path",
    "run_worker",
]

log = logging.getLogger(__name__)

LAUNCHER = "launcher.sh"
"""The launcher's name, here and in a bundle."""


def run_worker(
    address: str,
    options: Sequence[str] = (),
    *,
    secret_file: str | None = None,
    worker: str = "vine_worker",
    connect_timeout: float | None = None,
    private_network: str | None = None,
) -> int:
    """Run a worker by the launcher until it ends.

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
        The worker's exit status, as a shell gives it: 128 + N if signal N ended it. 77
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
        if secret_file is not None:
            read_secret_file(secret_file)
    except SettingError as error:
        if sinful.sock is None or secret_file_of(sinful.sock) is None:
            raise
        step = its_secret(sinful.sock, partial(line, address))
        raise SettingError(f"{error.cause}; {step}") from error
    _check_kind(sinful, worker, partial(line, address, secret_file))
    try:
        program = find_program(worker, option="--worker")
    except SettingError as error:
        raise LaunchError(str(error)) from error  # as a shell tells it, by its status
    limit = _given_limit() if connect_timeout is None else connect_timeout
    given = {
        environment.ADDRESS: address,
        environment.SECRET_FILE: secret_file,
        environment.PRIVATE_NETWORK: private_network,
        environment.CONNECT_TIMEOUT: None if limit is None else f"{max(1.0, limit):.0f}",
        environment.PYTHON: sys.executable,
        environment.COMMAND: "1",
    }
    variables = {**os.environ, **{name: value for name, value in given.items() if value}}
    if secret_file is None:
        variables.pop(environment.SECRET_FILE, None)
    if "--parent-death" in options:  # its parent are we
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    with passing_signals_on() as started:
        words = ["/bin/sh", launcher_path(), program, *options]
        process = subprocess.Popen(words, env=variables)
        started(process)
        status = process.wait()
    _advise(status, worker, sinful, secret_file, line)
    return status if status >= 0 else 128 - status


def launcher_path() -> str:
    """Return the path of the launcher in this installation."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return os.path.join(package, "worker", LAUNCHER)


def _yours(line: partial[str]) -> str:
    """Return the next step where the address leads to no manager."""
    given = line.keywords
    return its_manager(
        None, partial(manager_worker_command, options=given["options"], more=given["more"])
    )


def _check_kind(sinful: Sinful, worker: str, line: Callable[..., str]) -> None:
    """Refuse another system's worker, where the manager is known here."""
    kinds = {"vine_worker", "work_queue_worker"}
    for manager in running_managers():
        others = kinds - {manager.worker} if manager.system else ()
        if manager.sock_id == sinful.sock and os.path.basename(worker) in others:
            raise SettingError(
                f"the manager wants no {os.path.basename(worker)} such as this; use its own "
                f"worker:\n  {line(worker=manager.worker)}"
            )


def _given_limit() -> float | None:
    """Return the environment's time limit; None without one."""
    text = os.environ.get(environment.CONNECT_TIMEOUT)
    try:
        return parse_seconds(text) if text else None
    except ValueError as error:
        raise SettingError(f"{environment.CONNECT_TIMEOUT}: {error}") from error


def _advise(
    status: int, worker: str, sinful: Sinful, secret_file: str | None, line: partial[str]
) -> None:
    """Log what to do about a manager that was not reached; who ended the worker said why."""
    address = str(sinful)
    if status == ExitStatus.WRONG_SECRET:
        which = "" if secret_file is None else f" by the file {secret_file}"
        step = its_secret(sinful.sock, partial(line, address))
        log.error("%s had no right secret%s; %s", worker, which, step)
    elif status == ExitStatus.LATER and has_successor(sinful):
        log.error("the manager of this address may have ended; %s", _yours(line))
    elif status == ExitStatus.LATER:
        log.error(
            "if its manager has not ended, --connect-timeout 1h waits for longer; what fails "
            "is shown by:\n  %s",
            connect_command(address, secret_file),
        )


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
