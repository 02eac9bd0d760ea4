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

from vine_sharedport.cli import common
from vine_sharedport.errors import ExitStatus, NoStatusError

__all__ = ["add_manager"]

log = logging.getLogger(__name__)

_SUBMIT = "vine_sharedport manager submit"


def add_manager(nouns: common.Subparsers) -> None:
    """Add the noun ``manager``."""
    parser = common.add_command(
        nouns, "manager", None,
        "Run a manager's program as an HTCondor job on the access point. It is a job of the"
        " local universe, for where long processes of users do not belong on the login "
        "node, and goes on when the terminal closes.",
        example="vine_sharedport manager submit --name sweep analysis.py --size 9",
    )  # fmt: skip
    parser.set_defaults(log=logging.WARNING)  # stdout tells what was done
    verbs = parser.add_names("VERB")
    _add_submit(verbs)
    listing = common.add_command(
        verbs, "list", _list,
        "Show all in the queue, and those that have ended lately.",
        example="vine_sharedport manager list --json",
    )  # fmt: skip
    status = common.add_command(
        verbs, "status", _status,
        "Show one manager. Exit status 1 if it has failed or is held.",
        example="vine_sharedport manager status sweep",
    )  # fmt: skip
    log = common.add_command(
        verbs, "log", _log,
        "Print what it has printed. Its output comes on stdout, and its errors on stderr.",
        example="vine_sharedport manager log sweep --follow",
    )  # fmt: skip
    log.add_argument(
        "--follow",
        action="store_true",
        help="go on until it has ended, and say how; exit status 1 if it failed or is held",
    )
    stop = common.add_command(
        verbs, "stop", _stop,
        "End it, and wait until it is gone. The program gets SIGTERM, and SIGKILL if it has"
        " not ended in time (--grace of 'manager submit').",
        example="vine_sharedport manager stop sweep",
    )  # fmt: skip
    stop.add_argument(
        "--timeout", metavar="TIME", type=common.duration,
        help="wait no longer, exit status 1 then; it goes on ending (default: for its grace)",
    )  # fmt: skip
    for verb in (status, log, stop):
        verb.add_argument(
            "manager", nargs="?", metavar="NAME|ID", help="default: the last one submitted"
        )
    for verb in (listing, status):
        common.add_json(verb)
    for verb in (listing, status, log, stop):
        common.add_no_own_pool(verb)


def _add_submit(verbs: common.Subparsers) -> None:
    submit = common.add_command(
        verbs, "submit", _submit,
        "Submit a Python program as a job. It runs in the present directory by "
        "the present Python, with PATH, PYTHONPATH, the virtual or conda environment and "
        "HTCondor's settings of this shell. A job's environment can be read by everybody in "
        "the pool.",
        example="vine_sharedport manager submit --name sweep analysis.py --size 9",
    )  # fmt: skip
    submit.add_argument("--name", help="what to call it (default: as the program)")
    submit.add_argument(
        "--log-dir", default="vine-managers", metavar="DIR",
        help="for its output, errors and log (default: vine-managers)",
    )  # fmt: skip
    submit.add_argument(
        "--run", dest="extend", action="store_true",
        help="run it by 'vine_sharedport run': its managers have a shared port although it "
        "does not ask for one; --shared-port-name and --no-gate are for that",
    )  # fmt: skip
    common.add_link_options(submit)
    submit.add_argument(
        "--env", action="append", default=[], metavar="NAME[=VALUE]",
        help="one more variable of the environment; may be given again",
    )  # fmt: skip
    submit.add_argument(
        "--grace", type=common.duration, default=60.0, metavar="TIME",
        help="time to end after SIGTERM when it is stopped (default: 60s)",
    )  # fmt: skip
    submit.add_argument(
        "--once", action="store_true",
        help="hold it when HTCondor has been restarted; else it is started again, from its "
        "beginning",
    )  # fmt: skip
    submit.add_argument(
        "--memory", type=common.size, metavar="SIZE",
        help="memory to ask for, where the administrator limits such jobs",
    )  # fmt: skip
    submit.add_argument(
        "--dry-run", action="store_true", help="print the submit description; submit nothing"
    )
    common.add_no_own_pool(submit)
    common.add_program(submit)


