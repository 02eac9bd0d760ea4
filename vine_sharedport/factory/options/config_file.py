"""The file that ``config_file`` names: what it says wins over what is given otherwise."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from vine_sharedport.errors import OptionError, SettingError
from vine_sharedport.factory.options.schema import CHANGEABLE, Options
from vine_sharedport.factory.options.stored import read_config, write_config

__all__ = ["check_free", "in_force", "keep"]

# In the factory's directory: all that held when the file could be used last.
_KEPT = "options.json"


def keep(options: Options, directory: str) -> None:
    """Write down what holds in a running factory, for when its file cannot be used."""
    if options.config_file is not None:
        with contextlib.suppress(SettingError):
            write_config(os.path.join(directory, _KEPT), options)


def in_force(options: Options, *, running: bool = False) -> Options:
    """Return the options that hold, with what their file says now.

    A file that cannot be used changes nothing; ``start()``, or the status of a factory that
    runs, tells why.

    Args:
        options: What is given otherwise.
        running: A file that changes what cannot change once it runs cannot be used.
    """
    if options.config_file is None:
        return options
    with contextlib.suppress(SettingError):
        return read_config(options.config_file, base=options, running=running)
    if running and options.directory is not None:
        with contextlib.suppress(SettingError):
            return read_config(os.path.join(options.directory, _KEPT))
    return options


def check_free(options: Options, name: str, value: Any, *, running: bool = False) -> None:
    """Refuse a value in the place of which the file's would hold.

    Args:
        options: What is given so far.
        name: Name of the field of ``Options``.
        value: What it is to be.
        running: The factory runs; it takes nothing while its file cannot be used.

    Raises:
        OptionError: The file has another value, or cannot be used.
        SettingError: The value is none for this option.
    """
    if options.config_file is None or (running and name not in CHANGEABLE):
        return
    wanted = Options.make({name: value}, base=options)
    try:
        found = getattr(read_config(options.config_file, base=wanted, running=running), name)
    except SettingError as error:
        if not running:
            return  # start() tells
        raise OptionError(
            f"the factory's option {name} cannot be set while its file cannot be used: "
            f"{error}; correct the file, or put it back, first"
        ) from error
    if found != getattr(wanted, name):
        raise OptionError(
            f"the factory's option {name} is {found!r} by its file {options.config_file}, "
            f"which wins over {value!r}; change it there, or take it out of the file"
        )
