"""What has to be found, checked and made before a factory's process can start."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import logging
import os
import time
from collections.abc import Iterator
from typing import Any

from vine_sharedport.condor.own_pool import use_own_pool
from vine_sharedport.errors import LaunchError, SettingError, SharedPortError
from vine_sharedport.factory.jobs.description import describe, preset_of
from vine_sharedport.factory.manager_view import lookup
from vine_sharedport.factory.options.schema import Options, contradiction
from vine_sharedport.factory.options.stored import read_config, write_config
from vine_sharedport.factory.report import paths as files
from vine_sharedport.secret_file import read_secret_file
from vine_sharedport.trusted_files import (
    absolute,
    check_file,
    check_working_directory,
    working_directory,
)
from vine_sharedport.wire.handoff import check_sock_id

__all__ = [
    "changing_config",
    "choose_directory",
    "describe_now",
    "follow_name",
    "prepare",
    "resolve",
    "with_place",
]

log = logging.getLogger(__name__)


def resolve(given: dict[str, Any]) -> Options:
    """Return the options that hold for what a user has given.

    The file named by ``config_file`` wins over what is given, that over the preset, and
    that over the defaults.

    Raises:
        SettingError: Something in it is wrong.
    """
    given = dict(given)
    if given.get("address") is not None:
        given.pop("manager_name", None)  # which would be followed to another place
    options = Options.make(given)
    _check_files(options)
    if options.config_file is not None:
        given["config_file"] = absolute(options.config_file)
        options = read_config(given["config_file"], base=Options.make(given))
    preset = preset_of(options)
    if preset is not None:
        options = Options.make(given, base=Options.make(dict(preset.factory)))
        if options.config_file is not None:
            options = read_config(options.config_file, base=options)
    # Here and not when they are set, one after the other.
    wrong = contradiction(options, is_given=_says_minimum(given, options.config_file))
    if wrong is not None:
        raise SettingError("; ".join(wrong))
    if options.schedd is None and options.pool is None:
        use_own_pool()
    if options.address is None and options.manager_name is not None:
        found = lookup.values_of(lookup.find_by_name(options.manager_name, options.system))
        given_files = {
            "secret_file": options.secret_file,
            "password_file": options.password_file,
        }
        found.update({name: path for name, path in given_files.items() if path is not None})
        options = Options.make(found, base=options)
    elif options.address is not None and options.secret_file is None:
        secret_file = lookup.find_secret_file(options.reference)
        options = Options.make({"secret_file": secret_file}, base=options)
    # The process that reads them has another working directory.
    paths: dict[str, Any] = {}
    for name in ("secret_file", "password_file", "log_file", "debug_file"):
        value = getattr(options, name)
        if value is not None:
            paths[name] = absolute(value)
    if options.wrapper_input:
        paths["wrapper_input"] = [absolute(path) for path in options.wrapper_input]
    if options.python_env is not None and "://" not in options.python_env:
        paths["python_env"] = absolute(options.python_env)
    return Options.make(paths, base=options)


def _check_files(options: Options) -> None:
    """Refuse files that cannot be used, before anything is looked for by the options."""
    for name in ("password_file", "python_env"):
        path = getattr(options, name)
        if path is not None and "://" not in path:
            check_file(path, f"{name.replace('_file', '')} file")
    for path in options.wrapper_input:
        check_file(path, "wrapper_input file")
    if options.secret_file is not None:  # last: it may warn of its mode
        read_secret_file(options.secret_file)


def _says_minimum(given: dict[str, Any], config_file: str | None) -> bool:
    """Whether a user has given ``min_workers``, be it its default."""
    if given.get("min_workers") is not None:
        return True
    none = Options(min_workers=0)
    return config_file is not None and read_config(config_file, base=none).min_workers > 0


def follow_name(directory: str) -> bool:
    """Write a factory's configuration anew if its manager's name has another address by now.

    For a factory that has no answer yet. Returns whether there is something new.
    """
    path = os.path.join(directory, files.CONFIG)
    try:
        before = read_config(path)
        found = lookup.look_again(before)
        if found == before:
            return False
        if found.config_file is not None:  # what it says of the place holds
            read_config(found.config_file, base=found, running=True)
        with changing_config(directory):
            # To look has taken a while, in which its program may have set options.
            write_config(path, _at_place_of(found, read_config(path)))
    except SharedPortError as error:
        _warn(str(error))
        return False
    except (OSError, ValueError) as error:
        _warn(
            f"{error}; is the directory where the factory was started still there? End it and "
            "start it where the manager is started"
        )
        return False
    log.info("the manager %s has come, as %s", found.manager_name, found.address)
    return True


def with_place(options: Options, directory: str) -> Options:
    """Return the options with the manager's place as its factory has it by now."""
    if options.manager_name is None:
        return options
    with contextlib.suppress(SettingError):
        return _at_place_of(read_config(os.path.join(directory, files.CONFIG)), options)
    return options


