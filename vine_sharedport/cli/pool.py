"""The noun ``pool`` of the ``vine_sharedport`` command."""

from __future__ import annotations

import argparse
import json
import logging
import os

from vine_sharedport import records
from vine_sharedport.cli import common
from vine_sharedport.errors import ExitStatus

__all__ = ["add_pool"]


def add_pool(nouns: common.Subparsers) -> None:
    """Add the noun ``pool``."""
    parser = common.add_command(
        nouns, "pool", None,
        "Start, look at or stop an HTCondor pool of your own. It has a shared port, for trying "
        "things out where there is no HTCondor. Needs HTCondor's programs and no rights.",
        example="vine_sharedport pool start --cpus 8 --memory 4GB",
    )  # fmt: skip
    parser.set_defaults(log=logging.WARNING)  # stdout tells what was done
    verbs = parser.add_names("VERB")
    start = common.add_command(
        verbs, "start", _start,
        "Start one in the background, or find it running. It runs until 'pool "
        "stop', and every command of this user finds it.",
        example="vine_sharedport pool start --cpus 8 --memory 4GB",
    )  # fmt: skip
    start.add_argument(
        "--cpus", type=int, metavar="N", help="cores that its slots offer (default: 4 or more)"
    )
    start.add_argument(
        "--memory",
        type=common.size,
        metavar="SIZE",
        help="memory of its slots (default: all)",
    )
    status = common.add_command(
        verbs, "status", _status,
        "Show what runs of the pool. Exit status 1 if nothing does.",
        example="vine_sharedport pool status --json",
    )  # fmt: skip
    common.add_json(status)
    stop = common.add_command(
        verbs,
        "stop",
        _stop,
        "Stop it and its jobs, and wait for their end.",
    )
    env = common.add_command(
        verbs, "env", _env,
        "Print what a shell needs for condor_q and the like (sh, bash, zsh). "
        "vine_sharedport's commands need no such thing.",
        example='eval "$(vine_sharedport pool env)"',
    )  # fmt: skip
    for verb in (start, status, stop, env):
        usual = "one for each user in $TMPDIR" if verb is start else "of the pool that is used"
        verb.add_argument(
            "--directory", metavar="DIR", help=f"the pool's directory (default: {usual})"
        )


def _start(options: argparse.Namespace) -> int:
    from vine_sharedport.condor import standalone_pool

    pool = standalone_pool.start_pool(
        options.directory, cpus=options.cpus, memory=options.memory
    )
    print(standalone_pool.usage_text(pool))
    return ExitStatus.OK


def _status(options: argparse.Namespace) -> int:
    from vine_sharedport.condor.personal_pool.status import pool_status

    status = pool_status(_directory(options))
    if options.json:
        print(json.dumps(records.as_dict(status)))
    else:
        print(status)
        if not status.running:
            _tell_of_others("status")
    return ExitStatus.OK if status.running else ExitStatus.FAILED


def _stop(options: argparse.Namespace) -> int:
    from vine_sharedport.condor import standalone_pool
    from vine_sharedport.condor.personal_pool.status import count_jobs

    directory, of_shell = _directory(options), _pool_of_shell()
    jobs = count_jobs(directory)
    if jobs:
        are = "1 job runs; it ends" if jobs == 1 else f"{jobs} jobs run; they end"
        print(f"{are} with the pool.", flush=True)
    if standalone_pool.stop_pool(directory):
        print(f"The pool in {directory} has ended.")
        if of_shell is not None and os.path.realpath(of_shell) == os.path.realpath(directory):
            print("In this shell: unset CONDOR_CONFIG")
    else:
        print(f"No pool runs in {directory}.")
        _tell_of_others("stop")
    return ExitStatus.OK


def _env(options: argparse.Namespace) -> int:
    from vine_sharedport.condor import standalone_pool
    from vine_sharedport.condor.personal import PersonalPool

    print(standalone_pool.shell_text(PersonalPool.find(_directory(options))))
    return ExitStatus.OK


def _directory(options: argparse.Namespace) -> str:
    """Return the directory of the pool that is meant: the one that other commands use."""
    from vine_sharedport.condor.personal_pool import directory as pool_directory

    named = options.directory or _pool_of_shell()
    return str(
        named or next(iter(pool_directory.running_pools()), pool_directory.default_directory())
    )


def _pool_of_shell() -> str | None:
    """Return the directory of the personal pool that ``CONDOR_CONFIG`` leads to, or led."""
    from vine_sharedport.condor.personal_pool import directory as pool_directory

    directory, name = os.path.split(os.environ.get("CONDOR_CONFIG", ""))
    if name != "condor_config" or not os.path.isabs(directory):
        return None
    # What is another HTCondor's has no notes beside it; of a pool that has ended nothing
    # may be left.
    is_other = os.path.exists(
        os.environ["CONDOR_CONFIG"]
    ) and not pool_directory.is_pool_directory(directory)
    return None if is_other else directory


def _tell_of_others(verb: str) -> None:
    """Name the user's pools elsewhere, where none is in the directory that was looked at."""
    from vine_sharedport.condor.personal_pool import directory as pool_directory

    for directory in pool_directory.running_pools():
        print(f"One runs in {directory}: {pool_directory.command(verb, directory)}")
