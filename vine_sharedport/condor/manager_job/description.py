"""The submit description of a manager's job: what it runs, and with which environment."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vine_sharedport.condor.manager_job import runner
from vine_sharedport.condor.submit_description import Commands, SubmitDescription, quote_path
from vine_sharedport.environment import OWN_POOL
from vine_sharedport.errors import SettingError
from vine_sharedport.supervision import package_command
from vine_sharedport.trusted_files import (
    absolute,
    check_file,
    check_working_directory,
    working_directory,
)

__all__ = [
    "GRACE",
    "ManagerProgram",
    "check_program",
    "checked_name",
    "decode_program",
    "describe_manager",
    "name_of",
]

log = logging.getLogger(__name__)

GRACE = 60.0
"""Seconds from SIGTERM to SIGKILL, unless others are given."""

# A job's environment is public, so it is a list of what a program needs to be the one
# that the submitter would start here, and no more.
_PASSED = (
    "PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV",
    "LD_LIBRARY_PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TZ",
    "CONDOR_CONFIG",
)

# HTCondor's settings of the submitter, such as where the pool's tokens are; but not what
# the starter tells the job that this may be run in.
_SETTING = re.compile(r"_CONDOR_\w+", re.IGNORECASE)
_OF_A_JOB = re.compile(
    r"_CONDOR_(ANCESTOR_\d+|ASSIGNED.*|BIN|CHIRP.*|CREDS|JOB_.*|MACHINE_AD|SCRATCH_DIR|SLOT"
    r"|STARTER.*|STREAM.*|WRAPPER.*)",
    re.IGNORECASE,
)
# Settings that say where a secret is, or whether there is one, are needed; a secret is not.
_SECRET_NAME = re.compile(r"PASSW|SECRET|TOKEN|CRED|KEY", re.IGNORECASE)
_NO_SECRET = re.compile(r"|true|false|yes|no|required|preferred|optional|never", re.IGNORECASE)
# Anything else may be one under any name, but not by these, nor a number as short as a time.
_PUBLIC_NAME = re.compile(
    r"_CONDOR_(\w+_)?(HOST|HOSTNAME|NAME|DOMAIN|ADDRESS|INTERFACE|PORT|METHODS|DIR|DIRECTORY|FILE"
    r"|LOCK|LOG|SPOOL|BIN|SBIN|LIB|LIBEXEC|IPV4|IPV6|ENCRYPTION|INTEGRITY|AUTHENTICATION|DEBUG)",
    re.IGNORECASE,
)
_SHORT_NUMBER = re.compile(r"-?[0-9]{1,6}(\.[0-9]{1,3})?")
# As in http://user:password@proxy.
_WITH_PASSWORD = re.compile(r"://[^/@]*:[^/@]*@")

# A name is part of file names and ClassAd strings.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ManagerProgram:
    """A Python program that is to run as a job on this access point.

    It runs in the present directory, by the present Python, with a short list of the
    present environment. What stands in a job's environment is public.

    Attributes:
        program: Its file, or its name with ``module``.
        arguments: The program's.
        name: What to call it; by default as the program, with a number if needed.
        log_dir: For its output, errors and log.
        module: Run it as ``python3 -m`` would.
        shared_port: Run it by ``vine_sharedport run`` with these options, so that its
            managers have a shared port without any change to it.
        env: Further variables, as ``NAME`` or ``NAME=VALUE``. Public like the others.
        grace: Seconds from SIGTERM to SIGKILL when it is removed.
        once: Do not start it a second time after a restart of HTCondor; hold it.
        memory: MB to ask for, where the administrator limits such jobs.
    """

    program: str
    arguments: Sequence[str] = ()
    name: str | None = None
    log_dir: str = "vine-managers"
    module: bool = False
    shared_port: Sequence[str] | None = None
    env: Sequence[str] = ()
    grace: float = GRACE
    once: bool = False
    memory: int | None = None


def describe_manager(manager: ManagerProgram) -> SubmitDescription:
    """Return the submit description that ``manager_job.submit_manager`` uses.

    Submits nothing, and makes no directory.

    Raises:
        SettingError: The program is not there, or something of it cannot be had.
    """
    program, grace = manager.program, manager.grace
    name = checked_name(manager.name or name_of(program))
    if not sys.executable:
        raise SettingError("sys.executable is empty: call this from a python3 that has a file")
    check_working_directory("run a program")
    check_program(manager)
    if grace < 0:
        raise SettingError(f"cannot wait {grace:g} s for a program's end; give 0 or more")
    environment = _environment(manager.env)
    command = [program if manager.module else absolute(program), *manager.arguments]
    kind = "module" if manager.module else "file"
    if manager.shared_port is not None:
        as_module = ["-m"] if manager.module else []
        _, ours = package_command()
        command = [ours, "run", *manager.shared_port, *as_module, *command]
        kind = "file"
        _make_importable(environment)
    directory = absolute(manager.log_dir)
    start = os.path.join(quote_path(directory), f"{name}.$(Cluster)")
    described: dict[str, str | int] = {
        "universe": "local",
        "executable": quote_path(sys.executable),
        "initialdir": quote_path(working_directory()),
        "output": f"{start}.out",
        "error": f"{start}.err",
        "log": f"{start}.log",
        "remove_kill_sig": "SIGTERM",
        "hold_kill_sig": "SIGTERM",
        "kill_sig": "SIGTERM",
        # 23.9 does not look at it in this universe, others may; see _manager_main.
        "job_max_vacate_time": f"{grace + 10:.0f}",
        "batch_name": name,
        "My.VineSharedPortManager": f'"{name}"',
        "My.VineSharedPortProgram": f'"{_encode(shlex.join([program, *manager.arguments]))}"',
        "My.VineSharedPortGrace": f"{grace:g}",
    }
    if manager.memory is not None:
        described["request_memory"] = manager.memory
    if manager.once:
        described["requirements"] = "(NumJobStarts =?= UNDEFINED || NumJobStarts == 0)"
        described["periodic_hold"] = "JobStatus == 1 && NumJobStarts > 0"
        described["periodic_hold_reason"] = (
            '"It was interrupted, and is not to be started a second time (--once); submit '
            'it again if that is wanted"'
        )
    # Not buffered: 'manager log --follow' shows a line when it is printed.
    arguments = ("-u", runner.__file__, f"{grace:g}", kind, *command)
    return SubmitDescription(arguments, environment, commands=Commands(described))


def check_program(manager: ManagerProgram) -> None:
    """Refuse a program whose file is not there or cannot be read.

    Raises:
        SettingError: It cannot.
    """
    if not manager.module:
        check_file(manager.program, "program")


def _environment(further: Sequence[str]) -> dict[str, str]:
    """Return the job's environment."""
    chosen = {name: os.environ[name] for name in _PASSED if name in os.environ}
    for name, value in os.environ.items():
        if not _SETTING.fullmatch(name) or _OF_A_JOB.fullmatch(name):
            continue
        if not _is_harmless(value) and not _is_public(name, value):
            log.warning(
                "%s is not passed on: it may be a secret, and a job's environment is "
                "public; give --env %s if it is none",
                name,
                name,
            )
            continue
        chosen[name] = value
    # The job belongs to this HTCondor, whatever runs when it starts.
    chosen[OWN_POOL] = "no"
    for item in further:
        name, given, value = item.partition("=")
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise SettingError(f"--env {item}: {name!r} is no name of a variable")
        if not given:
            if name not in os.environ:
                raise SettingError(
                    f"--env {name}: there is no such variable here; set it first"
                )
            value = os.environ[name]
        if _SECRET_NAME.search(name):
            log.warning(
                "everybody in the pool can read %s in the job's environment; pass a secret "
                "by a file that only you can read",
                name,
            )
        chosen[name] = value
    return chosen


