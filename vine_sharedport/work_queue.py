"""``import vine_sharedport.work_queue as wq``: everything of ``ndcctools.work_queue``, and a
``WorkQueue`` that workers reach through condor_shared_port with ``shared_port=True``. What is
ours and not TaskVine's is here too: ``wq.SharedPort``, ``wq.submit_workers``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import vine_sharedport

if TYPE_CHECKING:
    from vine_sharedport.manager.factory import WorkQueueFactory as Factory
    from vine_sharedport.manager.work_queue import WorkQueue

__all__ = ["Factory", "WorkQueue"]


def __getattr__(name: str) -> Any:
    """Find our ``WorkQueue`` or ``Factory``, or a name of ``ndcctools.work_queue``."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "Factory":
        from vine_sharedport.manager.factory import WorkQueueFactory

        globals()[name] = WorkQueueFactory
        return WorkQueueFactory
    if name in vine_sharedport.__all__ and name != "Manager":
        return getattr(vine_sharedport, name)
    from vine_sharedport.manager import work_queue

    value = work_queue.WorkQueue if name == "WorkQueue" else work_queue.stock_attribute(name)
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
