"""What differs between TaskVine and Work Queue; does not import them."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable

from vine_sharedport.errors import HookError, MissingDependencyError

__all__ = ["TASKVINE", "WORK_QUEUE", "WORK_QUEUE_RUN_INFO", "System", "missing"]

WORK_QUEUE_RUN_INFO = "work-queue-run-info"
"""Work Queue has no directory for its runs, so this one is made where the program runs."""


@dataclass(frozen=True)
class System:
    """One of the two.

    Attributes:
        name: As users know it.
        extensions: Names under which its extension module, which holds the manager, may
            be loaded.
        directories: Returns a manager's directory for logs, and the one that stays the
            same from one manager to the next. Both exist.
        waits: Methods in which the manager accepts workers.
    """

    name: str
    extensions: tuple[str, ...]
    directories: Callable[[Any], tuple[str, str]]
    waits: tuple[str, ...]

    def library(self) -> str:
        """Return the file of the loaded library that holds the manager.

        Raises:
            HookError: None of the names is loaded.
        """
        for name in self.extensions:
            if name in sys.modules:
                return str(sys.modules[name].__file__)
        raise HookError(f"none of {', '.join(self.extensions)} is loaded")


def missing(system: str, error: ImportError) -> ImportError:
    """Return what to raise when a system's bindings cannot be imported."""
    if error.name is None or error.name.split(".")[0] != "ndcctools":
        return error  # another module's problem, told as it is
    return MissingDependencyError(
        f"{system}'s Python bindings are not installed ({error}); install them with "
        "'conda install -c conda-forge ndcctools' or 'apt install python3-workqueue'"
    )


def _taskvine_directories(manager: Any) -> tuple[str, str]:
    # run-info/<time>/vine-logs: the run-info directory is what stays.
    logs = os.path.abspath(manager.logging_directory)
    return logs, os.path.dirname(os.path.dirname(logs))


def _work_queue_directories(manager: Any) -> tuple[str, str]:
    moment = time.strftime("%Y-%m-%dT%H%M%S")
    name = f"{moment}-{os.getpid()}-{manager.port}"
    os.makedirs(os.path.join(WORK_QUEUE_RUN_INFO, name), exist_ok=True)
    return os.path.join(WORK_QUEUE_RUN_INFO, name), WORK_QUEUE_RUN_INFO


TASKVINE = System(
    name="TaskVine",
    extensions=("ndcctools.taskvine._cvine", "_cvine"),
    directories=_taskvine_directories,
    waits=("wait_for_tag", "wait_for_task_id"),  # wait() goes through the first
)

WORK_QUEUE = System(
    name="Work Queue",
    extensions=("ndcctools._cwork_queue", "_cwork_queue"),
    directories=_work_queue_directories,
    waits=("wait_for_tag", "wait_for_task_id"),
)
