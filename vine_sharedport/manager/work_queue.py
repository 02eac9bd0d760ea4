"""``ndcctools.work_queue``, with a WorkQueue that can be reached through the shared port."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from vine_sharedport.errors import MissingDependencyError
from vine_sharedport.manager.extension import System, extend

try:
    import ndcctools.work_queue as _stock
except ImportError as error:
    raise MissingDependencyError(
        f"Work Queue's Python bindings are not installed ({error}); install them with "
        "'conda install -c conda-forge ndcctools' or 'apt install python3-workqueue'"
    ) from error

__all__ = ["WORK_QUEUE", "WorkQueue", "stock_attribute", "stock_names"]

RUN_INFO = "work-queue-run-info"
"""Work Queue has no directory for its runs, so this one is made where the program runs."""


def stock_attribute(name: str) -> Any:
    """Return a name of ``ndcctools.work_queue``.

    Raises:
        AttributeError: It has no such name.
    """
    return getattr(_stock, name)


def stock_names() -> list[str]:
    """Return the names that ``ndcctools.work_queue`` has."""
    return dir(_stock)


def _library() -> str:
    # In a package the extension is a submodule, else a module of its own.
    for name in ("ndcctools._cwork_queue", "_cwork_queue"):
        if name in sys.modules:
            return str(sys.modules[name].__file__)
    raise MissingDependencyError("Work Queue's extension module _cwork_queue is not loaded")


def _directories(manager: Any) -> tuple[str, str]:
    moment = time.strftime("%Y-%m-%dT%H%M%S")
    logs = os.path.join(RUN_INFO, f"{moment}-{os.getpid()}-{manager.port}")
    os.makedirs(logs, exist_ok=True)
    return logs, RUN_INFO


WORK_QUEUE = System(
    name="Work Queue",
    library=_library,
    directories=_directories,
    waits=("wait_for_tag", "wait_for_task_id")
    if hasattr(_stock.WorkQueue, "wait_for_task_id")
    else ("wait_for_tag",),
)


class WorkQueue(_stock.WorkQueue):  # type: ignore[misc]  # ndcctools has no types
    """A Work Queue; with ``shared_port`` its workers need no port but HTCondor's.

    Takes every argument of ``ndcctools.work_queue.WorkQueue``, and ``shared_port`` as
    ``vine_sharedport.Manager`` does.
    """


extend(WorkQueue, WORK_QUEUE)
