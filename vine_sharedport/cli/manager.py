"""The noun ``manager`` of the ``vine_sharedport`` command."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import re
import shlex
import sys
from pathlib import Path

from vine_sharedport.cli.common import (
    FAILURE,
    Parser,
    add_no_own_pool,
    choose_pool,
    in_megabytes,
    seconds,
    warn_of_late_options,
)

__all__ = ["add_manager"]

log = logging.getLogger(__name__)

_SUBMIT = "vine_sharedport manager submit"


def add_manager(nouns: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the noun to the command's parser."""
    parser = nouns.add_parser(
        "manager",
        help="run a manager's program as an HTCondor job on the access point",
        description="Run a manager's program as an HTCondor job on the access point itself "
        "(universe = local), where long processes of users do not belong on the login node. "
        "The job goes on when the terminal closes.",
    )
    parser.set_defaults(log=logging.WARNING)  # stdout tells what was done
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_submit(verbs)
    status = verbs.add_parser(
        "status",
        help="show one, or all; exit status 1 if the one has failed or is held",
        description="Show one manager, or all in the queue and those that have ended lately. "
        "Exit status 1 if it has failed or is held; of all of them, always 0.",
    )
    status.add_argument("manager", nargs="?", metavar="NAME|ID", help="default: all")
    status.add_argument("--json", action="store_true", help="print JSON: an object, or a list")
    status.set_defaults(run=_status)
    log = verbs.add_parser(
        "log",
        help="print what it has printed",
        description="Print the program's output on stdout, and its errors on stderr.",
    )
    log.add_argument("manager", metavar="NAME|ID")
    log.add_argument(
        "--follow",
        action="store_true",
        help="go on until it has ended, and say how; exit status 1 if it failed or is held",
    )
    log.set_defaults(run=_log)
    remove = verbs.add_parser(
        "remove",
        help="end it",
        description="Send the program SIGTERM, and SIGKILL if it has not ended in time "
        "(--grace of 'manager submit').",
    )
    remove.add_argument("manager", metavar="NAME|ID")
    remove.add_argument("--wait", action="store_true", help="wait until it is gone")
    remove.set_defaults(run=_remove)
    for verb in (status, log, remove):
        add_no_own_pool(verb)


def _add_submit(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    submit = verbs.add_parser(
        "submit",
        help="submit a Python program",
        description="Submit a Python program as a job. It runs in the present directory by "
        "the present Python, with PATH, PYTHONPATH, the virtual or conda environment and "
        "HTCondor's settings of this shell. A job's environment can be read by everybody in "
        "the pool.",
        epilog="example: vine_sharedport manager submit --name sweep analysis.py --size 9",
    )
    submit.add_argument("--name", help="what to call it (default: as the program)")
    submit.add_argument(
        "--log-dir",
        default="vine-managers",
        metavar="DIR",
        help="for its output, errors and log (default: vine-managers)",
    )
    submit.add_argument(
        "--run",
        dest="extend",
        action="store_true",
        help="run it by 'vine_sharedport run': its managers have a shared port although it "
        "does not ask for one",
    )
    submit.add_argument(
        "--shared-port-name",
        metavar="NAME",
        help="with --run: the sock id (default: a new one at each start)",
    )
    submit.add_argument(
        "--no-gate",
        dest="gate",
        action="store_false",
        help="with --run: do not ask workers for a secret",
    )
    submit.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="one more variable of the environment; may be given again",
    )
    submit.add_argument(
        "--grace",
        type=seconds,
        default=60.0,
        metavar="TIME",
        help="time to end after SIGTERM when it is removed: seconds, or such as 5m "
        "(default: 60)",
    )
    submit.add_argument(
        "--once",
        action="store_true",
        help="hold it when HTCondor has been restarted; else it is started again, from its "
        "beginning",
    )
    submit.add_argument(
        "--memory",
        type=_megabytes,
        metavar="MB",
        help="memory to ask for, where the administrator limits such jobs",
    )
    submit.add_argument(
        "--dry-run", action="store_true", help="print the submit description; submit nothing"
    )
    add_no_own_pool(submit)
    submit.add_argument("-m", dest="module", action="store_true", help="PROGRAM is a module")
    submit.add_argument("program", metavar="PROGRAM", help="the program's file")
    submit.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="...", help="the program's arguments"
    )
    submit.set_defaults(run=_submit, parser=submit)


