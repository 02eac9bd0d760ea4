"""A factory's process from outside: started, waited for, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import Any

from vine_sharedport.environment import OWN_POOL
from vine_sharedport.errors import LaunchError, NoStatusError, SettingError
from vine_sharedport.factory.report import paths
from vine_sharedport.supervision import (
    Process,
    find_process,
    package_command,
    without_working_directory,
)

__all__ = [
    "PROGRAM_ENDED",
    "REFUSED",
    "STOPPED",
    "command",
    "environment",
    "last_lines",
    "owner_process",
    "spawn",
    "start",
    "terminate",
    "wait_for_start",
]

REFUSED = 1
"""Exit status of a factory that cannot work, as with its configuration."""

# Seconds to begin in, and to end in where that has failed.
_START_TIMEOUT, _FAILED_START_TIMEOUT = 60.0, 10.0
_LAST_LINES = 15

PROGRAM_ENDED = signal.SIGUSR1
"""By which its program ends a factory: the status tells that from somebody's SIGTERM."""

STOPPED = signal.SIGUSR2
"""By which ``factory stop`` does."""


def command(
    directory: str,
    *,
    owner: Process | None = None,
    prometheus_file: str | None = None,
    ending: bool = False,
    lock: int | None = None,
) -> list[str]:
    """Return the command that runs the factory of a directory, or ends what it has left."""
    found = [*package_command(), "factory", "run", directory]
    if owner is not None:
        found += ["--owner", str(owner)]
    if prometheus_file is not None:
        found += ["--prometheus-file", prometheus_file]
    if ending:
        found += ["--end"]
    if lock is not None:
        found += ["--lock", str(lock)]
    return found


def environment() -> dict[str, str]:
    """Return an environment in which ``command`` finds HTCondor as we do."""
    # Where we use an own pool CONDOR_CONFIG says so, and wins.
    return {**without_working_directory(os.environ), OWN_POOL: "no"}


def spawn(
    directory: str,
    *,
    owner: Process | None,
    log_file: str | None = None,
    prometheus_file: str | None = None,
    ending: bool = False,
    lock: int | None = None,
    cwd: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start the factory of a directory in the background.

    Args:
        directory: With its configuration.
        owner: The process with which it ends.
        log_file: Where it writes instead of to ``factory.log`` in the directory.
        prometheus_file: As ``Loop`` has it.
        ending: It only removes the jobs that are left.
        lock: Descriptor with the directory's lock, which it inherits; stays the caller's.
        cwd: Its working directory, if that is there; by default the present one.

    Raises:
        LaunchError: It cannot be started.
    """
    if not sys.executable:
        raise LaunchError(
            "sys.executable is empty: this program embeds Python; start the factory by "
            "'vine_sharedport factory'"
        )
    path = log_file or os.path.join(directory, paths.LOG)
    try:
        output = open(path, "ab")
    except OSError as error:
        raise SettingError(
            f"cannot write the factory's log {path}: {error.strerror}"
        ) from error
    with output:
        try:
            return subprocess.Popen(
                command(
                    directory, owner=owner, prometheus_file=prometheus_file, ending=ending,
                    lock=lock,
                ),
                pass_fds=() if lock is None else (lock,),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(),
                cwd=cwd if cwd is not None and os.path.isdir(cwd) else None,
                # The terminal's Ctrl-C is for the program, which then says stop.
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise LaunchError(
                f"cannot start the factory's process {sys.executable}: {error.strerror}; see "
                "'ulimit -a' for the limits of processes and open files"
            ) from error


def start(directory: str, *, log_file: str | None = None, **options: Any) -> int:
    """Start a factory that is no program's, and wait until it has begun.

    Args:
        directory: With its configuration.
        log_file: As ``spawn`` has it.
        options: Any other of ``spawn``.

    Returns:
        Its process id.

    Raises:
        LaunchError: It has not begun; the message says why.
    """
    running = spawn(directory, owner=None, log_file=log_file, **options)
    try:
        wait_for_start(running, directory, log_file)
    except BaseException:
        running.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(_FAILED_START_TIMEOUT)
        raise
    finally:
        # Nobody waits for it any more; that is no leak to warn of.
        running.returncode = running.returncode or 0
    return running.pid


def wait_for_start(
    running: subprocess.Popen[bytes], directory: str, log_file: str | None = None
) -> None:
    """Wait until a factory's process has begun its work.

    Raises:
        LaunchError: It has ended, or has not begun in time; the message says why.
    """
    deadline = time.monotonic() + _START_TIMEOUT
    while not _has_begun(running, directory):
        status = running.poll()
        if status is not None and status < 0:
            raise LaunchError(
                f"the factory's process was killed by signal {-status} before it had "
                "begun; start it again. What kills processes here: a limit (ulimit -a), a "
                "batch system, or the kernel for want of memory (dmesg)?"
            )
        said = f"it says:\n{last_lines(directory, log_file)}"
        if status is not None:
            raise LaunchError(f"the factory's process ended with status {status}; {said}")
        if time.monotonic() > deadline:
            raise LaunchError(f"the factory has not begun after {_START_TIMEOUT:g} s; {said}")
        time.sleep(0.02)


def _has_begun(running: subprocess.Popen[bytes], directory: str) -> bool:
    """Whether the status is by this very process, and not by another factory."""
    with contextlib.suppress(NoStatusError):
        return paths.read_status(directory).pid == running.pid
    return False


def last_lines(directory: str, log_file: str | None = None) -> str:
    """Return the end of a factory's log."""
    try:
        with open(log_file or os.path.join(directory, paths.LOG), errors="replace") as file:
            return "".join(file.readlines()[-_LAST_LINES:]).rstrip() or "nothing"
    except OSError:
        return "nothing"


def terminate(directory: str, *, timeout: float, how: signal.Signals = signal.SIGTERM) -> bool:
    """Tell the factory of a directory to end; return whether it has, in time.

    Args:
        directory: Its directory.
        timeout: Seconds to wait for its end.
        how: ``PROGRAM_ENDED`` or ``STOPPED``, for what its status says of the end.

    Raises:
        SettingError: It is another user's.
    """
    deadline = time.monotonic() + timeout
    told: set[int] = set()
    while paths.is_running(directory):
        _tell_to_end(directory, told, how)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _tell_to_end(directory: str, told: set[int], how: signal.Signals) -> None:
    """Send a signal once to the process that the status names."""
    try:
        pid = paths.read_status(directory).pid
    except NoStatusError:
        return  # it is just starting
    # A supervisor that was killed has another one after it.
    if pid in told:
        return
    try:
        os.kill(pid, how)
        os.kill(pid, signal.SIGCONT)  # one that is suspended, as by ^Z, sees no other signal
        told.add(pid)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise SettingError(
            f"may not end the factory in {directory}, process {pid}: another user's"
        ) from error


def owner_process() -> Process:
    """Return the present process, as an owner.

    Raises:
        LaunchError: It cannot be looked up, as where no more files can be opened.
    """
    found = find_process(os.getpid())
    if found is None:
        raise LaunchError(
            f"cannot read /proc/{os.getpid()}/stat; see 'ulimit -n' for the limit of open files"
        )
    return found
