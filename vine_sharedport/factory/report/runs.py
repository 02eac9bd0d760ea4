"""The command that was typed for a factory, and those that lead it to another manager."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable

from vine_sharedport.condor.own_pool import discover
from vine_sharedport.registry.reference import Reference
from vine_sharedport.registry.run_file import running_managers
from vine_sharedport.trusted_files import working_directory

__all__ = [
    "by_address",
    "by_name",
    "is_typed",
    "names_here",
    "typed",
]

# The options that say which manager is meant; each has a value.
_NAMES = ("-M", "-N", "--manager-name", "--master-name")
_PLACES = ("--address", "--secret-file")


def names_here(system: str) -> list[str]:
    """Return the names of the managers that run in or below the present directory."""
    here = running_managers(system, working_directory())
    return list(dict.fromkeys(manager.name or manager.sock_id for manager in here))


def typed(*more: str, without: Iterable[str] = ()) -> str:
    """Return the command that has started this factory, with some more words.

    In a program it is a command with these words alone.

    Args:
        more: Words to add.
        without: Options to leave out; each has a value.
    """
    kept: list[str] = []
    left_out = tuple(without)
    words = iter(_words())
    for word in words:
        if word in left_out:
            next(words, None)
        elif not word.startswith(tuple(f"{option}=" for option in left_out)):
            kept.append(word)
    return shlex.join(["vine_sharedport", "factory", *kept, *more])


def is_typed() -> bool:
    """Whether somebody has typed the command that this process is."""
    return bool(_words())


def _words() -> list[str]:
    """Return the words after ``vine_sharedport factory`` that this process was started with."""
    program, *words = sys.argv or [""]
    ours = os.path.basename(program) in ("vine_sharedport", "__main__.py")
    if not ours or "factory" not in words:
        return []
    words = words[words.index("factory") + 1 :]
    # Of a factory's directory: what starts one in the background, or again.
    again = len(words) > 1 and words[0] in ("run", "start") and os.path.isdir(words[1])
    return [] if again else words


def by_name(name: str) -> str:
    """Return the command for the manager of this name."""
    return typed("-M", name, without=(*_NAMES, *_PLACES))


def by_address(manager: Reference) -> str:
    """Return the command for a manager, for any directory of this host."""
    words = ["--address", str(discover().address.with_sock(manager.sock_id))]
    if manager.secret_file is not None:
        words += ["--secret-file", manager.secret_file]
    return typed(*words, without=(*_NAMES, *_PLACES))
