"""A factory's options as JSON: its own ``config.json``, and the file that a user gives."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from vine_sharedport import records
from vine_sharedport.atomic_file import write_atomically
from vine_sharedport.errors import SettingError
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.trusted_files import reason_of

__all__ = ["MAX_CONFIG", "format_config", "parse_config", "read_config", "write_config"]

MAX_CONFIG = 1 << 20
"""Bytes of the largest configuration file that is read; a full one has about 2 kB."""


def format_config(options: Options) -> str:
    """Return the JSON text of all options that differ from the defaults."""
    changed: dict[str, Any] = {"schema": records.SCHEMA}
    for option in dataclasses.fields(options):
        value = getattr(options, option.name)
        if value != option.default:
            plain = dict(value) if option.name in ("env", "commands") else value
            changed[option.name.replace("_", "-")] = plain
    return json.dumps(changed, indent=4) + "\n"


def parse_config(text: str, *, base: Options | None = None, running: bool = False) -> Options:
    """Return the options that a configuration file's text gives.

    Args:
        text: A JSON object of names, with hyphens or underscores, and values, as
            ``vine_factory`` reads it; its expressions are not understood.
        base: As for ``Options.make``.
        running: As for ``Options.make``.

    Raises:
        SettingError: The text is no such object, or a name or value in it is wrong.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingError(
            f"the factory's configuration is no JSON: {error}; expressions as in JX are not "
            "understood, write their values"
        ) from error
    if not isinstance(values, dict):
        raise SettingError(
            f"the factory's configuration is a {type(values).__name__}; wanted is a JSON "
            'object such as {"max-workers": 10}'
        )
    if values.pop("schema", records.SCHEMA) != records.SCHEMA:
        raise SettingError(
            f"the factory's configuration has another schema than {records.SCHEMA}, which this "
            "version reads: it was written by a later version of vine_sharedport; use that"
        )
    return Options.make(values, base=base, running=running)


def read_config(path: str, *, base: Options | None = None, running: bool = False) -> Options:
    """Return the options in a file; see ``parse_config``.

    Raises:
        SettingError: The file cannot be read, or is none; the message names it.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_CONFIG + 1)
        if len(data) > MAX_CONFIG:
            raise SettingError(f"it has more than {MAX_CONFIG} bytes")
        return parse_config(data.decode(), base=base, running=running)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(
            f"cannot read the factory's configuration file {path}: {reason_of(error)}; give "
            "the path of a JSON file"
        ) from error
    except SettingError as error:
        raise type(error)(f"{path}: {error}") from error


def write_config(path: str, options: Options) -> None:
    """Write the options to a file, whole or not at all, for its owner alone.

    Raises:
        SettingError: The file cannot be written.
    """
    try:
        write_atomically(path, format_config(options), mode=0o600)
    except OSError as error:
        raise SettingError(
            f"cannot write the factory's configuration file {path}: {error.strerror}"
        ) from error
