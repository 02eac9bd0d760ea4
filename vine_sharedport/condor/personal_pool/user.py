"""Under which name HTCondor knows this user's jobs."""

from __future__ import annotations

import os
import pwd

from vine_sharedport.errors import SettingError

__all__ = ["login_name", "owner"]


def login_name() -> str:
    """Return the present user's name.

    Raises:
        SettingError: The user id has none, as in many containers.
    """
    user = os.geteuid()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError as error:
        raise SettingError(
            f"user id {user} has no name, and HTCondor knows jobs by their owner's name; add "
            "a line for it to /etc/passwd, or run this as a user who has one"
        ) from error


def owner() -> str:
    """Return the ``Owner`` of this user's jobs: HTCondor cuts a login name at the ``@``.

    Raises:
        SettingError: The user id has no name.
    """
    return login_name().partition("@")[0]
