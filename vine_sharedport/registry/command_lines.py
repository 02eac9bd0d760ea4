"""Our own command lines, as messages print them: complete, quoted, to be pasted as they are."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence

from vine_sharedport.registry.reference import Reference

__all__ = ["connect_command", "manager_worker_command", "our_command", "worker_command"]


def our_command(*words: str) -> str:
    """Return a line that runs ``vine_sharedport`` with these words, as it can be run here."""
    if shutil.which("vine_sharedport"):
        ours = ["vine_sharedport"]
    else:
        ours = [sys.executable, "-m", "vine_sharedport"]
    return shlex.join([*ours, *words])


def worker_command(
    address: str,
    secret_file: str | None,
    *,
    worker: str = "vine_worker",
    options: Sequence[str] = (),
    more: Sequence[str] = (),
) -> str:
    """Return the line that starts a worker.

    Args:
        address: The manager's.
        secret_file: File with its secret; None for a manager without a gate.
        worker: The worker's program.
        options: The worker's own options.
        more: Our further options.
    """
    words = ["--address", address, *_secret(secret_file)]
    if worker != "vine_worker":
        words += ["--worker", worker]
    if options:
        more = [*more, "--", *options]
    return our_command("worker", *words, *more)


def manager_worker_command(
    manager: Reference, options: Sequence[str] = (), more: Sequence[str] = ()
) -> str:
    """Return the line that starts a manager's own worker on this host."""
    return worker_command(
        str(manager), manager.secret_file, worker=manager.worker,
        options=manager.worker_options(options), more=more,
    )  # fmt: skip


def connect_command(address: str, secret_file: str | None, *more: str) -> str:
    """Return the line that shows whether a worker gets in; arguments as above."""
    return our_command("connect", "--explain", *_secret(secret_file), *more, address)


def _secret(path: str | None) -> list[str]:
    return [] if path is None else ["--secret-file", path]
