"""The noun ``worker`` of the ``vine_sharedport`` command."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
from functools import partial

from vine_sharedport import environment
from vine_sharedport.cli.common import (
    Subparsers,
    add_command,
    add_private_network,
    add_secret_file,
    duration,
    no_address,
    print_error,
)
from vine_sharedport.errors import (
    ExitStatus,
    LaunchError,
    SettingError,
    SharedPortError,
    SinfulError,
    WrongSecretError,
)
from vine_sharedport.registry.advice import PRINT_IT, its_manager
from vine_sharedport.registry.command_lines import manager_worker_command, worker_command

__all__ = ["add_worker"]

log = logging.getLogger(__name__)

# Seconds for the gate's greeting, where nothing depends on it but a warning.
_ASK_GATE_TIMEOUT = 3.0


def add_worker(nouns: Subparsers) -> None:
    """Add the noun ``worker``."""

    parser = add_command(
        nouns, "worker", _run_worker,
        "Run a worker whose manager is behind a shared port. It is an unmodified "
        "vine_worker (or work_queue_worker). Ends with it, with its exit status.",
        example="vine_sharedport worker --address '<192.0.2.7:9618?sock=vine_42>' -- --cores 4",
        statuses=(
            ExitStatus.LATER, ExitStatus.WRONG_SECRET, ExitStatus.SETTING,
            ExitStatus.NOT_EXECUTABLE, ExitStatus.NO_PROGRAM,
        ),
    )  # fmt: skip
    parser.add_argument(
        "--address", metavar="SINFUL", default=os.environ.get(environment.ADDRESS) or None,
        help="the manager's address, as manager.shared_port.address has it; keep the shell "
        f"away from its < and & by single quotes (default: ${environment.ADDRESS})",
    )  # fmt: skip
    add_secret_file(parser)
    parser.add_argument("--worker", metavar="PROGRAM", help="default: vine_worker")
    parser.add_argument(
        "--connect-timeout", metavar="TIME",
        type=duration,  # of the variable it is judged where it is read
        help="give up when the manager could not be reached for so long (default: "
        f"${environment.CONNECT_TIMEOUT}, else the worker's own --timeout or "
        "--connect-timeout, else 15m)",
    )  # fmt: skip
    add_private_network(parser)
    parser.add_argument(
        "--bundle", metavar="DIR",
        help="run nothing, but write what a worker needs on another machine into DIR, and "
        "print the command line for there",
    )  # fmt: skip
    parser.add_argument(
        "words", nargs="*", metavar="-- OPTION", help="the worker's own options, after --"
    )
    parser.set_defaults(
        rest="options",
        hint="The worker's own options follow --, as in: "
        "vine_sharedport worker -- --cores 4 --timeout 600",
    )


def _run_worker(options: argparse.Namespace) -> int:
    from vine_sharedport.bundle import local_worker

    _use_words(options)
    if options.bundle == "":
        options.parser.error("--bundle is empty: give the directory to write")
    if options.bundle is not None:
        return _write_bundle(options)
    try:
        return local_worker.run_worker(
            options.address,
            options.options,
            secret_file=options.secret_file,
            worker=options.worker or "vine_worker",
            connect_timeout=options.connect_timeout,
            private_network=options.private_network,
        )
    except (SinfulError, SettingError) as error:
        status: int = ExitStatus.SETTING
        print_error(error)
    except LaunchError as error:
        status = ExitStatus.NO_PROGRAM
        print_error(error)
    return status


def _use_words(options: argparse.Namespace) -> None:
    """Take an address that stands alone; refuse other words before --, and having none."""

    words = options.words
    if options.address is None and len(words) == 1 and words[0].startswith("<"):
        options.address, words = words[0], []
    if options.address and not words:
        return

    if options.address and words:
        what = f"{shlex.join(words)!r} is too much beside --address; leave it out"
        again = worker_command(
            options.address, options.secret_file, worker=options.worker or "vine_worker",
            options=options.options,
        )  # fmt: skip
        options.parser.refuse(f"{what}, or write the worker's own options after --:\n  {again}")
    name = words[0] if len(words) == 1 else None
    if words:
        what = f"{shlex.join(words)!r} is no address of a manager"
    else:
        what = no_address(options.address, "--address", environment.ADDRESS)
    line = partial(manager_worker_command, options=options.options)
    options.parser.refuse(f"{what}; {its_manager(name, line)}")


def _write_bundle(options: argparse.Namespace) -> int:
    from vine_sharedport.bundle.package import write_bundle

    print(
        write_bundle(
            options.bundle,
            options.address,
            secret_file=options.secret_file,
            worker=options.worker,
            options=options.options,
        ),
        flush=True,
    )
    if options.secret_file is None:
        _warn_without_secret(options.address)
    return 0


def _warn_without_secret(address: str) -> None:
    """Warn if the manager asks for a secret, or if it cannot be asked from here."""
    from vine_sharedport.dialing.dial import connect

    try:
        connect(address, timeout=_ASK_GATE_TIMEOUT, check=True).close()
        return  # no gate has greeted
    except WrongSecretError:
        known = "the manager asks for its secret: without it the bundle's workers are refused"
    except (SharedPortError, OSError):
        known = (
            "the bundle has no secret, and the manager was not reached to ask whether it needs "
            "one: unless it has gate=False, the bundle's workers are refused"
        )
    log.warning(
        "%s; write it again with --secret-file and the manager's secret file: in its program, "
        "%s shows where it is",
        known, PRINT_IT,
    )  # fmt: skip
