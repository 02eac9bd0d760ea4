"""Files that a user names: whether they can be read, and where a relative path leads.

The working directory has its name here also when it was removed.
"""

from __future__ import annotations

import os
import shlex

from vine_sharedport.errors import SettingError

__all__ = [
    "absolute",
    "check_file",
    "check_working_directory",
    "is_removed",
    "reason_of",
    "working_directory",
]


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


def check_file(path: str, what: str) -> None:
    """Refuse a file that cannot be read.

    Args:
        path: As the user gave it.
        what: What it is to be, for the message.

    Raises:
        SettingError: It is missing, a directory, or may not be read.
    """
    try:
        # Not to wait for a writer, should it be a pipe.
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        if not os.path.isdir(path):
            return
        why = "it is a directory; give a file"
    except FileNotFoundError:
        where = "" if os.path.isabs(path) else f" in {working_directory()}"
        why = f"there is no such file{where}; give its path"
    except PermissionError:
        why = f"it may not be read; chmod u+r {shlex.quote(path)}, if it is yours"
    except OSError as error:
        why = f"{error.strerror}; give another file"
    raise SettingError(f"cannot use the {what} {path}: {why}")


def reason_of(error: Exception) -> str:
    """Return why something failed, without the path that the message has already."""
    return str(getattr(error, "strerror", None) or error)
