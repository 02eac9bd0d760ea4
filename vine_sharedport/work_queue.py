"""``import vine_sharedport.work_queue as wq``: everything of ``ndcctools.work_queue``, and a
``WorkQueue`` that workers reach through condor_shared_port with ``shared_port=True``. What is
ours and not TaskVine's is here too: ``wq.SharedPort``, ``wq.submit_workers``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import vine_sharedport

if TYPE_CHECKING:
    from vine_sharedport.manager.stock_factory import WorkQueueFactory as Factory
    from vine_sharedport.manager.work_queue import StockFactory, WorkQueue

__all__ = ["Factory", "StockFactory", "WorkQueue"]


def __getattr__(name: str) -> Any:
    """Find our ``WorkQueue`` or ``Factory``, or a name of ``ndcctools.work_queue``."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "Factory":
        from vine_sharedport.manager.stock_factory import WorkQueueFactory

        globals()[name] = WorkQueueFactory
        return WorkQueueFactory
    if name in vine_sharedport.__all__ and name not in ("Manager", "StockFactory"):
        return getattr(vine_sharedport, name)
    from vine_sharedport.manager import work_queue

    found = getattr(work_queue, name) if name in __all__ else None
    value = found or work_queue.stock_attribute(name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List our names and, where Work Queue is installed, its."""
    from vine_sharedport.errors import MissingDependencyError

    names = {*globals(), *__all__, *vine_sharedport.__all__} - {"Manager"}
    try:
        from vine_sharedport.manager import work_queue
    except MissingDependencyError:
        return sorted(names)
    return sorted(names | set(work_queue.stock_names()))
