"""Whether files that a user has named can be read, told before anything else is tried."""

from __future__ import annotations

import os
import shlex

from vine_sharedport.errors import SettingError
from vine_sharedport.working_directory import working_directory

__all__ = ["check_file", "reason_of"]


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
