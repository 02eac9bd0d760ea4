"""``ndcctools.taskvine``, with a Manager that can be reached through the shared port."""

from __future__ import annotations

import inspect
import os
from typing import Any

from vine_sharedport import htcondor_shared_link
from vine_sharedport.errors import MissingDependencyError
from vine_sharedport.htcondor_shared_link import Link
from vine_sharedport.manager.listener import find_listener
from vine_sharedport.manager.settings import SharedPort
from vine_sharedport.pool.discovery import SharedPortLocation, discover

try:
    import ndcctools.taskvine as _stock
except ImportError as error:
    raise MissingDependencyError(
        f"TaskVine's Python bindings are not installed ({error}); install them with "
        "'conda install -c conda-forge ndcctools' or 'apt install python3-workqueue'"
    ) from error

__all__ = ["Manager", "stock_attribute", "stock_names"]


def stock_attribute(name: str) -> Any:
    """Return a name of ``ndcctools.taskvine``.

    Raises:
        AttributeError: It has no such name.
    """
    return getattr(_stock, name)


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
        HookError: This build of TaskVine cannot be extended; nothing was changed.
    """

    _link: Link | None = None

    def __init__(
        self, *args: Any, shared_port: bool | SharedPort = False, **kwargs: Any
    ) -> None:
        if not shared_port:
            super().__init__(*args, **kwargs)
            return
        settings = SharedPort() if shared_port is True else shared_port
        if not isinstance(settings, SharedPort):
            raise TypeError(f"shared_port is True, False or a SharedPort, not {settings!r}")
        sock_id = settings.sock_id()
        # First, so that what is wrong with HTCondor shows before there is a manager.
        location = discover(socket_dir=settings.socket_dir, address=settings.address)
        bound = inspect.signature(super().__init__).bind(*args, **kwargs)
        # The user's function is called when the shared port is there for it to see.
        init_fn = bound.arguments.pop("init_fn", None)
        super().__init__(*bound.args, **bound.kwargs)
        try:
            self._link = self._open_link(location, sock_id)
            if init_fn is not None:
                init_fn(self)
        except BaseException:
            self._free()
            raise

    def _open_link(self, location: SharedPortLocation, sock_id: str) -> Link:
        return htcondor_shared_link.attach(
            _stock.cvine._cvine.__file__,
            find_listener(self.port),
            address=location.address,
            sock_id=sock_id,
            directory=location.socket_dir,
            log_file=os.path.join(os.path.abspath(self.logging_directory), "shared_port.log"),
        )

    @property
    def shared_port(self) -> Link | None:
        """The way in through the shared port: address, sock id, counters. None without."""
        return self._link

    def wait_for_tag(self, *args: Any, **kwargs: Any) -> Any:
        """Wait as the stock manager does; ``wait()`` comes here too."""
        return self._checked(super().wait_for_tag, *args, **kwargs)

    def wait_for_task_id(self, *args: Any, **kwargs: Any) -> Any:
        """Wait as the stock manager does."""
        return self._checked(super().wait_for_task_id, *args, **kwargs)

    def _checked(self, wait: Any, *args: Any, **kwargs: Any) -> Any:
        task = wait(*args, **kwargs)
        if self._link is not None:
            self._link.check()
        return task

    def _free(self) -> None:
        try:
            super()._free()
        finally:
            if self._link is not None:
                self._link.close()
