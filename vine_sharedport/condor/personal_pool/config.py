"""HTCondor's programs on this machine, and the configuration of a personal pool."""

from __future__ import annotations

import contextlib
import operator
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vine_sharedport import installing
from vine_sharedport.errors import PoolError, SettingError

__all__ = ["CPUS", "MEMORY", "Installation", "check_size", "find_installation", "format_config"]

# What a pool can offer, in cores and MB. The startd ends at 0 cores and at a number that no
# int takes; in less memory than HTCondor asks for by default (JOB_DEFAULT_REQUESTMEMORY)
# no job runs. More than the machine has is for trying things out.
CPUS = (1, 10_000)
MEMORY = (128, 100_000_000)


@dataclass(frozen=True)
class Installation:
    """Where HTCondor's daemons and tools are.

    Attributes:
        master: Path of ``condor_master``.
        status: Path of ``condor_status``.
        release_dir: The prefix below which it is installed.
        sbin: Directory of the daemons.
        bin: Directory of the tools.
        libexec: Directory of ``condor_shared_port``.
        lib: Directory of its libraries.
        version: Such as ``(23, 9, 6)``.
    """

    master: str
    status: str
    release_dir: str
    sbin: str
    bin: str
    libexec: str
    lib: str
    version: tuple[int, ...]


def check_size(name: str, value: object, limits: tuple[int, int], unit: str = "") -> int:
    """Return what a pool is to offer as a number.

    Raises:
        SettingError: It is none, or one that no pool can offer.
    """
    low, high = limits
    number = -1
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        number = int(value)
    elif not isinstance(value, (str, bool)):
        with contextlib.suppress(TypeError):
            number = operator.index(value)  # type: ignore[arg-type]  # raises for the others
    if not low <= number <= high:
        raise SettingError(
            f"{name}={value!r} is not a whole number of {low} to {high}{unit}; correct it, or "
            f"leave {name} out"
        )
    return number


def find_installation() -> Installation:
    """Return the HTCondor that PATH, the conda environment or the system has.

    Raises:
        PoolError: There is none, or a part of it is missing.
    """
    prefixes = [os.environ.get("CONDA_PREFIX"), sys.prefix, "/usr", "/usr/local"]
    places = [os.environ.get("PATH", os.defpath)]
    # Daemons live in sbin, which is seldom on an ordinary user's PATH.
    places += [f"{prefix}/{part}" for prefix in prefixes if prefix for part in ("sbin", "bin")]
    path = os.pathsep.join(places)
    master = shutil.which("condor_master", path=path)
    if master is None:
        raise PoolError(
            "condor_master is not on PATH, nor in the sbin of "
            f"{', '.join(filter(None, dict.fromkeys(prefixes)))}; {installing.htcondor()}"
        )
    # Beside the name that was found, or beside the file behind a link.
    roots = dict.fromkeys(Path(p).parent.parent for p in (master, os.path.realpath(master)))
    libexec = _first(
        [
            root / part
            for root in roots
            for part in (
                "libexec/condor",
                "libexec",
                "lib/condor/libexec",
                "lib64/condor/libexec",
            )
        ],
        "condor_shared_port",
    )
    bindir = _first([root / "bin" for root in roots], "condor_status")
    status = (
        str(bindir / "condor_status") if bindir else shutil.which("condor_status", path=path)
    )
    if libexec is None or status is None:
        missing = "condor_shared_port" if libexec is None else "condor_status"
        raise PoolError(
            f"found {master}, but not its {missing} (looked below "
            f"{', '.join(map(str, roots))}); {installing.htcondor()}"
        )
    root = next(iter(roots))
    lib = next(
        (
            str(root / part)
            for part in ("lib64/condor", "lib/condor", "lib")
            if (root / part).is_dir()
        ),
        str(root / "lib"),
    )
    return Installation(
        master=master,
        status=status,
        release_dir=str(root),
        sbin=os.path.dirname(master),
        bin=os.path.dirname(status),
        libexec=str(libexec),
        lib=lib,
        version=_version(master),
    )


def _first(directories: list[Path], program: str) -> Path | None:
    """Return the first directory that has the program."""
    return next((d for d in directories if os.access(d / program, os.X_OK)), None)


