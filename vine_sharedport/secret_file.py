"""The manager's secret, in a file that nobody else can read."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import shlex
import stat

from vine_sharedport.atomic_file import write_atomically
from vine_sharedport.errors import SettingError
from vine_sharedport.wire.gate import SECRET_SIZE

__all__ = ["make_secret_file", "read_secret_file"]

log = logging.getLogger(__name__)

_WHICH = "give the path of the manager's secret file, or of a copy"


def make_secret_file(path: str, *, keep: bool = False) -> bytes:
    """Write a new secret, readable by its owner alone, and return it.

    Args:
        path: File to write.
        keep: Return the secret that is there already, if one is: workers of an earlier
            manager of the same name hold it.

    Raises:
        SettingError: The file cannot be written, or the one that is there is no secret.
    """
    if keep and os.path.lexists(path):
        return read_secret_file(path, private=True)
    secret = os.urandom(SECRET_SIZE)
    try:
        write_atomically(path, secret, mode=0o600, replace=False)
    except OSError as error:
        raise SettingError(f"cannot write the secret file {path}: {error.strerror}") from error
    return secret


def read_secret_file(path: str, *, private: bool = False) -> bytes:
    """Return the secret that a file holds.

    Args:
        path: As the manager wrote it and HTCondor transferred it.
        private: Refuse a file that another user owns or could have read. Without it, one
            that others can read is a warning: the copy may lie where nobody else comes.

    Raises:
        SettingError: The file cannot be read or is no secret; the message says which.
    """
    if not path:
        raise SettingError(
            "the secret file's path is empty, as by an empty variable", step=_WHICH
        )
    quoted = shlex.quote(path)
    try:
        # Not to wait for a writer, should it be a pipe.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        step = f"if it is yours: chmod 600 {quoted}" if error.errno == errno.EACCES else _WHICH
        raise SettingError(
            f"cannot read the secret file {path}: {error.strerror}", step=step
        ) from error
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, fd)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise SettingError(f"the secret file {path} is {kind}", step=_WHICH)
        if private and (status.st_uid != os.geteuid() or status.st_mode & 0o077):
            raise SettingError(
                f"the secret file {path} has owner {status.st_uid} and mode "
                f"{stat.S_IMODE(status.st_mode):o}, wanted is yours with mode 600",
                step=f"if nobody else has read it: chmod 600 {quoted}",
            )
        secret = os.read(fd, SECRET_SIZE + 1)
    if len(secret) != SECRET_SIZE:
        # It may be any file of the user's, named by mistake: never to be removed.
        step = _WHICH if not private else f"give another path, or: mv {quoted} {quoted}.old"
        raise SettingError(
            f"the secret file {path} has {status.st_size} bytes, wanted {SECRET_SIZE}: it is "
            "none",
            step=step,
        )
    if status.st_mode & 0o044:  # without private: with it, that was refused
        _warn_of_readers(os.path.abspath(path))  # it is read under both names
    return secret


@functools.cache  # once in a process: a factory reads it again and again
def _warn_of_readers(path: str) -> None:
    log.warning(
        "others can read the secret file %s; who has it can work for the manager: chmod 600 %s",
        path, shlex.quote(path),
    )  # fmt: skip
