"""The next step where a worker has not what it needs of its manager: address and secret.

Where the manager is this user's and runs on this host, that is a line to paste; elsewhere, what
makes the manager print one.
"""

from __future__ import annotations

from typing import Callable

from vine_sharedport.registry.reference import Reference
from vine_sharedport.registry.run_file import called, running_managers, secret_file_of
from vine_sharedport.wire.sinful import Sinful

__all__ = ["PRINT_IT", "has_successor", "its_manager", "its_secret"]

PRINT_IT = "print(manager.shared_port.worker_command)"
"""What prints the line for a worker, in a manager's program."""


def has_successor(address: Sinful) -> bool:
    """Whether the manager of an address is gone, and this user has others at that host."""
    found = running_managers()
    return not called(address.sock, found) and any(
        manager.address.host == address.host for manager in found
    )


def its_secret(sock_id: str | None, line: Callable[[str], str]) -> str:
    """Return where a manager's secret file is.

    Args:
        sock_id: The manager's.
        line: Returns the command to paste, with this secret file.
    """
    path = None if sock_id is None else secret_file_of(sock_id)
    if path is not None:
        return f"the manager's own is on this host:\n  {line(path)}"
    return (
        "copy the manager's secret file to this machine and give it by --secret-file; in its "
        f"program, {PRINT_IT} shows where it is ('vine_sharedport expose' says it at its start)"
    )


def its_manager(name: str | None, line: Callable[[Reference], str]) -> str:
    """Return which manager was probably meant.

    Args:
        name: What it was called; one that is so called is preferred.
        line: Returns the command to paste for it.
    """
    found = running_managers()
    meant = called(name, found) if name else []
    if not found:
        return (
            "no manager of yours runs on this host; where it runs, put "
            f"{PRINT_IT} into its program, for the whole command"
        )
    manager = (meant or found)[0]
    which = manager.name or manager.sock_id
    if len(found) > 1 and not meant:
        text = f"{len(found)} managers of yours run on this host, {which} was started last"
    else:
        text = f"your manager {which} runs on this host"
    return f"{text}:\n  {line(manager)}"
