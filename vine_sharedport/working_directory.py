"""The working directory, also one that was removed: what it was then."""

from __future__ import annotations

import os

from vine_sharedport.errors import SettingError

__all__ = ["absolute", "check_working_directory", "is_removed", "working_directory"]

# What the kernel writes behind the path of what was removed.
_REMOVED = " (deleted)"


def working_directory() -> str:
    """Return it; where it was removed, the place that it had.

    There nothing is found and nothing can be made, which says so with the path, where
    ``os.getcwd`` would raise without one.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        path = os.readlink("/proc/self/cwd")
        return path[: -len(_REMOVED)] if path.endswith(_REMOVED) else path


def is_removed() -> bool:
    """Whether it was removed: ``os.path.exists(".")`` is true all the same."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def check_working_directory(what: str) -> None:
    """Refuse to do what needs it when it was removed.

    Args:
        what: That, for the message.

    Raises:
        SettingError: It was.
    """
    if is_removed():
        raise SettingError(
            f"cannot {what} in {working_directory()}, the working directory: it was removed; "
            "change into one that is there"
        )


def absolute(path: str | os.PathLike[str]) -> str:
    """Return ``os.path.abspath`` of a path, by ``working_directory``."""
    return os.path.normpath(os.path.join(working_directory(), path))
