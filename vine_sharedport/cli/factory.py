"""The noun ``factory`` of the ``vine_sharedport`` command."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import logging
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from vine_sharedport.cli.common import FAILURE, Parser, add_no_own_pool, choose_pool, nearest
from vine_sharedport.errors import LaunchError

__all__ = ["add_factory"]

log = logging.getLogger(__name__)


# The options of vine_factory with the letters that it has for them.
_LETTERS = {
    "batch_type": "-T",
    "config_file": "-C",
    "min_workers": "-w",
    "max_workers": "-W",
    "timeout": "-t",
    "capacity": "-c",
    "extra_options": "-E",
    "password": "-P",
    "batch_options": "-B",
    "directory": "-S",
    "debug": "-d",
    "debug_file": "-o",
    "debug_file_size": "-O",
}
_VERBS = ("status", "stop", "list", "run")

# What people type who look for the verb that starts one.
_STARTING = ("start", "begin", "serve", "create", "new", "submit")
_NAMING = ("-M", "-N", "--manager-name", "--address", "-C", "--config-file")
_COMMAND = "vine_sharedport"


def add_factory(nouns: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the noun to the command's parser."""
    parser = nouns.add_parser(
        "factory",
        help="keep as many workers in HTCondor as a manager's tasks need",
        add_help=False,
        # What follows is for one of four parsers: with a prefix that nobody types, all of it
        # gets through.
        prefix_chars="\0",
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    arguments = list(options.arguments)
    program = options.parser.prog
    verb = arguments[0] if arguments and arguments[0] in _VERBS else None
    if verb is None:
        return _serve(program, arguments)
    call: Any = {"status": _status, "stop": _stop, "list": _list, "run": _run_directory}[verb]
    return int(call(f"{program} {verb}", arguments[1:]))


# --- the factory itself


def _make_parser(program: str) -> Parser:
    import dataclasses

    from vine_sharedport.factory.options import ALIASES, REFUSED, Kind, Options

    parser = Parser(
        prog=program,
        description="Keep as many workers in HTCondor as the tasks of a manager need; the "
        "workers come back to it through the shared port. Runs until the manager has ended, "
        "or until SIGTERM or Ctrl-C, and removes its jobs then.",
        usage=f"{program} [OPTION...] -M NAME | --address SINFUL [--secret-file FILE]\n"
        f"       {program} status|stop [NAME|DIR] | list [--help]",
        epilog="docs/factory.md tells what each option does, and how it differs from "
        "vine_factory's.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "manager", nargs="*", metavar="HOST PORT",
        help="for vine_factory's command lines: ask the manager by TCP (HOST:PORT as well); "
        "its workers need --address all the same",
    )  # fmt: skip
    names: dict[str, list[str]] = {}
    for option in dataclasses.fields(Options):
        names[option.name] = ["--" + option.name.replace("_", "-")]
    for alias, name in ALIASES.items():
        names[name].append("--" + alias.replace("_", "-"))
    names["manager_name"][:0] = ["-M", "-N"]
    for option in dataclasses.fields(Options):
        if option.name == "manager_host_port":
            continue
        letters = [_LETTERS[option.name]] if option.name in _LETTERS else []
        flag = isinstance(option.default, bool)
        repeated = isinstance(option.default, tuple)
        text = option.metadata["text"].replace("%", "%%")
        if option.default not in (None, False, ()):
            text += f" (default: {option.default})"
        parser.add_argument(
            *letters, *names[option.name],
            dest=option.name,
            default=None,
            help=argparse.SUPPRESS if option.metadata["kind"] is Kind.MEANINGLESS else text,
            **(
                {"action": "store_const", "const": True} if flag
                else {"action": "append" if repeated else "store", "metavar": "VALUE"}
            ),
        )  # fmt: skip
    for name in REFUSED:
        letters = ["-F"] if name == "foremen_name" else []
        parser.add_argument(
            *letters, "--" + name.replace("_", "-"), dest=name, default=None, nargs="?",
            const="", help=argparse.SUPPRESS,
        )  # fmt: skip
    parser.add_argument(
        "--work-queue", dest="system", action="store_const", const="work_queue",
        help="the manager is a Work Queue: --system work_queue",
    )  # fmt: skip
    parser.add_argument(
        "--prometheus-file", metavar="FILE",
        help="write the numbers there each cycle, for Prometheus's textfile collector",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true",
        help="print what would be submitted for each worker; submit nothing",
    )  # fmt: skip
    add_no_own_pool(parser)
    return parser


def _serve(program: str, arguments: Sequence[str]) -> int:
    """Run a factory in the foreground, as vine_factory does."""
    from vine_sharedport.factory import api, files, process, setup

    parser = _make_parser(program)
    word = arguments[0] if arguments else "-"
    if not word.startswith("-") and not re.match(r".+:\d+(:|$)", ":".join(arguments[:2])):
        parser.refuse(_explain_word(word, arguments[1:]))
    options = parser.parse_args(arguments)
    values = {
        name: value
        for name, value in vars(options).items()
        if value is not None
        and name not in ("manager", "prometheus_file", "dry_run", "no_own_pool")
    }
    if options.manager:
        if len(options.manager) > 2:
            parser.error(f"unrecognized arguments: {' '.join(options.manager[2:])}")
        values["manager_host_port"] = ":".join(options.manager)
    values.setdefault("batch_type", "condor")
    if values["batch_type"] != "condor":
        parser.error(
            f"-T {values['batch_type']}: workers are HTCondor jobs here; use vine_factory "
            "with the launcher of 'vine_sharedport worker --bundle' as its wrapper"
        )
    if not {"address", "manager_name", "config_file"} & set(values):
        parser.error("give the manager: -M NAME, or --address SINFUL with --secret-file FILE")
    choose_pool(options, elsewhere=not values.keys().isdisjoint(("schedd", "pool")))
    host_port = values.pop("manager_host_port", None)
    factory = api.Factory(manager_host_port=host_port, **values)
    if options.dry_run:
        print(factory.submit_description(), end="")
        return 0
    resolved = setup.resolve(factory._given)
    directory = setup.choose_directory(resolved)
    prometheus_file = options.prometheus_file
    if prometheus_file is not None:
        prometheus_file = os.path.abspath(prometheus_file)
        if os.path.dirname(prometheus_file) != directory:  # which is not made yet
            _check_prometheus_file(prometheus_file)
    _tell_of_others(resolved)
    with setup.prepare(resolved, directory) as (resolved, lock):
        _log_to(resolved, os.path.join(directory, files.LOG))
        print(f"The factory works in {directory}", flush=True)
        print(f"See it:  vine_sharedport factory status {directory}", flush=True)
        owner = None
        if resolved.parent_death:
            from vine_sharedport.supervision import find_process

            owner = find_process(os.getppid())
        return process.run(directory, owner=owner, prometheus_file=prometheus_file, lock=lock)


def _tell_of_others(options: Any) -> None:
    """Tell of another factory near here that serves the same manager."""
    from vine_sharedport.factory import near

    for one in near.find_factories():
        if one.running and one.serves(options.address):
            log.warning(
                "another factory serves this manager already; together they have at most "
                "max_workers (%d here). See it: vine_sharedport factory status %s",
                options.max_workers, shlex.quote(one.directory),
            )  # fmt: skip
            return


def _explain_word(word: str, others: Sequence[str]) -> str:
    """Say what a first word is that is no verb, and what was probably meant."""
    from vine_sharedport.factory.options import BATCH_TYPES
    from vine_sharedport.factory.runs import names_here

    named = any(option.startswith(_NAMING) for option in others)
    if word in BATCH_TYPES and named:
        what = f"the batch system {word} is no verb; leave it out, or write -T {word}"
        if word == "condor":
            what = "the batch system is condor without being told; leave that word out"
            return f"{what}: {shlex.join([_COMMAND, 'factory', *others])}"
        return what
    meant = nearest(word, _VERBS) if word not in _STARTING else None
    if meant:
        return f"there is no verb {word!r}; did you mean {meant}?"
    what = f"there is no verb {word!r}; "
    if word.startswith("<"):
        what += "a manager's address comes after --address: "
        return what + shlex.join([_COMMAND, "factory", "--address", word, *others])
    if word not in (*_STARTING, *BATCH_TYPES):
        what += "if it is a manager's name, it comes after -M: "
        return what + shlex.join([_COMMAND, "factory", "-M", word, *others])
    what += "a factory starts without one: "
    if named:
        return what + shlex.join([_COMMAND, "factory", *others])
    names = [*names_here("taskvine"), "NAME"]
    return what + shlex.join([_COMMAND, "factory", "-M", names[0], *others])


def _check_prometheus_file(path: str) -> None:
    """Refuse a file that cannot be made; it is made anew each time, and put in its place."""
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        tempfile.TemporaryFile(dir=os.path.dirname(path)).close()
    except OSError as error:
        raise LaunchError(
            f"cannot write --prometheus-file {path}: {error.strerror}; give a file in a "
            "directory that you may write to"
        ) from error


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < 1e9:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")


def _run_directory(program: str, arguments: Sequence[str]) -> int:
    """Run the factory of a directory that is prepared; what ``vine.Factory`` starts."""
    from vine_sharedport.factory import files, process
    from vine_sharedport.factory.options import Options, read_config
    from vine_sharedport.supervision import Process

    parser = Parser(
        prog=program, description="Run the factory of a directory that has its configuration."
    )
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument("--owner", metavar="PID:START", help="end with this process")
    parser.add_argument("--prometheus-file", metavar="FILE")
    parser.add_argument("--end", action="store_true", help="only remove the jobs that are left")
    parser.add_argument("--lock", type=int, help=argparse.SUPPRESS)  # of who prepared it
    add_no_own_pool(parser)
    options = parser.parse_args(arguments)
    try:
        owner = None if options.owner is None else Process.parse(options.owner)
    except ValueError:
        parser.error(f"--owner {options.owner}: wanted is PID:START")
    if options.lock is not None:
        files.inherit_lock(options.directory, options.lock)
    try:
        resolved = read_config(os.path.join(options.directory, files.CONFIG))
    except LaunchError as error:
        if not os.path.exists(os.path.join(options.directory, files.LOCK)):
            raise LaunchError(
                f"{options.directory} is no factory's directory: it has no {files.CONFIG}; "
                "see 'vine_sharedport factory list'"
            ) from error
        resolved = Options()  # there may be jobs to see to all the same
        print(f"{program}: {error}", file=sys.stderr)
    choose_pool(options, elsewhere=bool(resolved.schedd or resolved.pool))
    _log_to(resolved, None)
    return process.run(
        options.directory,
        owner=owner,
        prometheus_file=options.prometheus_file,
        ending=options.end,
        lock=options.lock,
    )


def _log_to(options: Any, path: str | None) -> None:
    """Log with times; in detail to the file that the options name.

    Raises:
        LaunchError: A file cannot be written.
    """
    try:
        _add_handlers(options, path)
    except OSError as error:
        raise LaunchError(
            f"cannot write the factory's log {error.filename}: {error.strerror}"
        ) from error


def _add_handlers(options: Any, path: str | None) -> None:
    from logging.handlers import RotatingFileHandler

    logger = logging.getLogger("vine_sharedport")
    form = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    for handler in logger.handlers:
        handler.setFormatter(form)
        handler.setLevel(logging.INFO)
    if path is not None:
        logger.addHandler(logging.FileHandler(path))
    if options.log_file is not None and path is not None:
        logger.addHandler(logging.FileHandler(options.log_file))
    for handler in logger.handlers[1:]:
        handler.setFormatter(form)
        handler.setLevel(logging.INFO)
    if options.debug is not None or options.debug_file is not None:
        logger.setLevel(logging.DEBUG)
        if options.debug_file is None:
            for handler in logger.handlers:
                handler.setLevel(logging.DEBUG)
        else:
            detailed = RotatingFileHandler(
                options.debug_file, maxBytes=options.debug_file_size, backupCount=1
            )
            detailed.setFormatter(form)
            logger.addHandler(detailed)


# --- looking at one


def _status(program: str, arguments: Sequence[str]) -> int:
    from vine_sharedport.factory import near
    from vine_sharedport.factory.report import format_prometheus

    parser = Parser(
        prog=program,
        description="Show where a factory's workers are, and what is wrong. Exit status 1 if "
        "it does not run.",
    )
    parser.add_argument(
        "factory", nargs="?", metavar="NAME|DIR",
        help="its name, its manager's or its directory (default: the newest one that runs in "
        "or below the present directory, or else that ran)",
    )  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument(
        "--prometheus", action="store_true", help="print Prometheus's text format"
    )
    form.add_argument("--watch", action="store_true", help="go on showing it, until Ctrl-C")
    parser.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="SECONDS", help="for --watch"
    )
    options = parser.parse_args(arguments)
    found, *others = near.choose(options.factory)
    gone = found.state == "killed"
    if options.watch:
        from vine_sharedport.cli.factory_view import watch

        if others:
            print(near.describe_others(others), file=sys.stderr)
        gone = not watch(found.directory, max(0.1, options.interval))
    elif options.json:
        print(json.dumps(found.snapshot.as_dict()))
    elif options.prometheus:
        print(format_prometheus(found.snapshot), end="")
    else:
        print(found.snapshot)
    if gone and not (options.json or options.prometheus):
        print(
            "The factory's process is gone; start it again in the same directory, and it "
            f"finds its jobs: vine_sharedport factory run {shlex.quote(found.directory)}"
        )
    if options.watch:
        return FAILURE if gone else 0
    if others:
        sys.stdout.flush()
        print(near.describe_others(others), file=sys.stderr)
    return 0 if found.running else FAILURE


