"""Everything that a worker needs to find its manager, as files in one directory."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import zipfile
from collections.abc import Collection, Sequence
from io import BytesIO

import vine_sharedport
from vine_sharedport.atomic_file import write_atomically
from vine_sharedport.bundle import shim_build
from vine_sharedport.bundle.local_worker import LAUNCHER, launcher_path
from vine_sharedport.bundle.worker_program import find_program
from vine_sharedport.errors import SettingError
from vine_sharedport.registry.reference import Reference
from vine_sharedport.secret_file import read_secret_file
from vine_sharedport.trusted_files import absolute

__all__ = [
    "ADDRESS",
    "LAUNCHER",
    "MODULES",
    "PACKAGE",
    "SECRET",
    "launcher_path",
    "write_bundle",
    "write_package",
]

# The names under which the launcher looks for its files.
PACKAGE = "vine_sharedport.pyz"
ADDRESS = "vine_sharedport.address"
SECRET = "vine_sharedport.secret"

# What vine_submit_workers, a shell script without quotes, passes on.
_PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")

# What the relay needs, and nothing else.
MODULES = (
    "vine_sharedport",
    "vine_sharedport.atomic_file",
    "vine_sharedport.dialing",
    "vine_sharedport.dialing.backoff",
    "vine_sharedport.dialing.candidates",
    "vine_sharedport.dialing.dial",
    "vine_sharedport.dialing.race",
    "vine_sharedport.dialing.relay",
    "vine_sharedport.environment",
    "vine_sharedport.errors",
    "vine_sharedport.keepalive",
    "vine_sharedport.secret_file",
    "vine_sharedport.wire",
    "vine_sharedport.wire.cedar",
    "vine_sharedport.wire.gate",
    "vine_sharedport.wire.handoff",
    "vine_sharedport.wire.sinful",
    "vine_sharedport.worker",
    "vine_sharedport.worker.relay",
)

_MAIN = "import sys\nfrom vine_sharedport.worker.relay import main\nsys.exit(main())\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same bytes for the same sources


def write_package(path: str) -> None:
    """Write the relay as a zip file that Python runs: ``python3 PATH WORKER OPTION...``.

    Args:
        path: File to write.
    """
    # Jobs that are on their way to a machine have the previous one open.
    write_atomically(path, _package())


def write_bundle(
    directory: str,
    address: str,
    *,
    secret_file: str | None = None,
    worker: str | None = None,
    options: Sequence[str] = (),
) -> str:
    """Write what a worker needs into a directory that can be taken anywhere.

    The launcher, the shim, the package for relay mode, the manager's address, its secret
    (readable by you alone, as is the directory) and, if wanted, the worker's program.

    Args:
        directory: To make, or of an earlier bundle, whose files are replaced.
        address: The manager's, for example ``<192.0.2.7:9618?sock=vine_42>``.
        secret_file: File with the manager's secret; None for a manager without a gate.
        worker: Worker program to put into it, a path or a name on PATH.
        options: The worker's options in the command lines.

    Returns:
        Command lines that use the bundle, to be shown to a person.

    Raises:
        SinfulError: The text is no address of a manager.
        SettingError: The secret file cannot be used, the worker is not there, or the directory
            is somebody else's or has other things in it.
    """
    sinful = Reference.of(address).address
    directory = absolute(directory)
    odd = sorted(set(directory) & set("'\"\\,\n\r"))
    if odd:  # vine_factory, HTCondor or both take it for something else
        raise SettingError(
            f"the bundle's path {directory!r} has the character {odd[0]!r}, which the tools "
            "do not pass on; choose another path"
        )
    files = {
        LAUNCHER: (_read(launcher_path()), 0o755),
        PACKAGE: (_package(), 0o644),
        ADDRESS: (f"{sinful}\n".encode(), 0o644),
    }
    library = shim_build.library_path()
    if library is None:
        shim_build.warn_of_relay()
    else:
        files[shim_build.LIBRARY] = (_read(library), 0o755)
    if secret_file is not None:
        files[SECRET] = (read_secret_file(secret_file), 0o600)
    program = None
    if worker is not None:
        found = find_program(worker, option="--worker")
        program = os.path.basename(os.path.realpath(found))
        if program in (LAUNCHER, PACKAGE, ADDRESS, SECRET, shim_build.LIBRARY):
            raise SettingError(f"a worker program cannot be called {program}; rename it")
        files[program] = (_read(found), 0o755)
    _make_directory(directory, files)
    # Of an earlier bundle; the launcher would use them.
    for name in (SECRET, shim_build.LIBRARY):
        if name not in files:
            _remove(os.path.join(directory, name))
    for name, (content, mode) in files.items():
        _write_file(os.path.join(directory, name), content, mode)
    return _commands(directory, list(files), program, options)


def _make_directory(directory: str, names: Collection[str]) -> None:
    """Make the directory, for its owner alone, or take that of an earlier bundle."""
    try:
        os.makedirs(os.path.dirname(directory), exist_ok=True)
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            _check_directory(directory, names)
            os.chmod(directory, 0o700)
    except OSError as error:
        raise SettingError(
            f"cannot make the directory {directory}: {error.strerror}"
        ) from error


def _check_directory(directory: str, names: Collection[str]) -> None:
    """Refuse a directory in which we might destroy something, or not be alone."""
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise SettingError(f"{directory} is no directory of yours; choose another one")
    there = os.listdir(directory)
    if not there:
        return
    try:
        Reference.of(_read(os.path.join(directory, ADDRESS)).decode().strip())
    except ValueError as error:
        raise SettingError(
            f"the directory {directory} has other files in it (such as {sorted(there)[0]!r}) "
            "and is no bundle; choose a new one"
        ) from error
    for name in (*names, SECRET, shim_build.LIBRARY):
        path = os.path.join(directory, name)
        if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
            raise SettingError(f"{path} is no regular file; remove it, or choose a new bundle")


def _write_file(path: str, content: bytes, mode: int) -> None:
    try:
        write_atomically(path, content, mode=mode)
    except OSError as error:
        raise SettingError(f"cannot write {path}: {error.strerror}") from error


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingError(f"cannot remove {path}: {error.strerror}") from error


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise SettingError(f"cannot read {path}: {error.strerror}") from error


def _commands(
    directory: str, names: Sequence[str], program: str | None, options: Sequence[str]
) -> str:
    """Return command lines for this bundle, each tried with the real programs."""
    worker = program or "vine_worker"
    words = " ".join(shlex.quote(word) for word in (worker, *options))
    by_hand = f"{shlex.quote(os.path.join(directory, LAUNCHER))} {words}"
    parts = [
        f"The bundle is {directory}."
        + (" Who has its secret can work for the manager." if SECRET in names else ""),
        f"By hand, where this directory or a copy of it is:\n  {by_hand}",
        "By the factory, beside the manager; PORT is the manager's own TCP port (m.port):\n"
        + _factory(directory, names, program, options),
        "By vine_submit_workers, 10 workers (the address in it is not used):\n"
        + _submit_workers(directory, names, program, options),
        "As HTCondor jobs, by a submit file such as:\n"
        + _submit_file(directory, names, program, options),
        "By Slurm, where the nodes see this directory:\n"
        f"  sbatch --ntasks=1 --cpus-per-task=1 --wrap {shlex.quote('exec ' + by_hand)}",
    ]
    return "\n\n".join(parts)


def _factory(
    directory: str, names: Sequence[str], program: str | None, options: Sequence[str]
) -> str:
    """Return the command line of ``vine_factory`` or ``work_queue_factory``."""
    queue = "work_queue" if (program or "").startswith("work_queue") else "vine"
    lines = [f"{queue}_factory -T condor 127.0.0.1 PORT --wrapper ./{LAUNCHER}"]
    for name in names:
        option = "--worker-binary" if name == program else "--wrapper-input"
        lines.append(f"{option} {shlex.quote(os.path.join(directory, name))}")
    if options:
        lines.append(f"--extra-options {shlex.quote(shlex.join(options))}")
    return "  " + " \\\n    ".join(lines)


def _submit_workers(
    directory: str, names: Sequence[str], program: str | None, options: Sequence[str]
) -> str:
    """Return the command line of ``vine_submit_workers``.

    It passes the words of ``-p`` on to condor_submit, whose ``-a`` appends a line to the
    submit file. It has a ``--wrapper`` too, but not before 7.15.2.
    """
    if not _PLAIN.fullmatch(directory):
        return f"  not from {directory}: it passes on letters, digits and /._+- only"
    files = [os.path.join(directory, name) for name in names if name not in (LAUNCHER, program)]
    lines = [
        "vine_submit_workers -T condor",
        f'-p "-a executable={directory}/{LAUNCHER} '
        f'-a transfer_input_files=vine_worker,{",".join(files)}"',
    ]
    if program is not None:  # it sends the one that it finds on PATH
        lines[0] = f"PATH={directory}:$PATH {lines[0]}"
    if options:
        lines.append(f"-E {shlex.quote(shlex.join(options))}")
    return "  " + " \\\n    ".join([*lines, "127.0.0.1 1 10"])


def _submit_file(
    directory: str, names: Sequence[str], program: str | None, options: Sequence[str]
) -> str:
    """Return a submit file."""
    files = [os.path.join(directory, name) for name in names if name != LAUNCHER]
    if program is None:
        files.append(shutil.which("vine_worker") or "/path/to/vine_worker")
    arguments = " ".join(
        "'" + word.replace("'", "''").replace('"', '""') + "'"
        for word in (program or "vine_worker", *options)
    )
    lines = [
        f"executable = {os.path.join(directory, LAUNCHER)}",
        f'arguments = "{arguments}"',
        f"transfer_input_files = {','.join(files)}",
        "should_transfer_files = YES",
        'transfer_output_files = ""',
        "output = worker.$(Process).out",
        "error = worker.$(Process).err",
        "log = workers.log",
    ]
    # A dollar sign of ours starts no macro.
    lines[:3] = [line.replace("$", "$(DOLLAR)") for line in lines[:3]]
    return "\n".join(f"  {line}" for line in [*lines, "queue 10"])


def _package() -> bytes:
    """Return the relay's modules as a zip file."""
    root = os.path.dirname(os.path.dirname(absolute(vine_sharedport.__file__)))
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        _write(archive, "__main__.py", _MAIN.encode())
        for module in MODULES:
            path = module.replace(".", "/")
            is_package = os.path.isdir(os.path.join(root, path))
            inside = f"{path}/__init__.py" if is_package else f"{path}.py"
            with open(os.path.join(root, inside), "rb") as source:
                _write(archive, inside, source.read())
    return content.getvalue()


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # A ZipInfo of our own, for the time; it would bring "not compressed" along.
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
