"""``ndcctools.taskvine``, with a Manager that can be reached through the shared port."""

from __future__ import annotations

from typing import Any

from vine_sharedport.manager.extension import extend
from vine_sharedport.manager.stock_factory import WithLauncher
from vine_sharedport.manager.systems import TASKVINE, found_in, missing

try:
    import ndcctools.taskvine as _stock
except ImportError as error:
    raise missing("TaskVine", error) from None  # the message has it

__all__ = ["Manager", "StockFactory", "stock_attribute", "stock_names"]


def stock_attribute(name: str) -> Any:
    """Return a name of ``ndcctools.taskvine``.

    Raises:
        AttributeError: It has no such name.
    """
    if name == "WorkQueue":
        raise AttributeError(
            "WorkQueue is not TaskVine's; use 'import vine_sharedport.work_queue as wq' and "
            "wq.WorkQueue"
        )
    return found_in(_stock, name, "vine_sharedport")


def stock_names() -> list[str]:
    """Return the names that ``ndcctools.taskvine`` has."""
    return dir(_stock)


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


class StockFactory(WithLauncher, _stock.Factory):  # type: ignore[misc]
    """``ndcctools.taskvine.Factory``; workers come through the manager's shared port.

    Those of ``batch_type="local"`` come by its TCP port. Takes every argument of the stock
    class, and its options.
    """
