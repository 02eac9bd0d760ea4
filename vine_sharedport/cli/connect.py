"""The noun ``connect`` of the ``vine_sharedport`` command."""

from __future__ import annotations

import argparse
import json
import os
from functools import partial

from vine_sharedport import environment, records
from vine_sharedport.cli import common
from vine_sharedport.errors import ExitStatus, SettingError, SinfulError, WrongSecretError
from vine_sharedport.registry.advice import has_successor, its_manager, its_secret
from vine_sharedport.registry.command_lines import connect_command
from vine_sharedport.registry.reference import Reference
from vine_sharedport.registry.run_file import secret_file_of

__all__ = ["add_connect"]


def add_connect(nouns: common.Subparsers) -> None:
    """Add the noun ``connect``."""
    parser = common.add_command(
        nouns, "connect", _connect,
        "Try a manager's address, and show what each way to it did. Connects as a worker on"
        " this machine would, and says whether that works.",
        example="vine_sharedport connect --explain --secret-file sweep.secret \\\n"
        "    '<192.0.2.7:9618?sock=vine_42>'",
        statuses=(ExitStatus.LATER, ExitStatus.WRONG_SECRET),
    )  # fmt: skip
    parser.add_argument(
        "address", metavar="ADDRESS", nargs="?",
        default=os.environ.get(environment.ADDRESS) or None,
        help=f"the manager's, in single quotes (default: ${environment.ADDRESS})",
    )  # fmt: skip
    parser.add_argument(
        "--explain",
        action="store_true",
        help="show the candidates and what each did, for the relay and for the shim",
    )
    common.add_json(parser)
    common.add_secret_file(parser)
    parser.add_argument(
        "--timeout", metavar="TIME", type=common.duration, default=30.0,
        help="for all candidates together (default: 30s)",
    )  # fmt: skip
    common.add_private_network(parser)


def _connect(options: argparse.Namespace) -> int:
    from vine_sharedport.bundle.shim_trial import try_shim
    from vine_sharedport.dialing.explain import attempt
    from vine_sharedport.secret_file import read_secret_file
    from vine_sharedport.wire.sinful import Sinful

    def line(manager: Reference) -> str:
        return connect_command(str(manager), manager.secret_file)

    if not options.address:
        what = common.no_address(options.address, "ADDRESS", environment.ADDRESS)
        options.parser.refuse(f"{what}; {its_manager(None, line)}")
    try:
        address = Sinful.parse(options.address)
    except SinfulError as error:
        step = its_manager(options.address, line)
        raise SinfulError(f"{error.cause}; {step}") from error
    again = partial(connect_command, options.address)
    secret = None
    if options.secret_file is not None:
        try:
            secret = read_secret_file(options.secret_file)
        except SettingError as error:
            if address.sock is None or secret_file_of(address.sock) is None:
                raise
            raise SettingError(f"{error.cause}; {its_secret(address.sock, again)}") from error
    try:
        found = attempt(
            address,
            secret=secret,
            timeout=options.timeout,
            private_network=options.private_network,
        )
    except SettingError as error:
        options.parser.error(f"the address {options.address} is no manager's: {error}")
    shim = None
    if options.explain and address.sock is not None:
        shim = try_shim(
            str(address),
            secret_file=options.secret_file,
            timeout=options.timeout,
            private_network=options.private_network,
        )
    if options.json:
        report = {**found.as_dict(), "shim": None if shim is None else shim.as_dict()}
        print(json.dumps(records.as_dict(report)))
        return found.exit_status
    if options.explain:
        print(found.explained(() if shim is None else shim.lines()))
    else:
        print(found)
    if isinstance(found.error, WrongSecretError):
        print(f"Next: {its_secret(address.sock, again)}")
    elif not found.works and has_successor(address):
        print(f"Next: {its_manager(None, line)}")
    return found.exit_status
