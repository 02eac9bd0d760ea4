"""The factory's two processes: one works, the other sees that it does.

The supervisor starts the worker and starts it again when it was killed or has crashed; the
new one finds the jobs by their mark. The worker notices that its supervisor is gone, and
becomes one itself. So to kill either of them leaves no job without somebody who removes it.

Both have the descriptor with the directory's lock, and who becomes supervisor keeps it: the
directory is never without a factory in between.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from typing import Any

from vine_sharedport.errors import LaunchError, NoStatusError, SharedPortError
from vine_sharedport.factory.control import (
    PROGRAM_ENDED,
    REFUSED,
    STOPPED,
    command,
    environment,
)
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.phase import Activity, Phase
from vine_sharedport.supervision import Process
from vine_sharedport.trusted_files import absolute

__all__ = ["run"]

log = logging.getLogger(__name__)

# Exit statuses of the process that works, beside REFUSED, to the one that supervises; the
# last one it does not pass on.
_ENDED, _CRASHED = 0, 70

# A factory that crashes again and again is ended: so often in so many seconds.
_CRASHES, _CRASH_TIME = 5, 300.0

# Seconds between two attempts where the system has no room for a process.
_FORK_PAUSE = 2.0

# Seconds after which is said again what a factory waits for; doubled each time.
_SAY_AGAIN, _SAY_AGAIN_MOST = 60.0, 3600.0

# What a shell gives for Ctrl-C.
_INTERRUPTED = 128 + signal.SIGINT

# To the process that works: in the terminal was typed Ctrl-C. SIGINT tells it more.
_CTRL_C = signal.SIGQUIT

_REASONS = {
    PROGRAM_ENDED: Phase.PROGRAM_ENDED,
    STOPPED: Phase.STOPPED,
    _CTRL_C: Phase.CTRL_C,
}


def _signals() -> tuple[signal.Signals, ...]:
    """Return those that end a factory: not what its starter ignores, as nohup does."""
    others = (signal.SIGINT, signal.SIGHUP)
    return (
        signal.SIGTERM,
        PROGRAM_ENDED,
        STOPPED,
        *(number for number in others if signal.getsignal(number) != signal.SIG_IGN),
    )


def _reason(number: int) -> Activity:
    """Return why a factory ends that was told so by a signal."""
    told = signal.Signals(number)
    phase = _REASONS.get(told)
    return Activity(phase) if phase else Activity(Phase.SIGNAL, f"stopped by {told.name}")


class _Left(BaseException):
    """Ctrl-C once more: what is left to do is left to the process that works."""


class _SupervisorGone(BaseException):
    """The supervisor was killed; passes through everything that handles errors."""


class _ManagerFound(BaseException):
    """The manager's name leads to another place than at the start."""


def run(
    directory: str,
    *,
    owner: Process | None = None,
    prometheus_file: str | None = None,
    ending: bool = False,
    lock: int | None = None,
) -> int:
    """Run the factory of a directory until it ends; return its exit status.

    Args:
        directory: With its configuration.
        owner: The process with which it ends.
        prometheus_file: As ``Loop`` has it.
        ending: Only remove the jobs that are left.
        lock: Descriptor with the directory's lock, close-on-exec; stays the caller's.

    Raises:
        LaunchError: A factory runs there already.
    """
    directory = absolute(directory)
    with contextlib.ExitStack() as stack:
        if lock is None:
            lock = _lock(directory)
            stack.callback(os.close, lock)
        return _Supervisor(directory, owner, prometheus_file, ending=ending, lock=lock).run()


def _lock(directory: str) -> int:
    lock = paths.lock_directory(directory)
    if lock is None:
        raise LaunchError(
            f"a factory runs in {directory} already; see 'vine_sharedport factory status "
            f"{directory}', or give another directory"
        )
    return lock


