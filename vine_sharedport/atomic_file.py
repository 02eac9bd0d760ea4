"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets

__all__ = ["write_atomically"]


def write_atomically(
    path: str,
    content: str | bytes,
    *,
    mode: int | None = None,
    durable: bool = False,
    replace: bool = True,
) -> None:
    """Write a file in one step: who has the previous one open goes on reading that.

    Args:
        path: The file. A link there is replaced, never followed.
        content: All that it will have; text as UTF-8.
        mode: Who may read it, never more; as the user's mask says by default.
        durable: It is still there when the machine's power fails in the next moment.
        replace: Whether one that is there may be replaced.

    Raises:
        FileExistsError: One is there that may not be replaced.
        OSError: It cannot be written; what was there still is.
    """
    data = content.encode() if isinstance(content, str) else content
    directory, name = os.path.split(path)
    directory = directory or "."
    new = os.path.join(directory, f".{name[:64]}.{secrets.token_hex(8)}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(new, flags, 0o666 if mode is None else 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            if mode is not None:
                os.fchmod(fd, mode)
            file.flush()
            if durable:
                os.fsync(fd)
        if replace:
            os.replace(new, path)
        else:
            os.link(new, path)
            os.unlink(new)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
    if durable:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
