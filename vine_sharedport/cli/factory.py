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

from vine_sharedport.cli import common
from vine_sharedport.cli.factory_options import given, options_parser
from vine_sharedport.errors import ExitStatus, SettingError
from vine_sharedport.trusted_files import absolute, working_directory

__all__ = ["add_factory", "with_verb"]

log = logging.getLogger(__name__)


def add_factory(nouns: common.Subparsers) -> None:
    """Add the noun ``factory``."""
    parser = common.add_command(
        nouns, "factory", None,
        "Keep as many workers in HTCondor as a manager's tasks need. The workers come back "
        "to it through the shared port. It ends with its manager, and removes its jobs "
        "then. 'vine_sharedport factory -M NAME ...', as with vine_factory, is 'factory "
        "run'.",
        example="vine_sharedport factory start sweep --max-workers 50 --memory 2GB",
    )  # fmt: skip
    parser.set_defaults(words=with_verb, verb="run")
    verbs = parser.add_names("VERB")
    serving = options_parser()
    common.add_command(
        verbs, "start", _start,
        "Start one in the background. It goes on when the terminal closes, until its "
        "manager has ended, or until 'factory stop'.",
        parents=[serving],
        allow_abbrev=False,
        usage="%(prog)s [NAME] [OPTION...]",
        example="vine_sharedport factory start sweep --max-workers 50 --memory 2GB",
    )  # fmt: skip
    run = common.add_command(
        verbs, "run", _run,
        "Run one in this terminal, as vine_factory does. It ends when its manager has "
        "ended, or by SIGTERM or Ctrl-C.",
        parents=[serving],
        allow_abbrev=False,
        usage="%(prog)s [NAME] [OPTION...]",
        example="vine_sharedport factory run sweep --max-workers 50 --memory 2GB",
    )  # fmt: skip
    # For those that are started in the background, and again.
    run.add_argument("--owner", help=argparse.SUPPRESS)
    run.add_argument("--end", action="store_true", help=argparse.SUPPRESS)
    run.add_argument("--lock", type=int, help=argparse.SUPPRESS)
    status = common.add_command(
        verbs, "status", _status,
        "Show where its workers are, and what is wrong. Exit status 1 if it does not run.",
        example="vine_sharedport factory status sweep --watch",
    )  # fmt: skip
    stop = common.add_command(
        verbs, "stop", _stop,
        "End a factory, and wait until its jobs are gone.",
        example="vine_sharedport factory stop sweep",
    )  # fmt: skip
    listing = common.add_command(
        verbs, "list", _list,
        "List the factories in and below the present directory. Those that run come first, "
        "and the newest of each first.",
        example="vine_sharedport factory list --json",
    )  # fmt: skip
    for verb, usual in (
        (status, "the newest one that runs in or below the present directory, or else ran"),
        (stop, "the only one that runs in or below the present directory"),
    ):
        verb.add_argument(
            "factory", nargs="?", metavar="NAME|DIR",
            help=f"its name, its manager's or its directory (default: {usual})",
        )  # fmt: skip
    form = status.add_mutually_exclusive_group()
    common.add_json(form)
    form.add_argument(
        "--prometheus", action="store_true", help="print Prometheus's text format"
    )
    form.add_argument("--watch", action="store_true", help="go on showing it, until Ctrl-C")
    status.add_argument(
        "--interval", type=common.duration, default=1.0, metavar="TIME",
        help="time between two updates of --watch (default: 1s)",
    )  # fmt: skip
    stop.add_argument(
        "--timeout", type=common.duration, default=60.0, metavar="TIME",
        help="wait no longer, exit status 1 then; it goes on ending (default: 60s)",
    )  # fmt: skip
    common.add_json(listing)


def with_verb(words: Sequence[str]) -> list[str]:
    """Return the words behind ``factory``; without a verb, as vine_factory's, with ``run``."""
    first = words[0] if words else ""
    is_flag = first.startswith(("-", "<")) and first not in ("-h", "--help")
    is_place = re.match(r"[^:]+:\d+(:|$)|\[.+\]:\d+$", ":".join(words[:2])) is not None
    verbs = ("start", "run", "status", "stop", "list")
    return ["run", *words] if is_flag or (is_place and first not in verbs) else list(words)


# --- the factory itself