def _is_public(name: str, value: str) -> bool:
    """Whether a setting can be no secret, by its name or as a short number."""
    if _SECRET_NAME.search(name) or _WITH_PASSWORD.search(value):
        return False
    return bool(_PUBLIC_NAME.fullmatch(name) or _SHORT_NUMBER.fullmatch(value))


def _is_harmless(value: str) -> bool:
    """Whether a setting only tells where a secret is, or whether there is one."""
    # Asked of the file system: a secret may begin with a slash, too.
    path = os.path.expanduser(value)
    return bool(_NO_SECRET.fullmatch(value)) or (os.path.isabs(path) and os.path.exists(path))


def _make_importable(environment: dict[str, str]) -> None:
    """Let the job's Python find this package, if it is run from its files."""
    parent = str(Path(__file__).resolve().parents[3])
    if parent in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return
    known = environment.get("PYTHONPATH", "")
    if parent not in known.split(os.pathsep):
        environment["PYTHONPATH"] = f"{known}{os.pathsep}{parent}" if known else parent


def decode_program(text: str) -> str:
    """Return the program that an ad's ``VineSharedPortProgram`` tells of."""
    return re.sub(r"%(2[245]|5C)", lambda found: chr(int(found[1], 16)), text)


def _encode(text: str) -> str:
    # All that condor_submit, an older ClassAd parser or the schedd may see something in.
    return re.sub(r'[%$"\\]', lambda found: f"%{ord(found[0]):02X}", text)


def name_of(program: str) -> str:
    """Return a name made of a program's."""
    stem = os.path.splitext(os.path.basename(program))[0]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", stem)[:60]
    return name if _NAME.fullmatch(name) else f"m_{name}"


def checked_name(name: str) -> str:
    """Return the name, or raise SettingError if it cannot be one."""
    if not _NAME.fullmatch(name):
        raise SettingError(
            f"{name!r} is no name for a manager; give up to 64 letters, digits, '.', '_' or "
            "'-', the first a letter or '_'"
        )
    return name
