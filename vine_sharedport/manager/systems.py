"""What differs between TaskVine and Work Queue; does not import them."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

from vine_sharedport.errors import HookError, MissingDependencyError
from vine_sharedport.installing import cctools, command, environment_of, hidden

__all__ = ["TASKVINE", "WORK_QUEUE", "WORK_QUEUE_RUN_INFO", "System", "found_in", "missing"]

WORK_QUEUE_RUN_INFO = "work-queue-run-info"
"""Work Queue has no directory for its runs, so this one is made where the program runs."""


@dataclass(frozen=True)
class System:
    """One of the two.

    Attributes:
        name: As users know it.
        key: As options and references have it.
        module: As programs call the module of ours that has it.
        manager: As programs call its manager's class.
        extensions: Names under which its extension module, which holds the manager, may
            be loaded.
        directories: Returns a manager's directory for logs, and the one that stays the
            same from one manager to the next. Both exist.
        waits: Methods in which the manager accepts workers.
        password: Method by which the manager gets its password file.
        set_name: Method by which it gets another name.
        has_peer_transfers: Its workers may fetch files from each other.
    """

    name: str
    key: str
    module: str
    manager: str
    extensions: tuple[str, ...]
    directories: Callable[[Any], tuple[str, str]]
    waits: tuple[str, ...]
    password: str
    set_name: str
    has_peer_transfers: bool = False

    def library(self) -> str:
        """Return the file of the loaded library that holds the manager.

        Raises:
            HookError: None of the names is loaded.
        """
        for name in self.extensions:
            if name in sys.modules:
                return str(sys.modules[name].__file__)
        raise HookError(f"none of {', '.join(self.extensions)} is loaded")


def found_in(stock: ModuleType, name: str, module: str) -> Any:
    """Return a stock name that is asked for as one of a module of ours.

    Raises:
        AttributeError: There is none. It is said of our module: Python then guesses among
            all of its names which one was meant.
    """
    try:
        return getattr(stock, name)
    except AttributeError:
        raise AttributeError(f"module {module!r} has no attribute {name!r}") from None


def missing(system: str, error: ImportError) -> ImportError:
    """Return what to raise when a system's bindings cannot be imported."""
    package = (error.name or "").split(".")[0]
    if package == "cloudpickle":
        return missing_cloudpickle(system)
    if package != "ndcctools":
        return error  # another module's problem, told as it is
    what = f"ndcctools, {system}'s Python bindings"
    if error.name != "ndcctools":
        return MissingDependencyError(f"{what} {_unusable(error)}")
    return MissingDependencyError(
        f"{sys.executable} does not find {what}; {hidden('ndcctools') or cctools()}"
    )


def missing_cloudpickle(system: str) -> ImportError:
    """Return what to raise when a system needs cloudpickle, and there is none."""
    step = command(pip="cloudpickle", debian="python3-cloudpickle", conda="cloudpickle")
    return MissingDependencyError(
        f"{system} needs the Python package cloudpickle, which {sys.executable} does not "
        f"have; install it with '{step}'"
    )


def _unusable(error: ImportError) -> str:
    """Return why bindings that are there cannot be imported, and what to do."""
    spec = importlib.util.find_spec("ndcctools")
    places = list(spec.submodule_search_locations or []) if spec else []
    # Such as _cvine.cpython-313-x86_64-linux-gnu.so.
    names = [file.name for place in places for file in Path(place).rglob("_c*.so")]
    built = {match[1] for name in names if (match := re.search(r"\.cpython-3(\d+)", name))}
    here = ", ".join(places)
    if built and str(sys.version_info[1]) not in built:
        other = f"3.{max(built, key=int)}"
        return (
            f"in {here} is for Python {other}, and {sys.executable} is "
            f"3.{sys.version_info[1]}; {environment_of(f'python{other}')}"
        )
    return f"in {here} cannot be used ({error}); {cctools()}"


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
    key="taskvine",
    module="vine",
    manager="vine.Manager()",
    extensions=("ndcctools.taskvine._cvine", "_cvine"),
    directories=_taskvine_directories,
    waits=("wait_for_tag", "wait_for_task_id"),  # wait() goes through the first
    password="set_password_file",
    set_name="set_name",
    has_peer_transfers=True,
)

WORK_QUEUE = System(
    name="Work Queue",
    key="work_queue",
    module="wq",
    manager="wq.WorkQueue()",
    extensions=("ndcctools._cwork_queue", "_cwork_queue"),
    directories=_work_queue_directories,
    waits=("wait_for_tag", "wait_for_task_id"),
    password="specify_password_file",
    set_name="specify_name",
)