def _submit(options: argparse.Namespace) -> int:
    from vine_sharedport.condor.manager_job.description import ManagerProgram, describe_manager
    from vine_sharedport.condor.manager_job.job import submit_manager
    from vine_sharedport.manager.run import after_interpreter, is_interpreter

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
    common.warn_of_late_options(options.parser, options.program, options.arguments)
    if not options.extend and not options.module and _has_no_shared_port(options.program):
        words = ["--run", *_before_program(options), options.program, *options.arguments]
        log.warning(
            "%s asks for no shared port, without which no worker comes through one; unless one "
            "of its modules does, submit it so: %s %s",
            options.program, _SUBMIT, shlex.join(words),
        )  # fmt: skip
    common.choose_pool(options)
    if options.dry_run:
        print(describe_manager(manager).format(), end="")
        return ExitStatus.OK
    done = submit_manager(manager)
    print(f"The manager {done.name} is submitted as job {done.id}.")
    print(f"See it:    vine_sharedport manager status {done.name}")
    print(f"Read it:   vine_sharedport manager log {done.name} --follow")
    print(f"End it:    vine_sharedport manager stop {done.name}")
    return ExitStatus.OK


def _before_program(options: argparse.Namespace) -> list[str]:
    """Return the options as they were given, before the program and its own."""
    given: list[str] = options.parser.given
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


def _list(options: argparse.Namespace) -> int:
    from vine_sharedport.condor.manager_job import job as manager_job

    common.choose_pool(options)
    jobs = manager_job.list_managers()
    if options.json:
        print(json.dumps([job.as_dict() for job in jobs]))
    else:
        print("\n\n".join(map(str, jobs)) or "No manager is in the queue, or was lately.")
    return ExitStatus.OK


def _name(options: argparse.Namespace) -> str:
    """Return the name or number of the manager that is meant."""
    from vine_sharedport.condor.manager_job import job as manager_job

    common.choose_pool(options)
    if options.manager is not None:
        return str(options.manager)
    jobs = manager_job.list_managers()
    if not jobs:
        raise NoStatusError("no manager is in the queue, or was lately; submit one")
    return str(jobs[-1].id)


def _status(options: argparse.Namespace) -> int:
    from vine_sharedport.condor.manager_job import job as manager_job

    job = manager_job.find_manager(_name(options))
    print(json.dumps(job.as_dict()) if options.json else job)
    return ExitStatus.FAILED if job.failed or job.state == "held" else ExitStatus.OK


def _log(options: argparse.Namespace) -> int:
    from vine_sharedport.condor.manager_job import job as manager_job

    job = manager_job.find_manager(_name(options))
    streams = {"out": sys.stdout, "err": sys.stderr}
    for what, data in manager_job.follow_output(job, follow=options.follow):
        streams[what].buffer.write(data)
        streams[what].flush()
    if not options.follow:
        return ExitStatus.OK
    job = manager_job.find_manager(str(job.id))
    common.print_error(str(job).splitlines()[0])
    return ExitStatus.FAILED if job.failed or job.state == "held" else ExitStatus.OK


def _stop(options: argparse.Namespace) -> int:
    from vine_sharedport.condor.manager_job import job as manager_job

    job = manager_job.stop_manager(_name(options), timeout=options.timeout)
    if job.done:
        print(f"The manager {job.name} ({job.id}) has ended: {job.state}.")
        return ExitStatus.OK
    common.print_error(
        f"the manager {job.name} ({job.id}) is still ending; it goes on by itself"
    )
    return ExitStatus.FAILED
