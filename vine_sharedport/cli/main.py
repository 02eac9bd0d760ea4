"""The ``vine_sharedport`` command."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
from collections.abc import Sequence

from vine_sharedport import environment
from vine_sharedport.cli.common import Parser, print_error
from vine_sharedport.cli.connect import add_connect
from vine_sharedport.cli.doctor import add_doctor
from vine_sharedport.cli.expose import add_expose
from vine_sharedport.cli.factory import add_factory
from vine_sharedport.cli.manager import add_manager
from vine_sharedport.cli.pool import add_pool
from vine_sharedport.cli.run import add_run, run
from vine_sharedport.cli.worker import add_worker
from vine_sharedport.errors import ExitStatus, SharedPortError

__all__ = ["main"]

_BROKEN_PIPE = 128 + signal.SIGPIPE

# What write(2) says of a reader that is gone and of a file system that takes no more.
_OUTPUT_ERRORS = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    _open_standard_files()
    parser = _make_parser()
    options = parser.parse_args(arguments)
    _log_to_stderr(logging.DEBUG if options.verbose else getattr(options, "log", logging.INFO))
    environment.warn_of_unknown()
    try:
        status = int(options.run(options))
        sys.stdout.flush()
        return status
    except SharedPortError as error:
        print_error(error)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        # A program that we run has its own errors, and its own way of telling them.
        if options.run is run or not _output_is_lost(error):
            raise
        if isinstance(error, BrokenPipeError):
            return _BROKEN_PIPE  # as of a program that the signal has ended; head wants no more
        print_error(f"cannot write the output: {error.strerror}")
        return ExitStatus.FAILED


def _open_standard_files() -> None:
    """Open /dev/null for those that are closed; else a connection would get their numbers."""
    for fd, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(fd, True)  # for the programs that we start, too
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, closefd=False))


def _output_is_lost(error: OSError) -> bool:
    """Whether the error is stdout's; if so, nothing is written there any more."""
    if error.filename is not None or error.errno not in _OUTPUT_ERRORS:
        return False
    # At the end the interpreter writes what is left, and would tell the error again.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return True


def _log_to_stderr(level: int) -> None:
    """Show our own messages alone: a program that we run sets up its logging as it likes."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("vine_sharedport: %(message)s"))
    logger = logging.getLogger("vine_sharedport")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def _make_parser() -> Parser:
    parser = Parser(
        prog="vine_sharedport",
        description="TaskVine and Work Queue workers reach their manager through HTCondor's\n"
        "shared port.",
        statuses=tuple(ExitStatus),
        epilog="'vine_sharedport NOUN --help' describes each, 'vine_sharedport NOUN VERB "
        "--help' about each of its verbs.",
    )
    parser.add_argument("--verbose", action="store_true", help="log every step on stderr")
    parser.add_argument("--version", action=_Version)
    nouns = parser.add_names("NOUN")
    add_doctor(nouns)
    add_worker(nouns)
    add_connect(nouns)
    add_run(nouns)
    add_expose(nouns)
    add_pool(nouns)
    add_manager(nouns)
    add_factory(nouns)
    return parser


class _Version(argparse.Action):
    """Print the version and end; to find it out takes longer than all else at the start."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, *_: object) -> None:
        import importlib.metadata

        try:
            print("vine_sharedport", importlib.metadata.version("vine-sharedport"))
        except importlib.metadata.PackageNotFoundError:
            print("vine_sharedport, not installed but run from its files")
        raise SystemExit(0)
