"""Presets: what a factory needs to know of a place, in a small file.

A file has up to three sections: ``[where]`` (see ``Where``), ``[factory]`` (the factory's
options) and ``[submit]`` (submit commands, and ``+Attribute`` of the jobs). What the user
gives wins over each of them.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vine_sharedport.condor.submit_description import Commands
from vine_sharedport.errors import SettingError
from vine_sharedport.factory.options import schema
from vine_sharedport.factory.options.project import find_project
from vine_sharedport.factory.submission.destination import Destination
from vine_sharedport.trusted_files import absolute, reason_of

__all__ = ["DETECT", "Preset", "load_preset", "preset_names", "user_directory"]

DETECT = "detect"
"""Value of ``+ProjectName`` in a preset: the project is looked up when jobs are submitted."""

_SECTIONS = ("where", "factory", "submit")
_WHERE = ("schedd", "pool", "spool", "grid", "base_directory")
_MAX_SIZE = 1 << 20
_PROJECT = "+ProjectName"


@dataclass(frozen=True)
class Preset:
    """The content of a preset's file.

    Attributes:
        name: Its name, or its path as given.
        path: The file.
        where: The place; what the user names (schedd, grid ...) comes instead of it.
        factory: Options of the factory, under the names of ``Options``; text.
        submit: Submit commands, as they stand there.
        base_directory: Where to make a factory's directory, unless the user names one.
    """

    name: str
    path: str
    where: Destination = field(default_factory=Destination)
    factory: Mapping[str, str] = field(default_factory=dict)
    submit: Mapping[str, str] = field(default_factory=dict)
    base_directory: str | None = None

    def commands(self, given: Mapping[str, str] | None = None) -> Commands:
        """Return the submit commands, with the user's own, which win.

        Raises:
            SettingError: The user's OSPool project cannot be told; the message says what to
                set.
        """
        found = Commands(given or {})
        for name, value in self.submit.items():
            found.setdefault(name, value)
        if found.get(_PROJECT) == DETECT:
            found[_PROJECT] = f'"{find_project()}"'
        return found


def load_preset(name: str) -> Preset:
    """Return a preset.

    Args:
        name: A path (with a slash, or ending in ``.ini``); or a name, looked for in
            ``user_directory()`` and then among those that come with the package.

    Raises:
        SettingError: There is none, or its file is wrong; with file, section and line.
    """
    path: Any
    if os.sep in name or name.endswith(".ini"):
        path = Path(name)
    else:
        places = (user_directory(), _shipped())
        found = next((p for p in (d / f"{name}.ini" for d in places) if p.is_file()), None)
        if found is None:
            raise SettingError(
                f"there is no preset {name!r}; there are {', '.join(preset_names())}, those "
                f"that you write to {user_directory()}/NAME.ini, or give the path of a file"
            )
        path = found
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_SIZE).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(
            f"cannot read the preset {path}: {reason_of(error)}; give the path of a "
            f"file, or the name of a preset: {', '.join(preset_names())}"
        ) from error
    return _parse(name, str(path), text)


def preset_names() -> list[str]:
    """Return the names of all presets that ``load_preset`` finds by name."""
    own = user_directory()
    names = [path.name for path in (*_shipped().iterdir(), *own.glob("*.ini"))]
    return sorted({name[:-4] for name in names if name.endswith(".ini")})


def user_directory() -> Path:
    """Return where users keep presets of their own."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base, "vine_sharedport", "presets")


def _shipped() -> Path:
    """Return the directory of our own presets."""
    return Path(__file__).parent / "presets"


def _parse(name: str, path: str, text: str) -> Preset:
    parser = configparser.ConfigParser(
        delimiters=("=",), comment_prefixes=("#", ";"), interpolation=None,
        default_section="", empty_lines_in_values=False,
    )  # fmt: skip
    parser.optionxform = str  # type: ignore[assignment,method-assign] # keeps "+ProjectName"
    try:
        parser.read_string(text, source=path)
    except configparser.Error as error:
        # Its own text has file and line; "<string>" and line breaks have to go.
        raise SettingError(
            f"the preset is no INI file: {' '.join(str(error).split())}"
        ) from error
    sections: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for section in parser.sections():
        if section not in sections:
            raise SettingError(
                f"{_place(path, text, section)}: there is no section [{section}]; wanted are "
                + ", ".join(f"[{known}]" for known in _SECTIONS)
            )
        for key, value in parser.items(section):
            where = _place(path, text, section, key)
            if "\n" in value:
                raise SettingError(f"{where}: the value goes on in the next line; use one line")
            if section == "where" and key not in _WHERE:
                raise SettingError(f"{where}: unknown key; wanted are {', '.join(_WHERE)}")
            if section == "factory":
                try:
                    field_name = schema.field_name(key)
                    schema.Options.make({field_name: value})
                except SettingError as error:
                    raise SettingError(f"{where}: {error}") from error
                key = field_name
            sections[section][key] = value
    where = _place(path, text, "where")
    words = {key: value for key, value in sections["where"].items() if value}
    try:
        place = Destination(
            schedd=words.get("schedd"),
            pool=words.get("pool"),
            spool=_flag(words.get("spool", "no")),
            grid=words.get("grid"),
        )
    except SettingError as error:
        raise SettingError(f"{where}: {error}") from error
    base = words.get("base_directory")
    return Preset(
        name,
        path,
        place,
        sections["factory"],
        sections["submit"],
        absolute(os.path.expanduser(base)) if base else None,
    )


def _flag(value: str) -> bool:
    states = configparser.ConfigParser.BOOLEAN_STATES
    if value.lower() not in states:
        raise SettingError(f"spool is {value!r}; wanted is yes or no")
    return states[value.lower()]


def _place(path: str, text: str, section: str, key: str | None = None) -> str:
    """Return ``FILE, line N, [SECTION] KEY`` for a message."""
    inside, found = False, 0
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\[([^]]+)\]", line)
        if header is not None:
            inside = header[1] == section
            found = number if inside and key is None else found
        elif inside and key is not None and line.partition("=")[0].strip() == key:
            found = number
    name = f"[{section}]" + (f" {key}" if key is not None else "")
    return f"{path}, line {found}, {name}"
