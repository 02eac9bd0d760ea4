"""The factory as a program uses it: an object whose attributes are its options."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import logging
import os
import signal
import subprocess
import threading
import time
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vine_sharedport.condor.worker_job.submit import said_after_ctrl_c
from vine_sharedport.errors import NoStatusError, ScheddError, SettingError, SharedPortError
from vine_sharedport.factory import FACTORIES, process, setup
from vine_sharedport.factory.manager_view import lookup
from vine_sharedport.factory.options import config_file
from vine_sharedport.factory.options.schema import Options, field_name, write_config
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.phase import Phase
from vine_sharedport.factory.report.snapshot import Snapshot
from vine_sharedport.factory.restart import keep
from vine_sharedport.registry.reference import Reference
from vine_sharedport.supervision import Process

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from vine_sharedport.factory.declarations import DeclaredOptions, OptionValues
else:  # what typing.get_type_hints() then sees: dict[str, Any]
    DeclaredOptions, Unpack, OptionValues = object, dict, (str, Any)

__all__ = ["Factory"]

log = logging.getLogger(__name__)

_STOP_TIMEOUT = 60.0
# When the program ends, so does the factory, by itself: nobody should wait long for that.
_EXIT_TIMEOUT = 20.0
_FAILED_START_TIMEOUT = 10.0
_END_ATTEMPTS = 3
_LAST_MOMENT = 2.0
# What has killed all its processes may be about to end this program, too.
_REVIVE_AFTER = 2.0
# Seconds between two looks at what the factory says is wrong, and bytes of the longest status
# that is read for it: it has all jobs, and the manager waits meanwhile.
_LOOK_INTERVAL, _MOST_READ = 2.0, 1 << 20
# Seconds for options that are set one after the other when it runs already. A manager of this
# program makes that unnecessary: it answers no factory before the program waits for tasks.
_SETTLE = 1


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
    running.send_signal(process.PROGRAM_ENDED)
    running.send_signal(signal.SIGCONT)


def _forget(running: subprocess.Popen[bytes]) -> None:
    """Wait for a process no more: that is no leak to warn of."""
    if running.poll() is None:
        running.returncode = 0


def _stop_at_exit(factory: weakref.ref[Factory]) -> None:
    """Stop a factory that is still there when the interpreter ends."""
    found = factory()
    if found is not None:
        with contextlib.suppress(KeyboardInterrupt):
            found._stop(_EXIT_TIMEOUT)


class Factory(DeclaredOptions):
    """HTCondor workers that come, stay as long as they are needed, and are accounted for.

    Every option is an attribute, under the stock factory's names. Set them before it starts;
    those that may change while it runs take effect within a second::

        workers = vine.Factory("condor", manager=m)
        workers.max_workers = 200
        with workers:
            ...

    What is set inside of ``with`` and before the manager's first ``wait()`` still counts for
    the first jobs.

    The factory is a process of its own. It ends, and removes its jobs, when the context
    closes, this program ends (by whatever), or the manager does.

    Args:
        batch_type: ``condor``, which is the default where the manager has a shared port, and
            elsewhere ``local``, as stock. For another one a ``StockFactory`` is made.
        manager: A manager made with ``shared_port=``, or its ``shared_port.reference``.
        manager_host_port: As stock; ``HOST:PORT`` of a manager, for the stock factory.
        manager_name: Name of a manager that was started in the present directory, or on this
            host with ``SharedPort(name=...)``.
        factory_binary: As stock; without effect.
        worker_binary: The worker program; found on PATH.
        log_file: Where the factory's process writes; ``factory.log`` in its directory by
            default.
        options: Any other option.

    Raises:
        OptionError: There is no such option; the message names the nearest.
        SettingError: A value cannot be used, or the manager has no shared port.
    """

    def __init__(
        self,
        batch_type: str | None = None,
        manager: Any = None,
        manager_host_port: str | None = None,
        manager_name: str | None = None,
        factory_binary: str | os.PathLike[str] | None = None,
        worker_binary: str | os.PathLike[str] | None = None,
        log_file: str | os.PathLike[str] | None = None,
        **options: Unpack[OptionValues],
    ) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = os.getpid()
        self._lock = threading.RLock()  # of what starts and takes away the process
        self._keeper: threading.Event | None = None
        self._base_directory: str | None = None
        self._cwd: str | None = None  # where the manager's name is looked for
        self._told: set[str] = set()  # causes of problems
        self._looked = 0.0
        self._given: dict[str, Any] = {}
        self._has_manager = manager is not None and not isinstance(manager, Reference)
        self._is_used = False  # for what it is there for
        if manager is not None:
            lookup.check_manager(manager)
            reference = Reference.of(manager)
            self._given.update(lookup.values_of(reference))
            self._base_directory = reference.directory
        named: dict[str, Any] = {
            "batch_type": batch_type,
            "manager_host_port": manager_host_port,
            "manager_name": None if manager is not None else manager_name,
            "factory_binary": factory_binary,
            "worker_binary": worker_binary,
            "log_file": None if log_file == os.devnull else log_file,
        }
        named.update(options)
        for name, value in named.items():
            if value is not None:
                self._given[field_name(name)] = value
        self._options = Options.make(self._given)
        if not any(self._given.get(n) for n in ("address", "manager_name", "config_file")):
            raise SettingError(
                "the factory does not know its manager; give manager= with shared_port=True, "
                "manager_name= of one on this host, or address= with secret_file="
            )
        if self._has_manager:
            # It tells of those that were forgotten when it waits for tasks.
            manager.__dict__.setdefault(FACTORIES, weakref.WeakSet()).add(self)

    if not TYPE_CHECKING:  # for which any name would be right

        def __getattr__(self, name: str) -> Any:
            """Return an option's value, that of its configuration file where that has one."""
            if name.startswith("_"):
                raise AttributeError(name)
            now = config_file.in_force(self._placed, running=self._process is not None)
            return getattr(now, field_name(name))

        def __setattr__(self, name: str, value: Any) -> None:
            """Set an option; while the factory runs, those that may change."""
            if name.startswith("_"):
                object.__setattr__(self, name, value)
                return
            with self._lock:
                self._set(name, value)

    def _set(self, name: str, value: Any) -> None:
        plain = field_name(name)
        runs = self._is_running or self._is_killed
        config_file.check_free(self._options, plain, value, running=runs)
        if not runs:
            if plain in ("batch_type", "manager_name"):
                # As stock: what the factory is was decided when it was made.
                if Options.make({plain: value}) != Options.make(
                    {plain: getattr(self._options, plain)}
                ):
                    raise SettingError(f"{name} cannot be changed; make another factory")
                return
            self._options = Options.make({plain: value}, base=self._options)
            self._given[plain] = value
            return
        directory = self.directory
        with setup.changing_config(directory):
            changed = Options.make({plain: value}, base=self._placed, running=True)
            write_config(os.path.join(directory, paths.CONFIG), changed)
        self._options = changed
        self._given[plain] = value

    def __dir__(self) -> list[str]:
        """List the options too, for completion."""
        return sorted({*super().__dir__(), *(o.name for o in dataclasses.fields(Options))})

    def __repr__(self) -> str:
        state = "running" if self._is_running else "not running"
        return f"<Factory of {self._placed.address or self._options.manager_name}: {state}>"

    @property
    def _placed(self) -> Options:
        """The options, with the manager's place: its process may have found that since."""
        if self._process is None or self._options.directory is None:
            return self._options
        return setup.with_place(self._options, self._options.directory)

    @property
    def _is_running(self) -> bool:
        if self._process is None:
            return False
        there = paths.is_running(self.directory)
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
    def _is_killed(self) -> bool:
        """Whether there is none, and yet there should be."""
        if self._process is None or os.getpid() != self._pid or self._is_running:
            return False
        status = self._process.poll()
        return status is not None and status < 0 and not self._has_ended()

    def _warn_of_no_start(self) -> None:
        """Tell of a factory that nobody started, perhaps for a ``with`` that was forgotten."""
        if not self._is_used:
            log.warning(
                "the manager waits for tasks, and its factory was made but not started: no "
                "workers come from it; write 'with' before it, or call its start()"
            )

    def start(self) -> Factory:
        """Start the factory's process; does nothing if it runs.

        As long as this program goes on and has not called ``stop()``, a factory that is
        killed is started again; it knows its jobs by their mark.

        Raises:
            SettingError: It cannot work; the message says why.
            LaunchError: Its process did not start.
        """
        self._is_used = True
        with self._lock:
            return self._start()

    def _start(self) -> Factory:
        if self._is_running:
            return self
        if self._process is not None and os.getpid() == self._pid:
            _wait(self._process, time.monotonic() + _LAST_MOMENT)
        settle = 0 if self._has_manager else _SETTLE
        options = setup.resolve({"settle": settle, **self._given})
        directory = self._choose_directory(options)
        with contextlib.suppress(OSError):  # it was removed
            self._cwd = os.getcwd()
        prepared = setup.prepare(options, directory, knows_secret=self._has_manager)
        with prepared as (self._options, lock):
            self._process = process.spawn(
                directory, owner=process.owner_process(), log_file=options.log_file, lock=lock
            )
        self._pid = os.getpid()
        try:
            process.wait_for_start(self._process, directory, options.log_file)
        except BaseException:
            self._end_failed_start()
            raise
        # The last one registered is the first one called: a pool that was made before is
        # still there, so that the jobs can be removed.
        atexit.register(functools.partial(_stop_at_exit, weakref.ref(self)))
        log.info("factory started directory=%s pid=%d", directory, self._process.pid)
        self._end_keeper()
        self._keeper = keep(self._revive)
        return self

    def _end_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.set()
            self._keeper = None

    def _choose_directory(self, options: Options) -> str:
        return setup.choose_directory(options, self._base_directory)

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

    def stop(self) -> None:
        """End the factory and its workers' jobs, and wait until both are gone. Idempotent."""
        self._stop(_STOP_TIMEOUT)

    def _stop(self, timeout: float) -> None:
        if os.getpid() != self._pid:  # the lock is the parent's, too
            return
        with self._lock:
            running, self._process = self._process, None
            self._end_keeper()
        if running is None:
            return
        if running.poll() is None:
            _tell_to_end(running)
        try:
            if not self._end(running, time.monotonic() + timeout):
                log.warning(
                    "the factory is still removing its jobs after %g s; it goes on by itself, "
                    "see 'vine_sharedport factory status %s'",
                    timeout, self.directory,
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
        if status == process.REFUSED and self._is_taken():
            return True
        for _ in range(_END_ATTEMPTS):
            # Killed, and the other process goes on?
            if not self._terminate(max(1.0, deadline - time.monotonic())):
                return False
            if self._has_ended():
                return True
            # None is left, and the jobs are still there.
            last = self._spawn_again(owner=None, ending=True)
            if last is None:
                continue
            if not _wait(last, deadline):
                return False
            if last.returncode > 0:  # it refuses to run
                break
        if self._has_ended():
            return True
        raise ScheddError(
            "the factory was killed, and its jobs could not be removed; it says:\n"
            f"{process.last_lines(self.directory, self._options.log_file)}"
        )

    def _terminate(self, timeout: float) -> bool:
        """Tell whatever process it has by now to end; return whether it has, in time."""
        return process.terminate(self.directory, timeout=timeout, how=process.PROGRAM_ENDED)

    def _revive(self) -> bool:
        """Start the process again if it was killed, and the other one with it.

        Returns:
            Whether it was started.

        Raises:
            LaunchError: It cannot be, now.
        """
        self._tell_problems()
        # Who starts or stops it just now sees to it.
        if self._process is None or not self._lock.acquire(blocking=False):
            return False
        try:
            deadline = time.monotonic() + _REVIVE_AFTER
            while self._is_killed:
                if time.monotonic() > deadline:
                    revived = self._spawn_again(owner=process.owner_process(), ending=False)
                    if revived is None:
                        return False
                    self._process = revived
                    log.warning(
                        "the factory in %s was killed; starting it again", self.directory
                    )
                    return True
                time.sleep(0.05)
        finally:
            self._lock.release()
        return False

    def _tell_problems(self) -> None:
        """Log what the factory says is wrong, each kind once."""
        if time.monotonic() - self._looked < _LOOK_INTERVAL or self._process is None:
            return
        self._looked = time.monotonic()
        with contextlib.suppress(NoStatusError, OSError):
            path = os.path.join(self.directory, paths.STATUS)
            if os.stat(path).st_size > _MOST_READ:
                return
            for problem in paths.read_status(self.directory).problems:
                if problem.cause not in self._told and not problem.repaired:
                    self._told.add(problem.cause)
                    log.warning("the factory: %s; %s", problem.explanation, problem.remedy)

    def _spawn_again(
        self, *, owner: Process | None, ending: bool
    ) -> subprocess.Popen[bytes] | None:
        """Start a process after those that were killed; None if one has the directory."""
        lock = paths.lock_directory(self.directory)
        if lock is None:
            return None
        try:
            return process.spawn(
                self.directory,
                owner=owner,
                log_file=self._options.log_file,
                ending=ending,
                lock=lock,
                cwd=self._cwd,
            )
        finally:
            os.close(lock)

    def _is_taken(self) -> bool:
        """Whether another factory runs in the directory of ours, which has ended."""
        return bool(paths.is_running(self.directory))

    def _has_ended(self) -> bool:
        """Whether nothing of it is left, its directory neither."""
        if not os.path.exists(os.path.join(self.directory, paths.CONFIG)):
            return True
        try:
            return paths.read_status(self.directory).state == "ended"
        except NoStatusError:
            return False

    def status(self) -> Snapshot:
        """Return what the factory knows: where each worker is, and what is wrong.

        Where its process was killed, that is what it knew last, and the message says so.

        Raises:
            NoStatusError: It has never been started.
        """
        if self._options.directory is None:
            raise NoStatusError("the factory has not been started; use start(), or 'with'")
        # In this order: what is read after the end is the last that it has written.
        running = paths.is_running(self._options.directory)
        snapshot = paths.read_status(self._options.directory)
        if snapshot.state == "ended" or running:
            return snapshot
        then = "it is started again soon; stop() removes them"
        if not self._is_killed:
            path = self._options.log_file or os.path.join(self.directory, paths.LOG)
            then = f"{path} says why"
        message = f"{Phase.KILLED.text}; {then}"
        return dataclasses.replace(snapshot, phase=Phase.KILLED.value, message=message)

    def submit_description(self) -> str:
        """Return exactly what would be submitted for workers now.

        Raises:
            SettingError: Nothing could be; the message says why.
        """
        self._is_used = True
        if self._is_running:
            options, directory = self._placed, self.directory
        else:
            options = setup.resolve(self._given)
            directory = self._choose_directory(options)
        factory = paths.factory_id(directory) if self._is_running else "0" * 32
        return setup.describe_now(options, directory, factory)

    def set_environment(self, env: str) -> None:
        """Run the workers in a Python environment, as ``python_env`` does."""
        self.python_env = env

    def __enter__(self) -> Factory:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with said_after_ctrl_c(kind, "removing the factory's worker jobs ..."):
            self.stop()

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

    def _repr_html_(self) -> str:
        """Return the present state for a notebook."""
        try:
            return self.status()._repr_html_()
        except NoStatusError:
            return f"<code>{repr(self).replace('<', '&lt;')}</code>"