def _version(master: str) -> tuple[int, ...]:
    """Return the version that the daemon says."""
    try:
        said = subprocess.run(
            [master, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PoolError(
            f"{master} -version does not run: {error}; {installing.htcondor()}"
        ) from error
    match = re.search(r"CondorVersion: (\d+)\.(\d+)\.(\d+)", said.stdout)
    if match is None:
        raise PoolError(
            f"'{master} -version' said {(said.stdout + said.stderr).strip()[:200]!r}, wanted "
            f"'$CondorVersion: ...'; {installing.htcondor()}"
        )
    return tuple(map(int, match.groups()))


def format_config(
    installation: Installation,
    directory: str,
    lock_dir: str,
    *,
    port: int,
    cpus: int,
    memory: int | None,
    job_environment: Mapping[str, str],
    extra: Mapping[str, str],
) -> str:
    """Return the text of a personal pool's configuration file.

    It stands alone: neither the system's nor the user's own configuration is read.

    Args:
        installation: The programs.
        directory: The pool's own directory.
        lock_dir: Where the shared port's ad file and the socket directory are.
        port: The shared port's TCP port. A fixed one: daemons do not find each other
            again when the shared port restarts on another.
        cpus: Cores to offer; may be more than there are.
        memory: Megabytes to offer, as in ``request_memory``; None for all there is.
        job_environment: Variables for every job; plain words only.
        extra: Further settings, which win over ours.
    """
    plugins = [f"{installation.libexec}/{name}" for name in ("curl_plugin", "data_plugin")]
    environment = " ".join(f"{name}={value}" for name, value in job_environment.items())
    settings = {
        # Nothing from elsewhere.
        "LOCAL_CONFIG_FILE": "",
        "LOCAL_CONFIG_DIR": "",
        "USER_CONFIG_FILE": "",
        # The programs.
        "RELEASE_DIR": installation.release_dir,
        "SBIN": installation.sbin,
        "BIN": installation.bin,
        "LIBEXEC": installation.libexec,
        "LIB": installation.lib,
        # The places.
        "LOCAL_DIR": directory,
        "LOCK": lock_dir,
        "LOG": f"{directory}/log",
        "RUN": f"{directory}/run",
        "SPOOL": f"{directory}/spool",
        "EXECUTE": f"{directory}/execute",
        "SEC_PASSWORD_DIRECTORY": f"{directory}/passwords.d",
        "SEC_TOKEN_DIRECTORY": f"{directory}/tokens.d",
        "SEC_TOKEN_SYSTEM_DIRECTORY": f"{directory}/system_tokens.d",
        "MASTER_ADDRESS_FILE": "$(LOG)/.master_address",
        "COLLECTOR_ADDRESS_FILE": "$(LOG)/.collector_address",
        "SCHEDD_ADDRESS_FILE": "$(LOG)/.schedd_address",
        # The network: this machine alone. With a name set, nobody looks the machine's
        # own up, which may not resolve.
        "COLLECTOR_HOST": f"127.0.0.1:{port}",
        "NETWORK_INTERFACE": "127.0.0.1",
        "NETWORK_HOSTNAME": "localhost",
        "UID_DOMAIN": "localhost",
        "FILESYSTEM_DOMAIN": "localhost",
        "BIND_ALL_INTERFACES": "False",
        "ENABLE_IPV4": "True",
        "ENABLE_IPV6": "False",
        "USE_SHARED_PORT": "True",
        # This user alone, proven through the file system.
        "SEC_DEFAULT_AUTHENTICATION": "REQUIRED",
        "SEC_DAEMON_AUTHENTICATION": "REQUIRED",
        "SEC_CLIENT_AUTHENTICATION": "REQUIRED",
        "SEC_DEFAULT_AUTHENTICATION_METHODS": "FS",
        **{
            f"ALLOW_{level}": "$(USERNAME)@$(UID_DOMAIN)"
            for level in ("READ", "WRITE", "DAEMON", "ADMINISTRATOR", "NEGOTIATOR", "ADVERTISE")
        },
        # One slot that is divided as jobs ask for it.
        "NUM_CPUS": str(cpus),
        "NUM_SLOTS": "1",
        "NUM_SLOTS_TYPE_1": "1",
        "SLOT_TYPE_1": "100%",
        "SLOT_TYPE_1_PARTITIONABLE": "True",
        # Where the pool is below /tmp, a container's own /tmp would hide the job's directory.
        "MOUNT_UNDER_SCRATCH": "",
        "STARTER_JOB_ENVIRONMENT": f'"{environment}"',
        # Swift: a job runs 0.1 s after its submission, not a minute.
        "UPDATE_INTERVAL": "1",
        "POLLING_INTERVAL": "2",
        "SCHEDD_INTERVAL": "2",
        "SCHEDD_MIN_INTERVAL": "1",
        "NEGOTIATOR_INTERVAL": "1",
        "NEGOTIATOR_MIN_INTERVAL": "0",
        "NEGOTIATOR_CYCLE_DELAY": "0",
        "PERIODIC_EXPR_INTERVAL": "5",
        "STARTER_UPDATE_INTERVAL": "5",
        "STARTER_INITIAL_UPDATE_INTERVAL": "1",
        # What the startd asks every plugin takes 2 s with those in Python.
        "FILETRANSFER_PLUGINS": ", ".join(p for p in plugins if os.access(p, os.X_OK)),
        "SINGULARITY": "/bin/false",
        # A pool of hours or days: nothing to restart, mail or keep.
        "MASTER_NEW_BINARY_RESTART": "NEVER",
        # A daemon that crashed is back in 2 s, not in 10.
        "MASTER_BACKOFF_CONSTANT": "1",
        "SHUTDOWN_FAST_TIMEOUT": "8",
        "MAIL": "/bin/true",
        "SENDMAIL": "/bin/true",
    }
    if memory is not None:
        settings["MEMORY"] = str(memory)
    if installation.version < (25,):
        # A client of 25.x (from PyPI) binds the authentication to the connection,
        # which older daemons cannot; see FACTS: only this pool's clients are told.
        settings["SEC_FS_ENFORCE_CHANNEL_BINDING"] = "False"
    settings.update(extra)
    lines = [
        "# A personal HTCondor pool, written by vine_sharedport at every start.",
        "use ROLE: Personal",
        *(f"{name} = {value}" for name, value in settings.items()),
    ]
    return "\n".join(lines) + "\n"
