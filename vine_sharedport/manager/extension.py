"""Give a manager's class the argument ``shared_port``."""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import logging
import os
from collections.abc import Iterator
from typing import Any, Callable

from vine_sharedport import htcondor_shared_link
from vine_sharedport.errors import HookError
from vine_sharedport.htcondor_shared_link import Link
from vine_sharedport.link.run_file import LOG_FILE, Run, write_run_file
from vine_sharedport.link.secret import make_secret_file
from vine_sharedport.manager.listener import find_listener
from vine_sharedport.manager.settings import SharedPort
from vine_sharedport.manager.systems import System
from vine_sharedport.pool.discovery import SharedPortLocation, discover

__all__ = ["extend"]

log = logging.getLogger(__name__)

on_link: Callable[[Any, Link, System], None] | None = None
"""Called with each manager that has got its shared port, for ``vine_sharedport run``."""


def extend(cls: Any, system: System, default: SharedPort | None = None) -> None:
    """Extend a manager's class in place.

    Adds the keyword argument ``shared_port`` to its constructor and the property
    ``shared_port``; lets its waiting methods raise what the accept hook held back, and
    its end close the link.

    Args:
        cls: The class: a subclass of the stock manager's, or the stock one itself.
        system: Which manager it is.
        default: What ``shared_port`` is when it is not given; None: what the class that
            this one extends makes of it, which is none for a stock one.
    """
    create = cls.__init__
    free = cls._free

    @functools.wraps(create)
    def __init__(
        self: Any, *args: Any, shared_port: bool | SharedPort | None = default, **kwargs: Any
    ) -> None:
        # The stock class may be extended as well; it decides only what is left to it.
        begun = self.__dict__.get("_shared_port_begun", False)
        self._shared_port_begun = begun or shared_port is not None
        if begun or not shared_port:
            self._shared_port_created = True
            create(self, *args, **kwargs)
            return
        settings = SharedPort() if shared_port is True else shared_port
        if not isinstance(settings, SharedPort):
            raise TypeError(f"shared_port is True, False or a SharedPort, not {settings!r}")
        # First, so that what is wrong with HTCondor shows before there is a manager.
        location = discover(socket_dir=settings.socket_dir, address=settings.address)
        bound = inspect.signature(create).bind(self, *args, **kwargs)
        # The user's function is called when the shared port is there for it to see.
        init_fn = bound.arguments.pop("init_fn", None)
        self._shared_port_created = True
        create(*bound.args, **bound.kwargs)
        try:
            link = self._shared_port_link = _open_link(self, system, settings, location)
            link.worker = system.worker
            if getattr(self, "_using_ssl", False):
                link.worker_options = ("--ssl",)
            _tell_where(self, link, location)
            if on_link is not None:
                on_link(self, link, system)
            if init_fn is not None:
                init_fn(self)
        except BaseException:
            self._free()
            raise

    @functools.wraps(free)
    def _free(self: Any) -> None:
        # Called by __del__ too, for what never became a manager.
        if not self.__dict__.get("_shared_port_created"):
            return
        if self._shared_port_link is not None and self._shared_port_link.is_copy:
            # The connections are the parent's, too: the stock way says good-bye to every
            # worker in its name.
            self._shared_port_link.close()
            return
        try:
            with _collector_off():
                free(self)
        finally:
            if self._shared_port_link is not None:
                self._shared_port_link.close()

    __init__.__signature__ = _with_shared_port(create, default)  # type: ignore[attr-defined]
    cls.__init__ = __init__
    cls._free = _free
    cls._shared_port_link = None
    cls.shared_port = property(
        lambda self: self._shared_port_link,
        doc="The way in through the shared port: address, sock id, counters. None without.",
    )
    for name in system.waits:
        if hasattr(cls, name):
            setattr(cls, name, _checking(getattr(cls, name)))


@contextlib.contextmanager
def _collector_off() -> Iterator[None]:
    """Keep Python's collector out of the manager's C code.

    No Python ran inside it before ours did, at the accept hook. Collected there, a
    FunctionCall (a cycle) calls the manager that is at work, or half freed: a crash.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _checking(wait: Any) -> Any:
    """Return the waiting method with a look at the link after it."""

    @functools.wraps(wait)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _collector_off():
            task = wait(self, *args, **kwargs)
        if self._shared_port_link is not None:
            self._shared_port_link.check()
        return task

    return checked


def _with_shared_port(create: Any, default: SharedPort | None) -> inspect.Signature:
    """Return the constructor's signature with our argument, for ``help()``."""
    signature = inspect.signature(create)
    ours = inspect.Parameter(
        "shared_port", inspect.Parameter.KEYWORD_ONLY, default=default or False
    )
    parameters = [p for name, p in signature.parameters.items() if name != "shared_port"]
    catch_all = parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    parameters.insert(len(parameters) - bool(catch_all), ours)
    return signature.replace(parameters=parameters)


def _tell_where(manager: Any, link: Link, location: SharedPortLocation) -> None:
    """Let its user's commands on this host find the manager."""
    assert link.log_file is not None  # _open_link() gives one
    run = Run(
        name=getattr(manager, "name", None),
        sock_id=link.sock_id,
        socket=os.path.join(location.socket_dir, link.sock_id),
        secret_file=link.secret_file,
        ssl=bool(getattr(manager, "_using_ssl", False)),
        address=str(link.address),
        worker=link.worker,
    )
    write_run_file(os.path.dirname(link.log_file), run)


def _open_link(
    manager: Any, system: System, settings: SharedPort, location: SharedPortLocation
) -> Link:
    """Open the way in: direct where possible, else by a relay, never half of each."""
    sock_id = settings.sock_id()
    logs, lasting = (os.path.abspath(path) for path in system.directories(manager))
    secret_file = None
    if settings.gate:
        named = settings.name is not None
        secret_file = (
            os.path.join(lasting, f"shared_port-{sock_id}.secret")
            if named
            else os.path.join(logs, f"{sock_id}.secret")
        )
        make_secret_file(secret_file, keep=named)
    else:
        log.warning(
            "gate=False: everybody who reaches the shared port can connect to this manager "
            "as a worker; its sock id %s is no secret",
            sock_id,
        )
    arguments: dict[str, Any] = {
        "address": location.address,
        "sock_id": sock_id,
        "directory": location.socket_dir,
        "ad_file": location.ad_file,
        "log_file": os.path.join(logs, LOG_FILE),
        "secret_file": secret_file,
    }
    if settings.mode != "relay":
        try:
            return htcondor_shared_link.attach(
                system.library(), find_listener(manager.port), tcp=settings.tcp, **arguments
            )
        except HookError as error:
            if settings.mode == "direct" or settings.tcp != "all":
                raise
            log.warning(
                "%s cannot be extended (%s); workers by the shared port are relayed to its "
                "TCP port, which costs processor time and makes all of them 127.0.0.1",
                system.name,
                error,
            )
    elif settings.tcp != "all":
        raise HookError(
            f"mode='relay' leaves the manager's TCP port as it is, so tcp={settings.tcp!r} "
            "cannot be had with it; use mode='direct'"
        )
    return htcondor_shared_link.relay_to(manager.port, **arguments)
