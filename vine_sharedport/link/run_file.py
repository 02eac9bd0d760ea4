"""A file in the directory of a manager's run, by which a factory on its host finds it.

It tells where the secret is, not the secret.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["RUN_FILE", "Run", "read_run_file", "write_run_file"]

RUN_FILE = "shared_port.json"
"""Its name."""

_MAX_SIZE = 64 << 10


@dataclass(frozen=True)
class Run:
    """One manager's run.

    Attributes:
        name: What the manager is called; None without a name.
        sock_id: Its name at the shared port.
        socket: Path of its endpoint's socket.
        secret_file: File with its secret, absolute; None without a gate.
        ssl: Whether it speaks TLS.
    """

    name: str | None
    sock_id: str
    socket: str
    secret_file: str | None = None
    ssl: bool = False


def write_run_file(directory: str, run: Run) -> None:
    """Write the file; an ``OSError`` is the caller's."""
    path = os.path.join(directory, RUN_FILE)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(asdict(run), file)
    os.replace(f"{path}.new", path)


def read_run_file(path: str) -> Run | None:
    """Return what a file tells; None if it is another user's, or something else.

    Whoever may write to the directory could send a factory's workers elsewhere by it.
    """
    text_or_none = (str, type(None))
    kinds: dict[str, Any] = {"name": text_or_none, "secret_file": text_or_none, "ssl": bool}
    try:
        with open(path, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            values = json.loads(file.read(_MAX_SIZE))
        found = {item.name: values[item.name] for item in fields(Run)}
        "".join(x for x in found.values() if isinstance(x, str)).encode()  # no lone surrogate
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(isinstance(value, kinds.get(name, str)) for name, value in found.items()):
        return None
    return Run(**found)
