"""The factory as a program uses it: an object whose attributes are its options."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import logging
import os
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable

from vine_sharedport.condor.worker_job.submit import said_after_ctrl_c
from vine_sharedport.errors import NoStatusError, SettingError
from vine_sharedport.factory import FACTORIES, SHARE_LAN, setup
from vine_sharedport.factory.child import Child
from vine_sharedport.factory.manager_view import lookup
from vine_sharedport.factory.options import config_file
from vine_sharedport.factory.options.schema import Options, field_name
from vine_sharedport.factory.options.stored import write_config
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.phase import Phase
from vine_sharedport.factory.report.snapshot import Snapshot
from vine_sharedport.factory.report.staleness import marked_if_stale, why_not_written
from vine_sharedport.registry.reference import Reference

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
# Seconds for options that are set one after the other when it runs already. A manager of this
# program makes that unnecessary: it answers no factory before the program waits for tasks.
_SETTLE = 1


def _stop_at_exit(child: weakref.ref[Child]) -> None:
    """Stop a factory that is still there when the interpreter ends."""
    found = child()
    if found is not None:
        with contextlib.suppress(KeyboardInterrupt):
            found.stop(_EXIT_TIMEOUT)


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
        self._child = Child()
        self._base_directory: str | None = None
        self._given: dict[str, Any] = {}
        self._has_manager = manager is not None and not isinstance(manager, Reference)
        self._manager: Callable[[], Any] = lambda: None
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
            self._manager = weakref.ref(manager)

    if not TYPE_CHECKING:  # for which any name would be right

        def __getattr__(self, name: str) -> Any:
            """Return an option's value, that of its configuration file where that has one."""
            if name.startswith("_"):
                raise AttributeError(name)
            now = config_file.in_force(self._placed, running=self._child.is_started)
            return getattr(now, field_name(name))

        def __setattr__(self, name: str, value: Any) -> None:
            """Set an option; while the factory runs, those that may change."""
            if name.startswith("_"):
                object.__setattr__(self, name, value)
                return
            with self._child.lock:
                self._set(name, value)

    def _set(self, name: str, value: Any) -> None:
        plain = field_name(name)
        runs = self._child.is_running or self._child.is_killed
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
        state = "running" if self._child.is_running else "not running"
        return f"<Factory of {self._placed.address or self._options.manager_name}: {state}>"

    @property
    def _placed(self) -> Options:
        """The options, with the manager's place: its process may have found that since."""
        if not self._child.is_started or self._options.directory is None:
            return self._options
        return setup.with_place(self._options, self._options.directory)

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
        with self._child.lock:
            return self._start()

    def _start(self) -> Factory:
        if self._child.is_running:
            return self
        self._child.wait_for_last()
        settle = 0 if self._has_manager else _SETTLE
        options = setup.resolve({"settle": settle, **self._given})
        if options.peer_transfers == "site":
            tell = getattr(self._manager(), SHARE_LAN, None)
            if tell is not None:
                tell("an option of its factory says so")
        directory = self._choose_directory(options)
        prepared = setup.prepare(options, directory, knows_secret=self._has_manager)
        with prepared as (self._options, lock):
            self._child.spawn(directory, log_file=options.log_file, lock=lock)
        self._child.wait_for_start()
        # The last one registered is the first one called: a pool that was made before is
        # still there, so that the jobs can be removed.
        atexit.register(_stop_at_exit, weakref.ref(self._child))
        return self

    def _choose_directory(self, options: Options) -> str:
        return setup.choose_directory(options, self._base_directory)

    def stop(self) -> None:
        """End the factory and its workers' jobs, and wait until both are gone. Idempotent."""
        self._child.stop(_STOP_TIMEOUT)

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
        try:
            snapshot = paths.read_status(self._options.directory)
        except NoStatusError as error:
            why = why_not_written(self._options.directory) if self._child.is_running else None
            if why is None:
                raise
            raise NoStatusError(f"the factory runs, and its status is gone: {why}") from error
        if running:
            return marked_if_stale(snapshot, self._options.directory)
        if snapshot.state == "ended":
            return snapshot
        then = "it is started again soon; stop() removes them"
        if not self._child.is_killed:
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
        if self._child.is_running:
            options, directory = self._placed, self.directory
        else:
            options = setup.resolve(self._given)
            directory = self._choose_directory(options)
        factory = paths.factory_id(directory) if self._child.is_running else "0" * 32
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
            try:
                self.stop()
            except Exception as failed:  # the program's own result or exception is worth more
                log.warning(
                    "the factory may still be there: %s; see 'vine_sharedport factory status "
                    "%s'",
                    failed, self._options.directory,
                )  # fmt: skip

    def _repr_html_(self) -> str:
        """Return the present state for a notebook."""
        try:
            return self.status()._repr_html_()
        except NoStatusError:
            return f"<code>{repr(self).replace('<', '&lt;')}</code>"
