"""``ndcctools.work_queue``, with a WorkQueue that can be reached through the shared port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vine_sharedport.manager.extension import extend
from vine_sharedport.manager.stock_factory import WithLauncher
from vine_sharedport.manager.systems import WORK_QUEUE, found_in, missing, missing_cloudpickle

try:
    import ndcctools.work_queue as _stock
except ImportError as error:
    raise missing("Work Queue", error) from None  # the message has it

if TYPE_CHECKING:
    from vine_sharedport.htcondor_shared_link import Link
    from vine_sharedport.manager.settings import SharedPort

__all__ = ["StockFactory", "WorkQueue", "stock_attribute", "stock_names"]


def stock_attribute(name: str) -> Any:
    """Return a name of ``ndcctools.work_queue``.

    Raises:
        AttributeError: It has no such name.
        MissingDependencyError: It is ``PythonTask``, and there is no cloudpickle. Work
            Queue says so without the next step, and not before a task is made.
    """
    if name == "PythonTask" and not _stock.pythontask_available:
        raise missing_cloudpickle("Work Queue's PythonTask")
    if name == "Manager":
        raise AttributeError(
            "Manager is TaskVine's; use wq.WorkQueue, or 'import vine_sharedport as vine' and "
            "vine.Manager"
        )
    return found_in(_stock, name, "vine_sharedport.work_queue")


def stock_names() -> list[str]:
    """Return the names that ``ndcctools.work_queue`` has."""
    return dir(_stock)


class WorkQueue(_stock.WorkQueue):  # type: ignore[misc]  # ndcctools has no types
    """A Work Queue; with ``shared_port`` its workers need no port but HTCondor's.

    Takes every argument of ``ndcctools.work_queue.WorkQueue``, and ``shared_port`` as
    ``vine_sharedport.Manager`` does.
    """

    if TYPE_CHECKING:
        shared_port: Link | None

        def __init__(
            self,
            port: int | tuple[int, int] | list[int] = 9123,
            name: str | None = None,
            shutdown: bool = False,
            stats_log: str | None = None,
            transactions_log: str | None = None,
            debug_log: str | None = None,
            ssl: bool | tuple[str, str] | list[str] | None = None,
            status_display_interval: float | None = None,
            *,
            shared_port: bool | SharedPort = False,
        ) -> None: ...


extend(WorkQueue, WORK_QUEUE)


class StockFactory(WithLauncher, _stock.Factory):  # type: ignore[misc]
    """``ndcctools.work_queue.Factory``, as ``vine_sharedport.StockFactory``."""
