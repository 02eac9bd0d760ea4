"""The noun ``pool`` of the ``vine_sharedport`` command."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os

from vine_sharedport.cli.common import FAILURE, in_megabytes
from vine_sharedport.errors import SharedPortError

__all__ = ["add_pool"]


def add_pool(nouns: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the noun ``pool``."""
    parser = nouns.add_parser(
        "pool",
        help="start, look at or stop an HTCondor pool of your own",
        description="A personal HTCondor pool on this machine, with a shared port, for trying "
        "things out where there is no HTCondor. Needs HTCondor's programs and no rights.",
    )
    parser.set_defaults(log=logging.WARNING)  # stdout tells what was done
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    start = verbs.add_parser("start", help="start one; it runs until 'pool stop'")
    start.add_argument(
        "--cpus", type=_cpus, help="cores that its slots offer (default: 4 or more)"
    )
    start.add_argument(
        "--memory", type=_memory, metavar="MB", help="memory that its slots offer"
    )
    start.set_defaults(run=_start_pool)
    status = verbs.add_parser("status", help="show what runs; exit status 1 if nothing does")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.set_defaults(run=_show_pool)
    stop = verbs.add_parser("stop", help="stop it and its jobs, and wait for their end")
    stop.set_defaults(run=_stop_pool)
    env = verbs.add_parser(
        "env",
        help="print what a shell needs for condor_q and the like; exit status 1 without a pool",
        description="Print commands by which HTCondor's own tools use the pool in this shell "
        "(sh, bash, zsh). vine_sharedport's commands need no such thing.",
        epilog='example: eval "$(vine_sharedport pool env)"',
    )
    env.set_defaults(run=_print_environment)
    for verb in (start, status, stop, env):
        verb.add_argument(
            "--directory", help="the pool's directory (default: one for each user in $TMPDIR)"
        )


def _cpus(text: str) -> int:
    from vine_sharedport.pool._pool_config import CPUS

    return _size(text, CPUS)


def _memory(text: str) -> int:
    from vine_sharedport.pool._pool_config import MEMORY

    return _size(text, MEMORY, f" megabytes{in_megabytes(text, *MEMORY)}")


def _size(text: str, limits: tuple[int, int], unit: str = "") -> int:
    """Return what a pool shall offer; argparse tells anything else as a usage error."""
    from vine_sharedport.pool._pool_config import check_size

    try:
        return check_size(text, limits)
    except SharedPortError as error:
        raise argparse.ArgumentTypeError(f"{error}{unit}") from error


def _start_pool(options: argparse.Namespace) -> int:
    from vine_sharedport.pool import personal

    pool = personal.start_pool(options.directory, cpus=options.cpus, memory=options.memory)
    print(personal.usage_text(pool))
    return 0


def _show_pool(options: argparse.Namespace) -> int:
    from vine_sharedport.pool import personal

    status = personal.pool_status(options.directory or _pool_of_shell())
    if options.json:
        print(json.dumps(dataclasses.asdict(status)))
    else:
        print(status)
        if not status.running:
            _tell_of_others("status")
    return 0 if status.running else FAILURE


def _stop_pool(options: argparse.Namespace) -> int:
    from vine_sharedport.pool import personal

    of_shell = _pool_of_shell()
    directory = options.directory or of_shell or personal.default_directory()
    if personal.stop_pool(directory):
        print(f"The pool in {directory} has ended.")
        if of_shell is not None and os.path.realpath(of_shell) == os.path.realpath(directory):
            print("In this shell: unset CONDOR_CONFIG")
    else:
        print(f"No pool runs in {directory}.")
        _tell_of_others("stop")
    return 0


def _pool_of_shell() -> str | None:
    """Return the directory of the personal pool that ``CONDOR_CONFIG`` leads to, or led."""
    from vine_sharedport.pool import personal

    directory, name = os.path.split(os.environ.get("CONDOR_CONFIG", ""))
    if name != "condor_config" or not os.path.isabs(directory):
        return None
    # What is another HTCondor's has no notes beside it; of a pool that has ended nothing
    # may be left.
    is_other = os.path.exists(os.environ["CONDOR_CONFIG"]) and not personal.is_place(directory)
    return None if is_other else directory


def _tell_of_others(verb: str) -> None:
    """Name the user's pools elsewhere, where none is in the directory that was looked at."""
    from vine_sharedport.pool import personal

    for directory in personal.running_pools():
        print(f"One runs in {directory}: {personal.command(verb, directory)}")


def _print_environment(options: argparse.Namespace) -> int:
    from vine_sharedport.pool import personal

    directory = options.directory or _pool_of_shell()
    if directory is None:
        directory = next(iter(personal.running_pools()), None)
    print(personal.shell_text(personal.PersonalPool.find(directory)))
    return 0
