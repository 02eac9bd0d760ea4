"""``ndcctools.taskvine``, with a Manager that can be reached through the shared port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from vine_sharedport.manager.extension import extend
from vine_sharedport.manager.stock_factory import WithLauncher
from vine_sharedport.manager.systems import TASKVINE, found_in, missing

try:
    import ndcctools.taskvine as _stock
except ImportError as error:
    raise missing("TaskVine", error) from None  # the message has it

if TYPE_CHECKING:
    from vine_sharedport.htcondor_shared_link import Link
    from vine_sharedport.manager.settings import SharedPort

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
        EndpointError: The name is taken.
        SettingError: It is not allowed.
        HookError: This build of TaskVine cannot be extended, and ``mode="direct"``.
    """

    if TYPE_CHECKING:  # what extend() adds to the stock arguments, which a test compares
        shared_port: Link | None

        def __init__(
            self,
            port: int | tuple[int, int] | list[int] = 9123,
            name: str | None = None,
            shutdown: bool = False,
            run_info_path: str = "vine-run-info",
            run_info_template: str | None = None,
            staging_path: str | None = None,
            ssl: bool | tuple[str, str] | list[str] | None = None,
            init_fn: Callable[[Manager], object] | None = None,
            status_display_interval: float | None = None,
            *,
            shared_port: bool | SharedPort = False,
        ) -> None: ...


extend(Manager, TASKVINE)


class StockFactory(WithLauncher, _stock.Factory):  # type: ignore[misc]
    """``ndcctools.taskvine.Factory``; workers come through the manager's shared port.

    Those of ``batch_type="local"`` come by its TCP port. Takes every argument of the stock
    class, and its options.
    """
