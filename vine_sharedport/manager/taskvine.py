"""``ndcctools.taskvine``, with a Manager that can be reached through the shared port."""

from __future__ import annotations

import os
from typing import Any

from vine_sharedport.errors import MissingDependencyError
from vine_sharedport.manager.extension import System, extend

try:
    import ndcctools.taskvine as _stock
except ImportError as error:
    raise MissingDependencyError(
        f"TaskVine's Python bindings are not installed ({error}); install them with "
        "'conda install -c conda-forge ndcctools' or 'apt install python3-workqueue'"
    ) from error

__all__ = ["TASKVINE", "Manager", "stock_attribute", "stock_names"]


def stock_attribute(name: str) -> Any:
    """Return a name of ``ndcctools.taskvine``.

    Raises:
        AttributeError: It has no such name.
    """
    return getattr(_stock, name)


def stock_names() -> list[str]:
    """Return the names that ``ndcctools.taskvine`` has."""
    return dir(_stock)


def _directories(manager: Any) -> tuple[str, str]:
    # run-info/<time>/vine-logs: the run-info directory is what stays.
    logs = os.path.abspath(manager.logging_directory)
    return logs, os.path.dirname(os.path.dirname(logs))


TASKVINE = System(
    name="TaskVine",
    library=lambda: str(_stock.cvine._cvine.__file__),
    directories=_directories,
    waits=("wait_for_tag", "wait_for_task_id"),  # wait() goes through the first
)


class Manager(_stock.Manager):  # type: ignore[misc]  # ndcctools has no types
    """A TaskVine manager; with ``shared_port`` its workers need no port but HTCondor's.

    Takes every argument of ``ndcctools.taskvine.Manager``, and:

    Args:
        shared_port: True, or a ``SharedPort`` with settings. False: the stock manager.

    Raises:
        DiscoveryError: HTCondor's shared port cannot be used; the message says why.
        EndpointError: The name is taken or not allowed.
        HookError: This build of TaskVine cannot be extended, and ``mode="direct"``.
    """


extend(Manager, TASKVINE)