def _start(options: argparse.Namespace) -> int:
    """Start a factory that is nobody's, in a process of its own."""
    from vine_sharedport.factory import control
    from vine_sharedport.factory.report import paths

    if options.parent_death:
        options.parser.error("--parent-death is for 'factory run'")
    with contextlib.ExitStack() as stack:
        directory = _directory(options)
        lock = None
        if directory is None:
            prepared = _prepare(options, stack)
            if prepared is None:
                return ExitStatus.OK
            directory, lock = prepared
        pid = control.start(
            directory,
            log_file=options.log_file,
            lock=lock,
            prometheus_file=options.prometheus_file,
        )
    where = shlex.quote(directory)
    print(f"The factory works in {directory}, in the background as process {pid}.")
    print(f"Its log:  {options.log_file or os.path.join(directory, paths.LOG)}")
    print(f"End it:   vine_sharedport factory stop {where}")
    print(f"See it:   vine_sharedport factory status {where}")
    return ExitStatus.OK


def _run(options: argparse.Namespace) -> int:
    """Run a factory in the foreground, as vine_factory does."""
    from vine_sharedport.factory import supervisor

    directory = _directory(options)
    if directory is not None:
        return _run_directory(options, directory)
    with contextlib.ExitStack() as stack:
        prepared = _prepare(options, stack)
        if prepared is None:
            return ExitStatus.OK
        directory, lock = prepared
        print(f"The factory works in {directory}", flush=True)
        print(f"See it:  vine_sharedport factory status {directory}", flush=True)
        owner = None
        if options.parent_death:
            from vine_sharedport.supervision import find_process

            owner = find_process(os.getppid())
        return supervisor.run(
            directory, owner=owner, prometheus_file=options.prometheus_file, lock=lock
        )


def _directory(options: argparse.Namespace) -> str | None:
    """Return the directory of a factory that is to be started again, if one is named."""
    words = options.manager
    if len(words) != 1 or not (os.path.isdir(words[0]) or "/" in words[0].partition("<")[0]):
        return None
    for name in given(options):
        option = "--" + name.replace("_", "-")
        options.parser.error(f"the factory in {words[0]} has its options; leave {option} out")
    return str(words[0])


def _prepare(
    options: argparse.Namespace, stack: contextlib.ExitStack
) -> tuple[str, int] | None:
    """Make a factory's directory; return it with its lock, or None if it is a dry run."""
    from vine_sharedport.factory import api, setup
    from vine_sharedport.factory.report import paths
    from vine_sharedport.factory.report.runs import by_name, names_here

    values = given(options)
    word = ":".join(options.manager)
    if len(options.manager) > 2:
        options.parser.error(f"unrecognized arguments: {' '.join(options.manager[2:])}")
    if word:
        name = "manager_host_port" if ":" in word else "manager_name"
        name = "address" if word.startswith("<") else name
        if values.setdefault(name, word) != word:
            options.parser.error(f"two managers are named: {values[name]} and {word}")
    values.setdefault("batch_type", "condor")
    if values["batch_type"] != "condor":
        options.parser.error(
            f"-T {values['batch_type']}: workers are HTCondor jobs here; use vine_factory "
            "with the launcher of 'vine_sharedport worker --bundle' as its wrapper"
        )
    if not {"address", "manager_name", "config_file"} & set(values):
        what = "give the manager: its NAME, or --address SINFUL with --secret-file FILE"
        names = names_here(values.get("system", "taskvine"))
        options.parser.refuse(f"{what}; here runs: {by_name(names[0])}" if names else what)
    common.choose_pool(options, elsewhere=not values.keys().isdisjoint(("schedd", "pool")))
    factory = api.Factory(**values)
    if options.dry_run:
        print(factory.submit_description(), end="")
        return None
    resolved = setup.resolve(factory._given)
    directory = setup.choose_directory(resolved)
    if options.prometheus_file is not None:
        options.prometheus_file = absolute(options.prometheus_file)
        if os.path.dirname(options.prometheus_file) != directory:  # which is not made yet
            _check_prometheus_file(options.prometheus_file)
    _tell_of_others(resolved)
    resolved, lock = stack.enter_context(setup.prepare(resolved, directory))
    _log_to(resolved, os.path.join(directory, paths.LOG))
    return directory, lock


