"""``ndcctools.work_queue``, with a WorkQueue that can be reached through the shared port."""

from __future__ import annotations

from typing import Any

from vine_sharedport.manager.extension import extend
from vine_sharedport.manager.systems import WORK_QUEUE, missing

try:
    import ndcctools.work_queue as _stock
except ImportError as error:
    raise missing("Work Queue", error) from error

__all__ = ["WorkQueue", "stock_attribute", "stock_names"]


def stock_attribute(name: str) -> Any:
    """Return a name of ``ndcctools.work_queue``.

    Raises:
        AttributeError: It has no such name.
    """
    return getattr(_stock, name)


def stock_names() -> list[str]:
    """Return the names that ``ndcctools.work_queue`` has."""
    return dir(_stock)


class WorkQueue(_stock.WorkQueue):  # type: ignore[misc]  # ndcctools has no types
    """A Work Queue; with ``shared_port`` its workers need no port but HTCondor's.

    Takes every argument of ``ndcctools.work_queue.WorkQueue``, and ``shared_port`` as
    ``vine_sharedport.Manager`` does.
    """


extend(WorkQueue, WORK_QUEUE)
