"""The factory's process, as the program has it that started it: there until it is stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable

from vine_sharedport.errors import NoStatusError, ScheddError, SettingError, SharedPortError
from vine_sharedport.factory import control
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.phase import Phase
from vine_sharedport.factory.report.staleness import marked_if_stale
from vine_sharedport.supervision import Process, Restarts
from vine_sharedport.trusted_files import working_directory

__all__ = ["Child", "keep"]

log = logging.getLogger(__name__)

_FAILED_START_TIMEOUT = 10.0
_END_ATTEMPTS = 3
_LAST_MOMENT = 2.0
# What has killed all its processes may be about to end this program, too.
_REVIVE_AFTER = 2.0
# Seconds between two looks at what the factory says is wrong, and bytes of the longest status
# that is read for it: it has all jobs, and the manager waits meanwhile.
_LOOK_INTERVAL, _MOST_READ = 2.0, 1 << 20

# Seconds between two looks. While the manager waits for tasks, Python's threads do not run:
# then it is as long as the program's calls of wait() take.
_INTERVAL = 1.0

# Seconds from one start to the next, but for the first; until one has lived for the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 300.0


def _wait(running: subprocess.Popen[bytes], deadline: float) -> bool:
    """Wait for a process's end; return whether it came in time."""
    while running.poll() is None:
        if time.monotonic() > deadline:
            _forget(running)
            return False
        time.sleep(0.02)
    return True


def _tell_to_end(running: subprocess.Popen[bytes]) -> None:
    """Say that the program ends, also to one that is suspended."""
    running.send_signal(control.PROGRAM_ENDED)
    running.send_signal(signal.SIGCONT)


def _forget(running: subprocess.Popen[bytes]) -> None:
    """Wait for a process no more: that is no leak to warn of."""
    if running.poll() is None:
        running.returncode = 0