def _at_place_of(found: Options, options: Options) -> Options:
    names = ("address", "secret_file", "ssl", "password_file")
    return dataclasses.replace(options, **{name: getattr(found, name) for name in names})


@contextlib.contextmanager
def changing_config(directory: str) -> Iterator[None]:
    """Keep others from changing a factory's configuration between our reading and writing.

    A file system without locks for directories (NFS) has that microsecond unprotected.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Not by closing it: a process that was forked meanwhile has it too.
            stack.callback(fcntl.flock, fd, fcntl.LOCK_UN)
        yield


@functools.lru_cache(maxsize=1)  # once, however often it is seen
def _warn(error: str) -> None:
    log.warning("cannot look for the manager by its name: %s", error)


def choose_directory(options: Options, base: str | None = None) -> str:
    """Return the directory for a factory with these options, absolute.

    Args:
        options: What ``resolve`` has found.
        base: Where to make one, unless the options tell; by default the present directory.
    """
    if options.directory is not None:
        if not os.path.isabs(options.directory):
            check_working_directory("make the factory's directory")
        return absolute(options.directory)
    preset = preset_of(options)
    base = (preset.base_directory if preset is not None else None) or base
    if base is None:
        check_working_directory("make the factory's directory")
        base = working_directory()
    name = options.reference.sock_id
    with contextlib.suppress(SettingError):
        # The same one, whether the manager is there by now or not.
        name = check_sock_id(options.manager_name or "")
    return lookup.default_directory(base, name)


@contextlib.contextmanager
def prepare(
    options: Options, directory: str, *, knows_secret: bool = False
) -> Iterator[tuple[Options, int]]:
    """Make a factory's directory with its configuration, when all of it can work.

    Yields the options, completed by the directory, and a descriptor that holds the
    directory's lock until the context ends. The factory's process goes on with that one
    (``process.spawn``, ``process.run``): nobody else writes a configuration between.

    Args:
        options: What ``resolve`` has found.
        directory: The factory's.
        knows_secret: It is the manager itself that has told it.

    Raises:
        SettingError: It cannot work. Nothing has been made or changed.
        LaunchError: One runs there.
    """
    # What is wrong shows here, and not in a log.
    for name in ("log_file", "debug_file"):
        path = getattr(options, name)
        if path is not None and os.path.dirname(path) != directory:
            _check_writable(name, path)
    describe_now(options, directory, "0" * 32)
    lookup.warn_of_transfers(options)
    if not knows_secret:
        lookup.check_secret(options)
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise SettingError(
            f"cannot make the factory's directory {directory}: {error.strerror}; give another "
            "one by the option directory"
        ) from error
    options = Options.make({"directory": directory}, base=options)
    lock = files.lock_directory(directory)
    if lock is None:
        raise LaunchError(
            f"a factory runs in {directory} already; give another directory, or end that one "
            f"by 'vine_sharedport factory stop {directory}'"
        )
    try:
        files.factory_id(directory)
        write_config(os.path.join(directory, files.CONFIG), options)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, files.STATUS))
        yield options, lock
    finally:
        os.close(lock)


def _check_writable(name: str, path: str) -> None:
    above = os.path.dirname(path)
    if not os.path.isdir(above):
        raise SettingError(
            f"cannot write {name} {path}: there is no directory {above}; make it"
        )
    if os.path.isdir(path) or not os.access(path if os.path.exists(path) else above, os.W_OK):
        raise SettingError(f"cannot write {name} {path}; give a file that you may write")


def describe_now(options: Options, directory: str, factory: str) -> str:
    """Return what would be submitted; makes no directory."""
    return describe(options, directory, factory=factory, now=time.time()).job.format()