def _run_directory(options: argparse.Namespace, directory: str) -> int:
    """Run the factory of a directory that is prepared; what ``vine.Factory`` starts."""
    from vine_sharedport.factory import supervisor
    from vine_sharedport.factory.options.schema import Options
    from vine_sharedport.factory.options.stored import read_config
    from vine_sharedport.factory.report import paths
    from vine_sharedport.supervision import Process

    try:
        owner = None if options.owner is None else Process.parse(options.owner)
    except ValueError:
        options.parser.error(f"--owner {options.owner}: wanted is PID:START")
    if options.lock is not None:
        paths.inherit_lock(directory, options.lock)
    try:
        resolved = read_config(os.path.join(directory, paths.CONFIG))
    except SettingError as error:
        if not os.path.exists(os.path.join(directory, paths.LOCK)):
            raise SettingError(
                f"{directory} is no factory's directory: it has no {paths.CONFIG}; see "
                f"'vine_sharedport factory list'. A manager of this name comes after -M"
            ) from error
        resolved = Options()  # there may be jobs to see to all the same
        common.print_error(error)
    common.choose_pool(options, elsewhere=bool(resolved.schedd or resolved.pool))
    _log_to(resolved, None)
    return supervisor.run(
        directory,
        owner=owner,
        prometheus_file=options.prometheus_file,
        ending=options.end,
        lock=options.lock,
    )


def _tell_of_others(options: Any) -> None:
    """Tell of another factory near here that serves the same manager."""
    from vine_sharedport.factory import find

    for one in find.find_factories():
        if one.running and one.serves(options.address):
            log.warning(
                "another factory serves this manager already; together they have at most "
                "max_workers (%d here). See it: vine_sharedport factory status %s",
                options.max_workers, shlex.quote(one.directory),
            )  # fmt: skip
            return


def _check_prometheus_file(path: str) -> None:
    """Refuse a file that cannot be made; it is made anew each time, and put in its place."""
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        tempfile.TemporaryFile(dir=os.path.dirname(path)).close()
    except OSError as error:
        raise SettingError(
            f"cannot write --prometheus-file {path}: {error.strerror}; give a file in a "
            "directory that you may write to"
        ) from error


def _log_to(options: Any, path: str | None) -> None:
    """Log with times; in detail to the file that the options name.

    Raises:
        SettingError: A file cannot be written.
    """
    try:
        _add_handlers(options, path)
    except OSError as error:
        raise SettingError(
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


def _status(options: argparse.Namespace) -> int:
    from vine_sharedport.factory import find
    from vine_sharedport.factory.report.prometheus import format_prometheus

    found, *others = find.choose(options.factory)
    gone = found.state == "killed"
    if options.watch:
        from vine_sharedport.cli.factory_view import watch

        if others:
            print(find.describe_others(others), file=sys.stderr)
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
            f"finds its jobs: vine_sharedport factory start {shlex.quote(found.directory)}"
        )
    if options.watch:
        return ExitStatus.FAILED if gone else ExitStatus.OK
    if others:
        sys.stdout.flush()
        print(find.describe_others(others), file=sys.stderr)
    return ExitStatus.OK if found.running else ExitStatus.FAILED


def _list(options: argparse.Namespace) -> int:
    from vine_sharedport.factory import find
    from vine_sharedport.factory.report.text import format_age

    found = find.find_factories()
    if options.json:
        print(json.dumps([one.as_dict() for one in found]))
        return ExitStatus.OK
    lines = [("NAME", "MANAGER", "STATE", "AGE", "WORKERS", "DIRECTORY")]
    here = os.path.join(os.path.realpath(working_directory()), "")
    for one in found:
        workers = one.snapshot.workers
        held = f", {workers.held} held" if workers.held else ""
        lines.append((
            one.name, one.manager, one.state, format_age(one.age),
            f"{workers.idle} idle, {workers.running} running{held}" if one.running else "-",
            one.directory[len(here) :] if one.directory.startswith(here) else one.directory,
        ))  # fmt: skip
    if not found:
        print(f"There is no factory in or below {working_directory()}.", file=sys.stderr)
        return ExitStatus.OK
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())
    return ExitStatus.OK


def _stop(options: argparse.Namespace) -> int:
    from vine_sharedport.factory import control, find

    found = find.choose_running(options.factory)
    directory = found.directory
    if not found.running:
        print(f"No factory runs in {directory}.")
        return ExitStatus.OK
    if control.terminate(directory, timeout=options.timeout, how=control.STOPPED):
        print(f"The factory in {directory} has ended.")
        return ExitStatus.OK
    common.print_error(
        f"the factory in {directory} is still removing its jobs; it goes on by itself"
    )
    return ExitStatus.FAILED