class Child:
    """A factory's process, started again when it is killed.

    Attributes:
        lock: Of what starts it and takes it away.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = os.getpid()
        self._directory = ""
        self._log_file: str | None = None
        self._cwd: str | None = None
        self._watch: threading.Event | None = None
        self._told: set[str] = set()  # causes of problems
        self._looked = 0.0

    @property
    def is_started(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._process is not None

    @property
    def is_running(self) -> bool:
        """Whether it works, or what has come after it."""
        if self._process is None:
            return False
        there = paths.is_running(self._directory)
        if os.getpid() != self._pid:  # after a fork it is no child of ours
            return bool(there)
        status = self._process.poll()
        if status is None:
            # It was born with the lock: without, it is just ending. None: who knows.
            return there is not False
        # One that was killed may have another one after it, which has kept the lock; one that
        # has ended has not.
        return status < 0 and bool(there)

    @property
    def is_killed(self) -> bool:
        """Whether there is none, and yet there should be."""
        if self._process is None or os.getpid() != self._pid or self.is_running:
            return False
        status = self._process.poll()
        return status is not None and status < 0 and not self.has_ended()

    def end_watch(self) -> None:
        """Start it again no more."""
        if self._watch is not None:
            self._watch.set()
            self._watch = None

    def spawn(self, directory: str, *, log_file: str | None, lock: int) -> None:
        """Start it.

        Args:
            directory: The factory's, prepared.
            log_file: As ``control.spawn`` has it.
            lock: Descriptor with the directory's lock; stays the caller's.

        Raises:
            LaunchError: It cannot be started.
        """
        self._directory, self._log_file = directory, log_file
        self._cwd = working_directory()
        self._process = control.spawn(
            directory, owner=control.owner_process(), log_file=log_file, lock=lock
        )
        self._pid = os.getpid()

    def wait_for_start(self) -> None:
        """Wait until it has begun its work; from then on it is started again when killed.

        Raises:
            LaunchError: It does not begin, and is gone; the message says why.
        """
        assert self._process is not None
        try:
            control.wait_for_start(self._process, self._directory, self._log_file)
        except BaseException:
            self._end_failed_start()
            raise
        log.info("factory started directory=%s pid=%d", self._directory, self._process.pid)
        self.end_watch()
        self._watch = keep(self.revive)

    def wait_for_last(self) -> None:
        """Let one that is just ending come to its end."""
        if self._process is not None and os.getpid() == self._pid:
            _wait(self._process, time.monotonic() + _LAST_MOMENT)

    def _end_failed_start(self) -> None:
        """End our own process, and none that another factory may have there."""
        assert self._process is not None
        failed, self._process = self._process, None
        if failed.poll() is None:
            _tell_to_end(failed)
            try:
                failed.wait(_FAILED_START_TIMEOUT)
            except subprocess.TimeoutExpired:
                _forget(failed)
        elif failed.returncode < 0:  # its other process may go on
            with contextlib.suppress(SettingError):
                self._terminate(_FAILED_START_TIMEOUT)

    def stop(self, timeout: float) -> None:
        """End it and its jobs, and wait until both are gone; not longer than the time-out."""
        if os.getpid() != self._pid:  # the lock is the parent's, too
            return
        with self.lock:
            running, self._process = self._process, None
            self.end_watch()
        if running is None:
            return
        if running.poll() is None:
            _tell_to_end(running)
        try:
            if not self._end(running, time.monotonic() + timeout):
                log.warning(
                    "the factory is still removing its jobs after %g s; it goes on by itself, "
                    "see 'vine_sharedport factory status %s'",
                    timeout, self._directory,
                )  # fmt: skip
        except SharedPortError as error:
            log.warning("%s", error)

    def _end(self, running: subprocess.Popen[bytes], deadline: float) -> bool:
        """Wait for the end of a process that was told, and of its jobs; False: too late."""
        if not _wait(running, deadline):
            return False
        status = running.returncode
        if status == 0:
            return True
        # It was not killed, so no other one of ours goes on: the directory is another's now.
        if status == control.REFUSED and self._is_taken():
            return True
        for _ in range(_END_ATTEMPTS):
            # Killed, and the other process goes on?
            if not self._terminate(max(1.0, deadline - time.monotonic())):
                return False
            if self.has_ended():
                return True
            # None is left, and the jobs are still there.
            last = self._spawn_again(owner=None, ending=True)
            if last is None:
                continue
            if not _wait(last, deadline):
                return False
            if last.returncode > 0:  # it refuses to run
                break
        if self.has_ended():
            return True
        raise ScheddError(
            "the factory was killed, and its jobs could not be removed; it says:\n"
            f"{control.last_lines(self._directory, self._log_file)}"
        )

    def _terminate(self, timeout: float) -> bool:
        """Tell whatever process it has by now to end; return whether it has, in time."""
        return control.terminate(self._directory, timeout=timeout, how=control.PROGRAM_ENDED)

    def revive(self) -> bool:
        """Start the process again if it was killed, and the other one with it.

        Returns:
            Whether it was started.

        Raises:
            LaunchError: It cannot be, now.
        """
        self._log_problems()
        # Who starts or stops it just now sees to it.
        if self._process is None or not self.lock.acquire(blocking=False):
            return False
        try:
            deadline = time.monotonic() + _REVIVE_AFTER
            while self.is_killed:
                if time.monotonic() > deadline:
                    revived = self._spawn_again(owner=control.owner_process(), ending=False)
                    if revived is None:
                        return False
                    self._process = revived
                    log.warning(
                        "the factory in %s was killed; starting it again", self._directory
                    )
                    return True
                time.sleep(0.05)
        finally:
            self.lock.release()
        return False

    def _log_problems(self) -> None:
        """Log what the factory says is wrong, each kind once."""
        if time.monotonic() - self._looked < _LOOK_INTERVAL or self._process is None:
            return
        self._looked = time.monotonic()
        with contextlib.suppress(NoStatusError, OSError):
            path = os.path.join(self._directory, paths.STATUS)
            if os.stat(path).st_size > _MOST_READ:
                return
            status = paths.read_status(self._directory)
            now = marked_if_stale(status, self._directory) if self.is_running else status
            if now.phase == Phase.STALE.value and now.phase not in self._told:
                self._told.add(now.phase)
                log.warning("%s", now.message)
            for problem in status.problems:
                if problem.cause not in self._told and not problem.repaired:
                    self._told.add(problem.cause)
                    log.warning("the factory: %s; %s", problem.explanation, problem.remedy)

    def _spawn_again(
        self, *, owner: Process | None, ending: bool
    ) -> subprocess.Popen[bytes] | None:
        """Start a process after those that were killed; None if one has the directory."""
        lock = paths.lock_directory(self._directory)
        if lock is None:
            return None
        try:
            return control.spawn(
                self._directory,
                owner=owner,
                log_file=self._log_file,
                ending=ending,
                lock=lock,
                cwd=self._cwd,
            )
        finally:
            os.close(lock)

    def _is_taken(self) -> bool:
        """Whether another factory runs in the directory of ours, which has ended."""
        return bool(paths.is_running(self._directory))

    def has_ended(self) -> bool:
        """Whether nothing of it is left, its directory neither."""
        if not os.path.exists(os.path.join(self._directory, paths.CONFIG)):
            return True
        try:
            return paths.read_status(self._directory).state == "ended"
        except NoStatusError:
            return False

    def __del__(self) -> None:
        # Only tells it: it removes its jobs by itself, and nobody should wait here.
        running = self.__dict__.get("_process")
        if running is None or os.getpid() != self._pid:
            return
        with contextlib.suppress(Exception):
            if running.poll() is None:
                _tell_to_end(running)
                _forget(running)
            elif running.returncode < 0:  # another one has taken over
                self._terminate(0.0)


def keep(revive: Callable[[], bool]) -> threading.Event:
    """Call a factory's method again and again, in a thread of its own.

    Args:
        revive: Bound method that starts the factory if it was killed, and returns whether
            it had to. Its object is not kept alive. What it raises is logged.

    Returns:
        What ends the thread when it is set; it also ends with the method's object.
    """
    over = threading.Event()
    method = weakref.WeakMethod(revive)
    threading.Thread(target=_run, args=(method, over), name="keep-factory", daemon=True).start()
    return over


def _run(method: weakref.WeakMethod[Callable[[], bool]], over: threading.Event) -> None:
    restarts = Restarts(_FIRST_PAUSE, _LONGEST_PAUSE, settled=_LONGEST_PAUSE)
    revived, said = float("-inf"), ""
    while not over.wait(_INTERVAL):
        if time.monotonic() - revived < restarts.pause:
            continue
        revive = method()
        if revive is None:
            return
        try:
            found = revive()
        except Exception as error:  # e.g. no more processes or files just now
            if str(error) != said:
                log.warning("cannot check on the factory, trying again: %s", error)
            said, found = str(error), False
        del revive
        if found:
            restarts.ended(time.monotonic() - revived)
            revived, said = time.monotonic(), ""