class _Supervisor:
    def __init__(
        self,
        directory: str,
        owner: Process | None,
        prometheus_file: str | None,
        *,
        ending: bool,
        lock: int,
    ) -> None:
        self._directory = directory
        self._owner = owner
        self._prometheus_file = prometheus_file
        self._signals = _signals()
        self._passed = {*self._signals, _CTRL_C}  # what the other process gets
        self._child = 0
        self._ending = ending
        self._told = 0  # the signal that told it to end
        self._lock = lock
        self._interrupts = 0

    def run(self) -> int:
        before = {number: signal.signal(number, self._pass_on) for number in self._signals}
        crashes: list[float] = []
        given_up = False
        try:
            while True:
                given_up = given_up or len(crashes) >= _CRASHES
                try:
                    status = self._run_child(ending=given_up)
                except OSError as error:  # there may be jobs, and no process left for them
                    log.warning("cannot start the factory's process, trying again: %s", error)
                    time.sleep(_FORK_PAUSE)
                    continue
                if status == REFUSED and not (given_up or self._ending):
                    given_up = self._may_have_jobs()
                    if given_up:
                        log.error("the factory cannot go on, and tries to remove its jobs")
                        continue
                if status in (_ENDED, REFUSED):
                    return REFUSED if given_up else status
                now = time.monotonic()
                crashes = [*(t for t in crashes if now - t < _CRASH_TIME), now]
                if len(crashes) > _CRASHES:
                    log.error("the factory in %s cannot even end", self._directory)
                    return 1
                how = f"signal {-status}" if status < 0 else f"status {status}"
                log.warning("the factory's process ended by %s; it is started again", how)
                if len(crashes) > 1:
                    time.sleep(1.0)
        except _Left:
            return _INTERRUPTED
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _may_have_jobs(self) -> bool:
        """Whether a process has worked here, and not come to its end."""
        try:
            return paths.read_status(self._directory).state != "ended"
        except NoStatusError:
            return False

    def _pass_on(self, number: int, _: Any) -> None:
        """Tell the one who works to end."""
        self._ending = True
        passed = _CTRL_C if number == signal.SIGINT else number
        self._told = self._told or passed
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts == 1:
                log.warning(
                    "ending; removing the jobs; Ctrl-C once more leaves that to the background"
                )
            elif self._child:
                log.warning(
                    "process %d goes on removing the jobs in the background; see "
                    "'vine_sharedport factory status %s'",
                    self._child, self._directory,
                )  # fmt: skip
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._child, signal.SIGINT)
                raise _Left
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, passed)
                if number not in (signal.SIGINT, signal.SIGHUP):
                    os.kill(self._child, signal.SIGCONT)

    def _run_child(self, *, ending: bool) -> int:
        supervisor = os.getpid()
        # A signal that comes before we know the child's number must not be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._passed)
        try:
            self._child = os.fork()
            if self._child == 0:
                self._work(supervisor, ending=ending or self._ending)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._passed)
        try:
            _, status = os.waitpid(self._child, 0)
        finally:
            self._child = 0
        return os.waitstatus_to_exitcode(status)

    def _work(self, supervisor: int, *, ending: bool) -> None:
        """Be the process that works; never returns."""
        status = _CRASHED
        try:
            os.setsid()  # what is sent to the supervisor's group does not meet both

            # Only here: nothing that it loads shall be in the supervisor.
            from vine_sharedport.factory import setup
            from vine_sharedport.factory.leftovers import remove_for_other_manager
            from vine_sharedport.factory.loop import Loop
            from vine_sharedport.factory.manager_view import lookup

            looked = said = time.monotonic()
            pause = _SAY_AGAIN

            def check() -> None:
                nonlocal looked, said, pause
                if os.getppid() != supervisor:
                    raise _SupervisorGone
                now = time.monotonic()
                if loop.is_waiting and now - looked >= loop.options.cycle:
                    looked = now
                    if setup.follow_name(self._directory):
                        raise _ManagerFound
                if loop.is_waiting and now - said >= pause:
                    said, pause = now, min(2 * pause, _SAY_AGAIN_MOST)
                    log.warning("%s", lookup.still_waiting(loop.options))

            def end(number: int, _: Any) -> None:
                self._ending = True
                if number == signal.SIGINT:  # left to us: the terminal is for others now
                    _leave_terminal()
                self._told = self._told or number
                loop.stop(_reason(number))

            for number in self._passed:
                signal.signal(number, end)
            while True:
                remove_for_other_manager(self._directory)
                try:
                    loop = Loop(
                        self._directory,
                        pid=supervisor,
                        owner=self._owner,
                        prometheus_file=self._prometheus_file,
                    )
                except SharedPortError as error:
                    log.error("%s", error)
                    status = REFUSED
                    return
                if self._told:  # between two of them
                    loop.stop(_reason(self._told))
                signal.pthread_sigmask(signal.SIG_UNBLOCK, self._passed)
                # Anew in this process: the supervisor may be gone, and would start no other.
                try:
                    loop.run(check=check, ending=ending)
                    status = _ENDED
                    return
                except _ManagerFound:
                    loop.leave()
        except _SupervisorGone:
            log.warning("the process above the factory was killed; going on without it")
            self._become_supervisor(ending=ending or self._ending)
        except BaseException:
            log.exception("the factory has crashed")
        finally:
            logging.shutdown()
            os._exit(status)

    def _become_supervisor(self, *, ending: bool) -> None:
        argv = command(
            self._directory,
            owner=self._owner,
            prometheus_file=self._prometheus_file,
            ending=ending,
            lock=self._lock,
        )
        # Only now: no other program that is started here gets it.
        os.set_inheritable(self._lock, True)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._passed)
        for number in self._signals:
            signal.signal(number, signal.SIG_DFL)
        os.execve(argv[0], argv, environment())


def _leave_terminal() -> None:
    """Write no more to a terminal; the log's file goes on."""
    for fd in (1, 2):
        if os.isatty(fd):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, fd)
            os.close(null)
