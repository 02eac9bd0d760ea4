"""The file that ``config_file`` names: what it says wins over what is given otherwise."""

from __future__ import annotations

from typing import Any

from vine_sharedport.errors import LaunchError
from vine_sharedport.factory.options import OptionError, Options, read_config

__all__ = ["check_free", "in_force"]


def in_force(options: Options, *, running: bool = False) -> Options:
    """Return the options that hold, with what their file says now.

    A file that cannot be used changes nothing here; ``start()``, or the status of a factory
    that runs, tells why.

    Args:
        options: What is given otherwise.
        running: A file that changes what cannot change once it runs cannot be used.
    """
    if options.config_file is None:
        return options
    try:
        return read_config(options.config_file, base=options, running=running)
    except LaunchError:
        return options


def check_free(options: Options, name: str, value: Any) -> None:
    """Refuse a value in the place of which the file's would hold.

    Args:
        options: What is given so far.
        name: Name of the field of ``Options``.
        value: What it is to be.

    Raises:
        OptionError: The file has another value.
        LaunchError: The value is none for this option.
    """
    if options.config_file is None:
        return
    wanted = Options.make({name: value}, base=options)
    found = getattr(in_force(wanted), name)
    if found != getattr(wanted, name):
        raise OptionError(
            f"the factory's option {name} is {found!r} by its file {options.config_file}, "
            f"which wins over {value!r}; change it there, or take it out of the file"
        )
