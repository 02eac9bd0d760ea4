"""Submit commands that name files here: relative to where the user stands, not to the job's.

HTCondor reads a relative path from ``initialdir``, by default the working directory of who
submits, and starts each job there: one that was renamed or removed since holds every job that
waits. So ours have the directory of their logs, and relative paths become absolute.
"""

from __future__ import annotations

import os
import re

from vine_sharedport.condor.submit_description import Commands
from vine_sharedport.trusted_files import working_directory

__all__ = ["brings_files_back", "make_absolute"]

# Source: HTCondor's manual, condor_submit; each with all of its names.
_FILES = (
    "input", "in", "stdin", "output", "out", "stdout", "error", "err", "stderr", "log",
    "userlog", "x509userproxy", "container_image", "manifest_dir", "scitokens_file",
)  # fmt: skip
_LISTS = ("transfer_input_files", "transferinputfiles", "public_input_files", "jar_files")
_REMAPS = ("transfer_output_remaps", "transferoutputremaps")
_RETURNED = ("transfer_output_files", "transferoutputfiles", "transfer_checkpoint_files")


def brings_files_back(commands: Commands) -> bool:
    """Whether files of the job's come back by name, to its initial directory."""
    return any(commands.get(name, "").strip('" ') for name in _RETURNED)


def make_absolute(commands: Commands) -> Commands:
    """Return the commands with the paths of files here absolute."""
    made = Commands(commands)
    for name, text in commands.items():
        plain = name.lower()
        if plain in _FILES:
            made[name] = _absolute(text)
        elif plain in _LISTS:
            made[name] = ", ".join(_absolute(path.strip()) for path in text.split(",") if path)
        elif plain in _REMAPS:
            made[name] = _remaps(text)
    return made


def _absolute(path: str) -> str:
    # URLs, and what begins with a macro: nobody knows what that is.
    if not path or path.startswith(("/", "$", '"')) or re.match(r"[\w.+-]+:", path):
        return path
    joined = os.path.join(working_directory(), path)
    # HTCondor transfers what is in a directory whose path ends with a slash.
    return os.path.normpath(joined) + ("/" if path.endswith("/") else "")


def _remaps(text: str) -> str:
    inside = re.fullmatch(r'\s*"(.*)"\s*', text)
    items = (text if inside is None else inside[1]).split(";")
    made = ";".join(map(_remap, items))
    return made if inside is None else f'"{made}"'


def _remap(item: str) -> str:
    name, equals, path = item.partition("=")
    return f"{name}{equals}{_absolute(path.strip())}" if equals else item
