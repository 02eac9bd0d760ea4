"""The ``vine_sharedport`` command."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import importlib.metadata
import json
import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial

from vine_sharedport.cli_doctor import add_doctor
from vine_sharedport.cli_factory import add_factory
from vine_sharedport.cli_manager import add_manager
from vine_sharedport.cli_parser import Parser, in_megabytes, warn_of_late_options
from vine_sharedport.cli_pool import add_no_own_pool, choose_pool
from vine_sharedport.errors import (
    EndpointError,
    GateError,
    LaunchError,
    SharedPortError,
    SinfulError,
    WrongSecretError,
)
from vine_sharedport.link.advice import PRINT_IT, cause, has_successor, its_manager, its_secret
from vine_sharedport.link.commands import connect_command, worker_command
from vine_sharedport.link.run_file import Run, secret_file_of

__all__ = ["main"]

log = logging.getLogger(__name__)

_USAGE_ERROR = 2
_FAILURE = 1

# Seconds for the gate's greeting, where nothing depends on it but a warning.
_ASK_GATE_TIMEOUT = 3.0

_BROKEN_PIPE = 128 + signal.SIGPIPE

# What write(2) says of a reader that is gone and of a file system that takes no more.
_OUTPUT_ERRORS = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    _open_standard_files()
    parser = _make_parser()
    options = parser.parse_args(arguments)
    _log_to_stderr(logging.DEBUG if options.verbose else getattr(options, "log", logging.INFO))
    try:
        status = int(options.run(options))
        sys.stdout.flush()
        return status
    except SinfulError as error:
        print(f"vine_sharedport: {error}", file=sys.stderr)
        return _USAGE_ERROR
    except SharedPortError as error:
        print(f"vine_sharedport: {error}", file=sys.stderr)
        return _FAILURE
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        # A program that we run has its own errors, and its own way of telling them.
        if options.run is _run_program or not _output_is_lost(error):
            raise
        if isinstance(error, BrokenPipeError):
            return _BROKEN_PIPE  # as of a program that the signal has ended; head wants no more
        print(f"vine_sharedport: cannot write the output: {error.strerror}", file=sys.stderr)
        return _FAILURE


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


def _make_parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="vine_sharedport",
        description="TaskVine and Work Queue workers reach their manager through HTCondor's "
        "shared port.",
        epilog="'vine_sharedport NOUN --help' tells about each.",
    )
    parser.add_argument("--verbose", action="store_true", help="log every step on stderr")
    parser.add_argument("--version", action="version", version=_version())
    nouns = parser.add_subparsers(title="nouns", metavar="NOUN", required=True)
    add_doctor(nouns)
    _add_worker(nouns)
    _add_connect(nouns)
    _add_run(nouns)
    _add_expose(nouns)
    _add_pool(nouns)
    add_manager(nouns)
    add_factory(nouns)
    return parser


def _version() -> str:
    try:
        return f"vine_sharedport {importlib.metadata.version('vine-sharedport')}"
    except importlib.metadata.PackageNotFoundError:
        return "vine_sharedport, not installed but run from its files"


def _add_worker(nouns: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from vine_sharedport.worker import launch

    parser = nouns.add_parser(
        "worker",
        help="run a worker whose manager is behind a shared port",
        description="Run an unmodified vine_worker (or work_queue_worker) whose manager is "
        "behind a shared port. Ends with the worker, with its exit status; besides, with "
        f"{launch.WRONG_SECRET} if the manager refuses the secret, {launch.NOT_REACHED} if it "
        f"was not reached in time, {launch.BAD_SETTINGS} if the address or the secret file "
        f"cannot be used, and {launch.NO_WORKER} if there is no worker program that runs.",
        epilog="example: vine_sharedport worker --address '<192.0.2.7:9618?sock=vine_42>' "
        "-- --cores 4 --timeout 600",
    )
    parser.add_argument(
        "--address",
        metavar="SINFUL",
        default=os.environ.get(launch.ADDRESS_VARIABLE) or None,
        help="the manager's address, as manager.shared_port.address tells it; keep the shell "
        f"away from its < and & by single quotes (default: ${launch.ADDRESS_VARIABLE})",
    )
    _add_secret_file(parser)
    parser.add_argument("--worker", metavar="PROGRAM", help="default: vine_worker")
    parser.add_argument(
        "--connect-timeout",
        metavar="TIME",
        type=_seconds,  # of the variable it is judged where it is read
        help="give up when the manager could not be reached for so long: seconds, or such as "
        f"10m or 2h (default: ${launch.TIMEOUT_VARIABLE}, else the worker's own --timeout or "
        "--connect-timeout, else 900)",
    )
    _add_private_network(parser)
    parser.add_argument(
        "--bundle",
        metavar="DIR",
        help="run nothing, but write what a worker needs on another machine into DIR, and "
        "print the command line for there",
    )
    parser.add_argument(
        "words", nargs="*", metavar="-- OPTION", help="the worker's own options, after --"
    )
    parser.set_defaults(
        run=_run_worker,
        parser=parser,
        rest="options",
        hint="The worker's own options follow --, as in: "
        "vine_sharedport worker -- --cores 4 --timeout 600",
    )


def _add_secret_file(parser: argparse.ArgumentParser) -> None:
    from vine_sharedport.worker.launch import SECRET_VARIABLE

    parser.add_argument(
        "--secret-file",
        metavar="FILE",
        default=os.environ.get(SECRET_VARIABLE) or None,
        help="file with the manager's secret, as manager.shared_port.secret_file tells it "
        f"(default: ${SECRET_VARIABLE})",
    )


def _add_private_network(parser: argparse.ArgumentParser) -> None:
    from vine_sharedport.worker.launch import NETWORK_VARIABLE

    parser.add_argument(
        "--private-network",
        metavar="NAME",
        default=os.environ.get(NETWORK_VARIABLE) or None,
        help="the network this machine is in, HTCondor's PRIVATE_NETWORK_NAME; where it is the "
        f"address's PrivNet, PrivAddr is tried first (default: ${NETWORK_VARIABLE})",
    )


def _run_worker(options: argparse.Namespace) -> int:
    from vine_sharedport.worker import launch

    _use_words(options)
    if options.bundle == "":
        options.parser.error("--bundle is empty: give the directory to write")
    try:
        if options.bundle is not None:
            return _write_bundle(options)
        return launch.run_worker(
            options.address,
            options.options,
            secret_file=options.secret_file,
            worker=options.worker or "vine_worker",
            connect_timeout=options.connect_timeout,
            private_network=options.private_network,
        )
    except (SinfulError, GateError, launch.BadSettingError) as error:
        status = launch.BAD_SETTINGS
        print(f"vine_sharedport: {error}", file=sys.stderr)
    except LaunchError as error:
        status = launch.NO_WORKER if options.bundle is None else _FAILURE
        print(f"vine_sharedport: {error}", file=sys.stderr)
    return status


def _use_words(options: argparse.Namespace) -> None:
    """Take an address that stands alone; refuse other words before --, and having none."""
    from vine_sharedport.worker import launch

    words = options.words
    if options.address is None and len(words) == 1 and words[0].startswith("<"):
        options.address, words = words[0], []
    if options.address and not words:
        return

    def line(run: Run) -> str:
        return worker_command(
            str(run.address), run.secret_file, worker=run.worker,
            options=run.options(options.options),
        )  # fmt: skip

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
        what = _no_address(options.address, "--address", launch.ADDRESS_VARIABLE)
    options.parser.refuse(f"{what}; {its_manager(name, line)}")


def _no_address(given: str | None, option: str, variable: str) -> str:
    if given is None:
        return f"no address: give {option} or set {variable}"
    return f"the address is empty, as by an empty variable or file: give {option}"


def _write_bundle(options: argparse.Namespace) -> int:
    from vine_sharedport.worker.bundle import write_bundle

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
    from vine_sharedport.link.dial import connect

    try:
        connect(address, timeout=_ASK_GATE_TIMEOUT, confirm=True).close()
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


def _add_connect(nouns: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from vine_sharedport.worker.launch import ADDRESS_VARIABLE

    parser = nouns.add_parser(
        "connect",
        help="try a manager's address, and show what each way to it did",
        description="Connect to a manager as a worker on this machine would, and say whether "
        "that works: exit status 0 if it does, 1 if not.",
        epilog="example: vine_sharedport connect --explain --secret-file sweep.secret "
        "'<192.0.2.7:9618?sock=vine_42>'",
    )
    parser.add_argument(
        "address",
        metavar="ADDRESS",
        nargs="?",
        default=os.environ.get(ADDRESS_VARIABLE) or None,
        help=f"the manager's, in single quotes (default: ${ADDRESS_VARIABLE})",
    )
    parser.add_argument(
        "--explain", action="store_true", help="show the candidates and what each did"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    _add_secret_file(parser)
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=_seconds,
        default=30.0,
        help="for all candidates together: seconds, or such as 2m (default: 30)",
    )
    _add_private_network(parser)
    parser.set_defaults(run=_connect, parser=parser)


def _connect(options: argparse.Namespace) -> int:
    from vine_sharedport.link.explain import attempt
    from vine_sharedport.link.secret import read_secret_file
    from vine_sharedport.wire.sinful import Sinful
    from vine_sharedport.worker.launch import ADDRESS_VARIABLE

    def line(run: Run) -> str:
        return connect_command(str(run.address), run.secret_file)

    if not options.address:
        what = _no_address(options.address, "ADDRESS", ADDRESS_VARIABLE)
        options.parser.refuse(f"{what}; {its_manager(None, line)}")
    try:
        address = Sinful.parse(options.address)
    except SinfulError as error:
        step = its_manager(options.address, line)
        raise SinfulError(f"{cause(error)}; {step}") from error
    again = partial(connect_command, options.address)
    secret = None
    if options.secret_file is not None:
        try:
            secret = read_secret_file(options.secret_file)
        except GateError as error:
            if address.sock is None or secret_file_of(address.sock) is None:
                raise
            raise GateError(f"{cause(error)}; {its_secret(address.sock, again)}") from error
    try:
        found = attempt(
            address,
            secret=secret,
            timeout=options.timeout,
            private_network=options.private_network,
        )
    except EndpointError as error:
        options.parser.error(f"the address {options.address} is no manager's: {error}")
    if options.json:
        print(json.dumps(found.as_dict()))
        return 0 if found.works else _FAILURE
    print(found.explained() if options.explain else found)
    if isinstance(found.error, WrongSecretError):
        print(f"Next: {its_secret(address.sock, again)}")
    elif not found.works and has_successor(address):
        print(f"Next: {its_manager(None, line)}")
    return 0 if found.works else _FAILURE


def _add_pool(nouns: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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


def _seconds(text: str) -> float:
    """Return a length of time in seconds; argparse tells anything else as a usage error."""
    from vine_sharedport.worker.launch import parse_seconds

    try:
        return parse_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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
    return 0 if status.running else _FAILURE


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
    print(personal.shell_text(personal.PersonalPool.attach(directory)))
    return 0


def _add_run(nouns: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = nouns.add_parser(
        "run",
        help="run a Python program unchanged, its managers having a shared port",
        description="Run a Python program as it is: every TaskVine Manager and WorkQueue that "
        "it makes, in its child processes too, gets a shared port beside its TCP port.",
        epilog="example: vine_sharedport run --shared-port-name sweep analysis.py --size 9",
    )
    _add_link_options(parser, "--shared-port-name")
    add_no_own_pool(parser)
    parser.add_argument("-m", dest="module", action="store_true", help="PROGRAM is a module")
    parser.add_argument("program", metavar="PROGRAM", help="the program's file")
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="...", help="the program's arguments"
    )
    parser.set_defaults(run=_run_program, parser=parser)


def _add_link_options(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        name, dest="name", metavar="NAME", help="the sock id (default: a new one each time)"
    )
    parser.add_argument(
        "--no-gate", dest="gate", action="store_false", help="do not ask workers for a secret"
    )


def _run_program(options: argparse.Namespace) -> int:
    from vine_sharedport.manager.run import (
        NoProgramError,
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
    settings = SharedPort(name=options.name, gate=options.gate)
    warn_of_late_options(options.parser, options.program, options.arguments)
    choose_pool(options)
    arguments = [options.program, *options.arguments]
    try:
        run_program(arguments, settings, module=options.module)
    except (SystemExit, KeyboardInterrupt, NoProgramError):
        raise
    except SharedPortError as error:
        place = place_in_program(error)
        print(f"vine_sharedport: {place and f'{place}: '}{error}", file=sys.stderr)
        return _FAILURE
    except BaseException as error:  # the program's own: as Python would tell it
        error = error.with_traceback(traceback_of_program(error))
        sys.excepthook(type(error), error, error.__traceback__)
        return _FAILURE
    return 0


def _run_command(options: argparse.Namespace) -> str:
    """Return the command line without the interpreter and its options."""
    from vine_sharedport.manager.run import after_interpreter

    words = ["vine_sharedport", "run"]
    if options.name is not None:
        words += ["--shared-port-name", options.name]
    words += [] if options.gate else ["--no-gate"]
    return shlex.join([*words, *after_interpreter(options.arguments)])


def _add_expose(nouns: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = nouns.add_parser(
        "expose",
        help="give a TCP server of this host a sock id",
        description="Make a TCP server of this host, such as Makeflow or a manager written in "
        "C, reachable through the shared port, by a relay. Runs until it is ended.",
    )
    parser.add_argument("--port", type=int, required=True, help="the server's TCP port")
    _add_link_options(parser, "--name")
    parser.add_argument(
        "--secret-file",
        metavar="FILE",
        help="where to write the secret that clients need, or to read it if it is there "
        "(default: NAME.secret in the present directory)",
    )
    parser.add_argument("--json", action="store_true", help="print the address as JSON")
    add_no_own_pool(parser)
    parser.set_defaults(run=_expose, parser=parser)


def _expose(options: argparse.Namespace) -> int:
    from vine_sharedport.manager.expose import expose
    from vine_sharedport.manager.settings import SharedPort

    if not 0 < options.port < 65536:
        options.parser.error(f"--port {options.port}: a TCP port is 1 to 65535")
    if options.secret_file and not options.gate:
        options.parser.error("--secret-file and --no-gate exclude each other")
    if not options.gate:
        log.warning("--no-gate: everybody who reaches the shared port can connect to the port")
    settings = SharedPort(name=options.name, gate=options.gate)
    choose_pool(options)
    for number in (signal.SIGTERM, signal.SIGHUP):  # end as by Ctrl-C, and clean up
        signal.signal(number, signal.default_int_handler)
    with expose(options.port, settings, secret_file=options.secret_file) as link:
        if options.json:
            report = {"address": str(link.address), "secret_file": link.secret_file}
            print(json.dumps(report), flush=True)
        else:
            print(f"Port {options.port} is served as {link.address}")
            print(f"Workers: {link.worker_command}", flush=True)
        shown = link.counters
        while True:
            time.sleep(1)
            link.check()
            if link.counters != shown:
                shown = link.counters
                log.info("accepted %d, refused %s", shown.accepted, shown.refused or "none")
