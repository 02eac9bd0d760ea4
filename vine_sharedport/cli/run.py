"""The noun ``run`` of the ``vine_sharedport`` command."""

from __future__ import annotations

import argparse
import shlex
import sys

from vine_sharedport.cli import common
from vine_sharedport.errors import ExitStatus, SharedPortError

__all__ = ["add_run", "run"]


def add_run(nouns: common.Subparsers) -> None:
    """Add the noun ``run``."""
    parser = common.add_command(
        nouns, "run", run,
        "Run a Python program, its managers having a shared port. Every TaskVine Manager "
        "and WorkQueue that it makes, in its child processes too, gets one beside its TCP "
        "port. Ends with the program, with its exit status.",
        example="vine_sharedport run --shared-port-name sweep analysis.py --size 9",
    )  # fmt: skip
    common.add_link_options(parser)
    parser.add_argument(
        "--peer-transfers", choices=("off", "site"), default="off",
        help="site: all workers share one LAN and fetch files from each other (default: off)",
    )  # fmt: skip
    common.add_no_own_pool(parser)
    common.add_program(parser)


def run(options: argparse.Namespace) -> int:
    """Run the program that the command line names."""
    from vine_sharedport.manager.run import (
        check_program,
        is_interpreter,
        place_in_program,
        run_program,
        traceback_of_program,
    )
    from vine_sharedport.manager.settings import SharedPort

    if not options.module and is_interpreter(options.program):
        options.parser.refuse(
            f"the program is run by Python anyway; leave {options.program} out:\n"
            f"  {_run_command(options)}"
        )
    settings = SharedPort(
        name=options.shared_port_name, gate=options.gate, keepalive=options.keepalive,
        peer_transfers=options.peer_transfers,
    )  # fmt: skip
    common.warn_of_late_options(options.parser, options.program, options.arguments)
    common.choose_pool(options)
    arguments = [options.program, *options.arguments]
    check_program(options.program, module=options.module)
    try:
        run_program(arguments, settings, module=options.module)
    except (SystemExit, KeyboardInterrupt):
        raise
    except SharedPortError as error:
        place = place_in_program(error)
        common.print_error(f"{place and f'{place}: '}{error}")
        return ExitStatus.FAILED
    except BaseException as error:  # the program's own: as Python would tell it
        error = error.with_traceback(traceback_of_program(error))
        sys.excepthook(type(error), error, error.__traceback__)
        return ExitStatus.FAILED
    return 0


def _run_command(options: argparse.Namespace) -> str:
    """Return the command line without the interpreter and its options."""
    from vine_sharedport.manager.run import after_interpreter

    words = ["vine_sharedport", "run"]
    if options.shared_port_name is not None:
        words += ["--shared-port-name", options.shared_port_name]
    words += [] if options.gate else ["--no-gate"]
    words += [] if options.peer_transfers == "off" else ["--peer-transfers", "site"]
    return shlex.join([*words, *after_interpreter(options.arguments)])
