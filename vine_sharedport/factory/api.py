"""The factory as a program uses it: an object whose attributes are its options."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import subprocess
import tempfile
import time
from types import TracebackType
from typing import Any

from vine_sharedport.errors import LaunchError
from vine_sharedport.factory import files, process, target
from vine_sharedport.factory.description import describe, preset_of
from vine_sharedport.factory.options import Options, field_name, read_config, write_config
from vine_sharedport.factory.report import Snapshot
from vine_sharedport.pool.worker_job import address_of

__all__ = ["Factory", "resolve"]

log = logging.getLogger(__name__)

_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 60.0
_LAST_LINES = 15


def resolve(given: dict[str, Any]) -> Options:
    """Return the options that hold for what a user has given.

    The file named by ``config_file`` wins over what is given, that over the preset, and
    that over the defaults.

    Raises:
        LaunchError: Something in it is wrong.
    """
    given = dict(given)
    options = Options.make(given)
    if options.config_file is not None:
        given["config_file"] = os.path.abspath(options.config_file)
        options = read_config(given["config_file"], base=Options.make(given))
    preset = preset_of(options)
    if preset is not None:
        options = Options.make(given, base=Options.make(dict(preset.factory)))
        if options.config_file is not None:
            options = read_config(options.config_file, base=options)
    if options.address is None and options.manager_name is not None:
        found = target.values_of_name(options.manager_name, options.system)
        options = Options.make(
            {k: v for k, v in found.items() if k == "address" or not options.secret_file},
            base=options,
        )
    # The process that reads them has another working directory.
    paths = {}
    for name in ("secret_file", "password", "log_file", "debug_file"):
        value = getattr(options, name)
        if value is not None:
            paths[name] = os.path.abspath(value)
    if options.wrapper_input:
        paths["wrapper_input"] = [os.path.abspath(path) for path in options.wrapper_input]
    if options.python_env is not None and "://" not in options.python_env:
        paths["python_env"] = os.path.abspath(options.python_env)
    return Options.make(paths, base=options)


class Factory:
    """HTCondor workers that come, stay as long as they are needed, and are accounted for.

    Every option is an attribute, under the stock factory's names; those that may change
    while it runs take effect within a second::

        with vine.Factory("condor", manager=m) as workers:
            workers.max_workers = 200

    The factory is a process of its own. It ends, and removes its jobs, when the context
    closes, this program ends (by whatever), or the manager does.

    Args:
        batch_type: ``condor``.
        manager: A manager made with ``shared_port=``.
        manager_host_port: As stock; ``HOST:PORT`` of a manager, for the stock factory.
        manager_name: Name of a manager on this host, made with ``SharedPort(name=...)``.
        factory_binary: As stock; without effect.
        worker_binary: The worker program; found on PATH.
        log_file: Where the factory's process writes; ``factory.log`` in its directory by
            default.
        options: Any other option.

    Raises:
        OptionError: There is no such option; the message names the nearest.
        LaunchError: A value cannot be used, or the manager has no shared port.
    """

    def __init__(
        self,
        batch_type: str = "condor",
        manager: Any = None,
        manager_host_port: str | None = None,
        manager_name: str | None = None,
        factory_binary: str | None = None,
        worker_binary: str | None = None,
        log_file: str | None = None,
        **options: Any,
    ) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = os.getpid()
        self._base_directory: str | None = None
        self._given: dict[str, Any] = {}
        if manager is not None:
            self._given.update(target.values_of_manager(manager))
            self._base_directory = getattr(manager, "logging_directory", None)
        named = {
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
            raise LaunchError(
                "the factory does not know its manager; give manager= with shared_port=True, "
                "manager_name= of one on this host, or address= with secret_file="
            )

    def __getattr__(self, name: str) -> Any:
        """Return an option's value."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._options, field_name(name))

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an option; while the factory runs, those that may change."""
        if name.startswith("_"):
            object.__setattr__(self, name, value)
            return
        plain = field_name(name)
        if not self._is_running:
            if plain in ("batch_type", "manager_name"):
                # As stock: what the factory is was decided when it was made.
                if Options.make({plain: value}) != Options.make(
                    {plain: getattr(self._options, plain)}
                ):
                    raise LaunchError(f"{name} cannot be changed; make another factory")
                return
            self._options = Options.make({plain: value}, base=self._options)
            self._given[plain] = value
            return
        changed = Options.make({plain: value}, base=self._options, running=True)
        write_config(os.path.join(self.directory, files.CONFIG), changed)
        self._options = changed
        self._given[plain] = value

    def __dir__(self) -> list[str]:
        """List the options too, for completion."""
        return sorted({*super().__dir__(), *(o.name for o in dataclasses.fields(Options))})

    def __repr__(self) -> str:
        state = "running" if self._is_running else "not running"
        return f"<Factory of {self._options.address or self._options.manager_name}: {state}>"

    @property
    def _is_running(self) -> bool:
        return self._process is not None

    def start(self) -> Factory:
        """Start the factory's process; does nothing if it runs.

        Raises:
            LaunchError: It cannot work; the message says why.
        """
        if self._is_running:
            return self
        options = resolve(self._given)
        directory = self._choose_directory(options)
        os.makedirs(directory, exist_ok=True)
        options = Options.make({"directory": directory}, base=options)
        # What is wrong shows here, and not in a log.
        describe(options, directory, factory=files.factory_id(directory), now=time.time())
        write_config(os.path.join(directory, files.CONFIG), options)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, files.STATUS))
        self._options = options
        self._process = process.spawn(
            directory, owner=process.owner_process(), log_file=options.log_file
        )
        try:
            self._wait_for_start(directory)
        except BaseException:
            self.stop()
            raise
        log.info("factory started directory=%s pid=%d", directory, self._process.pid)
        return self

    def _choose_directory(self, options: Options) -> str:
        if options.directory is not None:
            return os.path.abspath(options.directory)
        preset = preset_of(options)
        base = preset.base_directory if preset is not None else None
        base = base or self._base_directory or os.getcwd()
        assert options.address is not None
        return target.default_directory(base, str(address_of(options.address).sock))

    def _wait_for_start(self, directory: str) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT
        while not os.path.exists(os.path.join(directory, files.STATUS)):
            if self._process.poll() is not None:
                raise LaunchError(
                    f"the factory's process ended with status {self._process.returncode}; "
                    f"it says:\n{self._last_lines(directory)}"
                )
            if time.monotonic() > deadline:
                raise LaunchError(
                    f"the factory has not begun after {_START_TIMEOUT:g} s; it says:\n"
                    f"{self._last_lines(directory)}"
                )
            time.sleep(0.02)

    def _last_lines(self, directory: str) -> str:
        path = self._options.log_file or os.path.join(directory, files.LOG)
        try:
            with open(path, errors="replace") as file:
                return "".join(file.readlines()[-_LAST_LINES:]).rstrip()
        except OSError:
            return "nothing"

    def stop(self) -> None:
        """End the factory and its workers' jobs, and wait until both are gone. Idempotent."""
        if self._process is None or os.getpid() != self._pid:
            return
        running, self._process = self._process, None
        if running.poll() is None:
            running.terminate()
        directory = self._options.directory
        assert directory is not None
        deadline = time.monotonic() + _STOP_TIMEOUT
        try:
            while running.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            left = max(1.0, deadline - time.monotonic())
            # Killed, and another process has taken over?
            if not process.terminate(directory, timeout=left):
                log.warning(
                    "the factory is still removing its jobs after %g s; it goes on by itself, "
                    "see 'vine_sharedport factory status %s'",
                    _STOP_TIMEOUT, directory,
                )  # fmt: skip
                # Nobody will wait for it: that is no leak to warn of.
                running.returncode = running.poll() or 0
        except LaunchError as error:
            log.warning("%s", error)

    def status(self) -> Snapshot:
        """Return what the factory knows: where each worker is, and what is wrong.

        Raises:
            LaunchError: It has never been started.
        """
        if self._options.directory is None:
            raise LaunchError("the factory has not been started; use start(), or 'with'")
        return files.read_status(self._options.directory)

    def submit_description(self) -> str:
        """Return exactly what would be submitted for workers now.

        Raises:
            LaunchError: Nothing could be; the message says why.
        """
        if self._is_running:
            options, directory = self._options, self.directory
        else:
            options = resolve(self._given)
            directory = self._choose_directory(options)
        with contextlib.ExitStack() as stack:
            # A place for batch systems wants to write a file there.
            if options.grid and not os.path.isdir(directory):
                directory = stack.enter_context(tempfile.TemporaryDirectory())
            factory = (
                files.factory_id(directory)
                if os.path.isdir(directory) and self._is_running
                else "0" * 32
            )
            return describe(options, directory, factory=factory, now=time.time()).text

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
        self.stop()

    def __del__(self) -> None:
        if self.__dict__.get("_process") is not None:
            self.stop()

    def _repr_html_(self) -> str:
        """Return the present state for a notebook."""
        try:
            return self.status()._repr_html_()
        except LaunchError:
            return f"<code>{repr(self).replace('<', '&lt;')}</code>"