def _submit(options: argparse.Namespace) -> int:
    from vine_sharedport.manager.run import after_interpreter, is_interpreter
    from vine_sharedport.pool.manager_description import ManagerProgram, describe_manager
    from vine_sharedport.pool.manager_job import submit_manager

    if not options.module and is_interpreter(options.program):
        words = [*_before_program(options), *after_interpreter(options.arguments)]
        options.parser.refuse(
            f"the program is run by Python anyway; leave {options.program} out:\n"
            f"  {_SUBMIT} {shlex.join(words)}"
        )
    shared_port = None
    if options.extend:
        shared_port = [] if options.gate else ["--no-gate"]
        if options.shared_port_name is not None:
            shared_port += ["--shared-port-name", options.shared_port_name]
    elif options.shared_port_name is not None or not options.gate:
        options.parser.error("--shared-port-name and --no-gate need --run")
    manager = ManagerProgram(
        options.program,
        options.arguments,
        name=options.name,
        log_dir=options.log_dir,
        module=options.module,
        shared_port=shared_port,
        env=options.env,
        grace=options.grace,
        once=options.once,
        memory=options.memory,
    )
    warn_of_late_options(options.parser, options.program, options.arguments)
    if not options.extend and not options.module and _has_no_shared_port(options.program):
        words = ["--run", *_before_program(options), options.program, *options.arguments]
        log.warning(
            "%s asks for no shared port, without which no worker comes through one; unless one "
            "of its modules does, submit it so: %s %s",
            options.program, _SUBMIT, shlex.join(words),
        )  # fmt: skip
    choose_pool(options)
    if options.dry_run:
        print(describe_manager(manager).format(), end="")
        return 0
    done = submit_manager(manager)
    print(f"The manager {done.name} is submitted as job {done.id}.")
    print(f"See it:    vine_sharedport manager status {done.name}")
    print(f"Read it:   vine_sharedport manager log {done.name} --follow")
    print(f"End it:    vine_sharedport manager remove {done.name}")
    return 0


def _before_program(options: argparse.Namespace) -> list[str]:
    """Return the options as they were given, before the program and its own."""
    given = options.parser._given if isinstance(options.parser, Parser) else []
    return given[: -1 - len(options.arguments)]


def _has_no_shared_port(program: str) -> bool:
    """Whether a program's text speaks of TaskVine or Work Queue, but of no shared port."""
    with contextlib.suppress(OSError):
        text = Path(program).read_bytes()
        # A NUL: an archive or compiled, whose words cannot be looked for.
        return bool(re.search(rb"(?i)ndcctools|taskvine|work_?queue", text)) and not re.search(
            rb"vine_sharedport|shared_port|\0", text
        )
    return False


def _status(options: argparse.Namespace) -> int:
    from vine_sharedport.pool import manager_job

    choose_pool(options)
    if options.manager is not None:
        job = manager_job.find_manager(options.manager)
        print(json.dumps(job.as_dict()) if options.json else job)
        return FAILURE if job.failed or job.state == "held" else 0
    jobs = manager_job.list_managers()
    if options.json:
        print(json.dumps([job.as_dict() for job in jobs]))
    else:
        print("\n\n".join(map(str, jobs)) or "No manager is in the queue, or was lately.")
    return 0


def _log(options: argparse.Namespace) -> int:
    from vine_sharedport.pool import manager_job

    choose_pool(options)
    job = manager_job.find_manager(options.manager)
    streams = {"out": sys.stdout, "err": sys.stderr}
    for what, data in manager_job.follow_output(job, follow=options.follow):
        streams[what].buffer.write(data)
        streams[what].flush()
    if not options.follow:
        return 0
    job = manager_job.find_manager(str(job.id))
    print(f"vine_sharedport: {str(job).splitlines()[0]}", file=sys.stderr)
    return FAILURE if job.failed or job.state == "held" else 0


def _remove(options: argparse.Namespace) -> int:
    from vine_sharedport.pool import manager_job

    choose_pool(options)
    job = manager_job.remove_manager(options.manager, wait=options.wait)
    if job.done:
        print(f"The manager {job.name} ({job.id}) has ended: {job.state}.")
    else:
        print(f"The manager {job.name} ({job.id}) is told to end.")
    return 0


def _megabytes(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number of 1 or more megabytes"
            f"{in_megabytes(text, 1, sys.maxsize)}"
        )
    return int(text)
