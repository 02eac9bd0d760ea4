"""The factory's two processes: one works, the other sees that it does.

The supervisor starts the worker and starts it again when it was killed or has crashed; the
new one finds the jobs by their mark. The worker notices that its supervisor is gone, and
becomes one itself. So to kill either of them leaves no job without somebody who removes it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import vine_sharedport
from vine_sharedport.errors import LaunchError, SharedPortError
from vine_sharedport.factory import files
from vine_sharedport.pool._guardian import Process, find_process

__all__ = [
    "command",
    "environment",
    "format_process",
    "owner_process",
    "parse_process",
    "run",
    "spawn",
    "terminate",
]

log = logging.getLogger(__name__)

# Exit statuses of the process that works, to the one that supervises.
_ENDED, _REFUSED, _CRASHED = 0, 1, 70

# A factory that crashes again and again is ended: so often in so many seconds.
_CRASHES, _CRASH_TIME = 5, 300.0

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _SupervisorGone(BaseException):
    """The supervisor was killed; passes through everything that handles errors."""


def format_process(process: Process) -> str:
    """Return a process as an argument, for ``parse_process``."""
    return f"{process.pid}:{process.start}"


def parse_process(text: str) -> Process:
    """Return what ``format_process`` was given.

    Raises:
        ValueError: The text is something else.
    """
    pid, start = text.split(":")
    return Process(int(pid), int(start))


def command(
    directory: str, *, owner: Process | None = None, prometheus_file: str | None = None
) -> list[str]:
    """Return the command that runs the factory of a directory."""
    found = [sys.executable, "-m", "vine_sharedport", "factory", "run", directory]
    if owner is not None:
        found += ["--owner", format_process(owner)]
    if prometheus_file is not None:
        found += ["--prometheus-file", prometheus_file]
    return found


def environment() -> dict[str, str]:
    """Return an environment in which ``command`` finds this package."""
    home = str(Path(vine_sharedport.__file__).resolve().parents[1])
    paths = [home, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def spawn(
    directory: str, *, owner: Process | None, log_file: str | None = None
) -> subprocess.Popen[bytes]:
    """Start the factory of a directory in the background.

    Args:
        directory: With its configuration.
        owner: The process with which it ends.
        log_file: Where it writes, besides to ``factory.log`` in the directory.
    """
    if not sys.executable:
        raise LaunchError(
            "sys.executable is empty: this program embeds Python; start the factory by "
            "'vine_sharedport factory'"
        )
    path = log_file or os.path.join(directory, files.LOG)
    try:
        output = open(path, "ab")
    except OSError as error:
        raise LaunchError(f"cannot write the factory's log {path}: {error.strerror}") from error
    with output:
        return subprocess.Popen(
            command(directory, owner=owner),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(),
            # The terminal's Ctrl-C is for the program, which then says stop.
            start_new_session=True,
        )


def terminate(directory: str, *, timeout: float) -> bool:
    """Tell the factory of a directory to end; return whether it has, in time.

    Raises:
        LaunchError: There is none, or it is another user's.
    """
    deadline = time.monotonic() + timeout
    told: set[int] = set()
    while files.is_running(directory):
        # A supervisor that was killed has another one after it.
        pid = files.read_status(directory).pid
        if pid not in told:
            try:
                os.kill(pid, signal.SIGTERM)
                told.add(pid)
            except ProcessLookupError:
                pass
            except PermissionError as error:
                raise LaunchError(
                    f"may not end the factory in {directory}, process {pid}: another user's"
                ) from error
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def run(
    directory: str, *, owner: Process | None = None, prometheus_file: str | None = None
) -> int:
    """Run the factory of a directory until it ends; return its exit status.

    Raises:
        LaunchError: A factory runs there already, or it cannot work.
    """
    directory = os.path.abspath(directory)
    lock = _lock(directory)
    try:
        return _Supervisor(directory, owner, prometheus_file).run()
    finally:
        os.close(lock)


def _lock(directory: str) -> int:
    # A worker that becomes a supervisor shares the lock with nobody, but for a moment.
    deadline = time.monotonic() + 2.0
    while (lock := files.lock_directory(directory)) is None:
        if time.monotonic() > deadline:
            raise LaunchError(
                f"a factory runs in {directory} already; see 'vine_sharedport factory status "
                f"{directory}', or give another directory"
            )
        time.sleep(0.05)
    return lock


class _Supervisor:
    def __init__(
        self, directory: str, owner: Process | None, prometheus_file: str | None
    ) -> None:
        self._directory = directory
        self._owner = owner
        self._prometheus_file = prometheus_file
        self._child = 0
        self._told: str | None = None

    def run(self) -> int:
        before = {number: signal.signal(number, self._pass_on) for number in _SIGNALS}
        crashes: list[float] = []
        try:
            while True:
                status = self._run_child(ending=len(crashes) >= _CRASHES)
                if status in (_ENDED, _REFUSED):
                    return status if len(crashes) < _CRASHES else 1
                now = time.monotonic()
                crashes = [*(t for t in crashes if now - t < _CRASH_TIME), now]
                if len(crashes) > _CRASHES:
                    log.error("the factory in %s cannot even end", self._directory)
                    return 1
                how = f"signal {-status}" if status < 0 else f"status {status}"
                log.warning("the factory's process ended by %s; it is started again", how)
                if len(crashes) > 1:
                    time.sleep(1.0)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_on(self, number: int, _: Any) -> None:
        """Tell the one who works to end."""
        self._told = signal.Signals(number).name
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGTERM)

    def _run_child(self, *, ending: bool) -> int:
        alive, ours = os.pipe()  # its end says that we are gone
        supervisor = os.getpid()
        # A signal that comes before we know the child's number must not be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._child = os.fork()
            if self._child == 0:
                os.close(ours)
                self._work(alive, supervisor, ending=ending or self._told is not None)
            os.close(alive)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        try:
            _, status = os.waitpid(self._child, 0)
        finally:
            self._child = 0
            os.close(ours)
        return os.waitstatus_to_exitcode(status)

    def _work(self, alive: int, supervisor: int, *, ending: bool) -> None:
        """Be the process that works; never returns."""
        status = _CRASHED
        try:
            os.setsid()  # what is sent to the supervisor's group does not meet both
            os.set_blocking(alive, False)

            def check() -> None:
                try:
                    if os.read(alive, 1) == b"":
                        raise _SupervisorGone
                except BlockingIOError:
                    pass

            # Only here: nothing that it loads shall be in the supervisor.
            from vine_sharedport.factory.loop import Loop

            try:
                loop = Loop(
                    self._directory,
                    pid=supervisor,
                    owner=self._owner,
                    prometheus_file=self._prometheus_file,
                )
            except SharedPortError as error:
                log.error("%s", error)
                status = _REFUSED
                return
            for number in _SIGNALS:
                signal.signal(
                    number, lambda n, _: loop.stop(f"told to end by {signal.Signals(n).name}")
                )
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            loop.run(check=check, ending=ending)
            status = _ENDED
        except _SupervisorGone:
            log.warning("the process above the factory was killed; going on without it")
            self._become_supervisor()
        except BaseException:
            log.exception("the factory has crashed")
        finally:
            logging.shutdown()
            os._exit(status)

    def _become_supervisor(self) -> None:
        argv = command(
            self._directory, owner=self._owner, prometheus_file=self._prometheus_file
        )
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        os.execve(argv[0], argv, environment())


def owner_process() -> Process:
    """Return the present process, as an owner."""
    found = find_process(os.getpid())
    assert found is not None
    return found
