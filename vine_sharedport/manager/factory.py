"""``Factory``: ours for HTCondor, the stock one for other batch systems."""

from __future__ import annotations

import difflib
from typing import Any

from vine_sharedport.errors import LaunchError
from vine_sharedport.factory import api, target
from vine_sharedport.factory.options import BATCH_TYPES
from vine_sharedport.manager import systems

__all__ = ["Factory", "WorkQueueFactory"]

_CONDOR = "condor"


class Factory(api.Factory):
    """HTCondor workers that come, stay as long as they are needed, and are accounted for."""

    # What help() shows.
    __doc__ = api.Factory.__doc__

    _system = systems.TASKVINE
    _module = "ndcctools.taskvine"

    def __new__(
        cls, batch_type: str = "local", manager: Any = None, *args: Any, **options: Any
    ) -> Any:
        """Return ours, or a stock factory, which is then complete."""
        if batch_type == _CONDOR:
            return super().__new__(cls)
        _check(batch_type)
        target.check_manager(manager)
        from vine_sharedport.manager.stock_factory import make_stock_factory

        names = ("manager_host_port", "manager_name", "factory_binary", "worker_binary")
        options.update(zip((*names, "log_file"), args))
        return make_stock_factory(cls._system, cls._module, batch_type, manager, options)


def _check(batch_type: Any) -> None:
    """Refuse what is no batch system, but what people write who mean HTCondor.

    Raises:
        LaunchError: It is.
    """
    if not isinstance(batch_type, str):
        raise LaunchError(
            f"batch_type is a {type(batch_type).__name__}, wanted is the name of a batch "
            'system; write vine.Factory("condor", manager=m)'
        )
    if batch_type not in BATCH_TYPES:
        near = difflib.get_close_matches(batch_type.lower(), BATCH_TYPES, n=1)
        if near:
            raise LaunchError(
                f"batch_type is {batch_type!r}, which is no batch system; write {near[0]!r}"
            )


class WorkQueueFactory(Factory):
    """The same for a Work Queue."""

    __doc__ = (api.Factory.__doc__ or "").replace("vine.", "wq.")

    _system = systems.WORK_QUEUE
    _module = "ndcctools.work_queue"

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("system", "work_queue")
        super().__init__(*args, **options)


WorkQueueFactory.__name__ = WorkQueueFactory.__qualname__ = "Factory"