def _list(program: str, arguments: Sequence[str]) -> int:
    from vine_sharedport.factory import near
    from vine_sharedport.factory.report import format_age

    parser = Parser(
        prog=program,
        description="List the factories in and below the present directory: those that run "
        "first, and the newest of each first.",
    )
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects")
    options = parser.parse_args(arguments)
    found = near.find_factories()
    if options.json:
        print(json.dumps([one.as_dict() for one in found]))
        return 0
    lines = [("NAME", "MANAGER", "STATE", "AGE", "WORKERS", "DIRECTORY")]
    here = os.path.join(os.path.realpath(os.getcwd()), "")
    for one in found:
        workers = one.snapshot.workers
        held = f", {workers.held} held" if workers.held else ""
        lines.append((
            one.name, one.manager, one.state, format_age(one.age),
            f"{workers.idle} idle, {workers.running} running{held}" if one.running else "-",
            one.directory[len(here) :] if one.directory.startswith(here) else one.directory,
        ))  # fmt: skip
    if not found:
        print(f"There is no factory in or below {os.getcwd()}.", file=sys.stderr)
        return 0
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())
    return 0


def _stop(program: str, arguments: Sequence[str]) -> int:
    from vine_sharedport.factory import near, process

    parser = Parser(
        prog=program, description="End a factory, and wait until its jobs are gone."
    )
    parser.add_argument(
        "factory", nargs="?", metavar="NAME|DIR",
        help="its name, its manager's or its directory (default: the only one that runs in or "
        "below the present directory)",
    )  # fmt: skip
    parser.add_argument("--timeout", type=_seconds, default=60.0, metavar="SECONDS")
    options = parser.parse_args(arguments)
    found = near.choose_running(options.factory)
    directory = found.directory
    if not found.running:
        print(f"No factory runs in {directory}.")
        return 0
    if process.terminate(directory, timeout=options.timeout, how=process.STOPPED):
        print(f"The factory in {directory} has ended.")
        return 0
    print(
        f"The factory in {directory} is still removing its jobs; it goes on by itself.",
        file=sys.stderr,
    )
    return FAILURE
