"""Give a manager's class the argument ``shared_port``."""

from __future__ import annotations

import contextlib
import difflib
import errno
import functools
import gc
import inspect
import logging
import os
import re
import socket
from collections.abc import Iterable, Iterator
from typing import Any, Callable

from vine_sharedport import htcondor_shared_link
from vine_sharedport.condor.discovery import SharedPortLocation
from vine_sharedport.condor.own_pool import discover
from vine_sharedport.condor.shared_port_check import check_socket_dir
from vine_sharedport.errors import HookError, SettingError, SharedPortError
from vine_sharedport.factory import FACTORIES, SHARE_LAN
from vine_sharedport.htcondor_shared_link import Link
from vine_sharedport.manager.catalog import CatalogCheck
from vine_sharedport.manager.listener import find_listener, who_listens
from vine_sharedport.manager.peer_transfers import choose, extend_transfers, share_one_lan
from vine_sharedport.manager.settings import SharedPort
from vine_sharedport.manager.systems import System
from vine_sharedport.registry.reference import Reference
from vine_sharedport.registry.run_file import LOG_FILE, write_run_file
from vine_sharedport.secret_file import make_secret_file
from vine_sharedport.trusted_files import absolute
from vine_sharedport.wire.handoff import check_sock_id

__all__ = ["extend"]

log = logging.getLogger(__name__)

on_link: Callable[[Reference], None] | None = None
"""Called for each manager that has got its shared port, by ``vine_sharedport run``."""


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
    signature = inspect.signature(create)

    @functools.wraps(create)
    def __init__(
        self: Any, *args: Any, shared_port: bool | SharedPort | None = default, **kwargs: Any
    ) -> None:
        # The stock class may be extended as well; it decides only what is left to it.
        begun = self.__dict__.get("_shared_port_begun", False)
        self._shared_port_begun = begun or shared_port is not None
        _check_arguments(system, signature, kwargs)
        if not begun and shared_port:
            settings = _settings_of(system, shared_port)
        bound = _bind(signature, self, *args, **kwargs)
        if begun or not shared_port or bound is None:
            self._shared_port_created = bound is not None
            create(self, *args, **kwargs)
            return
        catalog = CatalogCheck(begin=bound.arguments.get("name") is not None)
        # First, so that what is wrong with HTCondor shows before there is a manager.
        location = discover(socket_dir=settings.socket_dir, address=settings.address)
        if settings.socket_dir is not None:
            check_socket_dir(location)
        elif settings.address is not None:
            check_socket_dir(location, given="address")
        # The user's function is called when the shared port is there for it to see.
        init_fn = bound.arguments.pop("init_fn", None)
        _choose_port(system, signature, bound)
        self._shared_port_created = True
        with _no_port_told(system, bound.arguments.get("port")):
            create(*bound.args, **bound.kwargs)
        try:
            link = self._shared_port_link = _open_link(self, system, settings, location)
            link.describe(
                system=system.key,
                tls=bool(getattr(self, "_using_ssl", False)),
                name=getattr(self, "name", None),
                socket=os.path.join(location.socket_dir, link.sock_id),
                peer_transfers=_choose_transfers(self, system, settings),
            )
            write_run_file(link.reference)
            catalog.warn()
            if on_link is not None:
                on_link(link.reference)
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
    cls.shared_port = property(_shared_port)
    for name in system.waits:
        if hasattr(cls, name):
            setattr(cls, name, _checking(getattr(cls, name)))
    if system.has_peer_transfers:
        extend_transfers(cls)
        setattr(cls, SHARE_LAN, _share_lan)
    for name, wrapped in (
        (system.password, _remembering),
        (system.set_name, _checking_catalog),
    ):
        if hasattr(cls, name):
            setattr(cls, name, wrapped(getattr(cls, name)))


def _shared_port(self: Any) -> Link | None:
    """The way in through the shared port: address, sock id, counters. None without."""
    link: Link | None = self._shared_port_link
    return link


def _bind(
    signature: inspect.Signature, *args: Any, **kwargs: Any
) -> inspect.BoundArguments | None:
    """Return the arguments by name; None: the stock constructor says what is wrong."""
    try:
        return signature.bind(*args, **kwargs)
    except TypeError:
        return None


def _check_arguments(
    system: System, signature: inspect.Signature, given: Iterable[str]
) -> None:
    """Refuse an argument that is ours, misspelt; the stock one tells of the others."""
    known = signature.parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values()):
        return
    for name in given:
        if name not in known and difflib.get_close_matches(name.lower(), ["shared_port"]):
            raise TypeError(
                f"{system.manager} has no argument {name!r}; did you mean shared_port?"
            )


def _settings_of(system: System, given: Any) -> SharedPort:
    """Return the settings that ``shared_port=`` stands for.

    Raises:
        TypeError: It is no such thing; the message has what was probably meant.
    """
    if given is True:
        return SharedPort()
    if isinstance(given, SharedPort):
        return given
    ours = f"{system.module}.SharedPort"
    meant = f"True or {ours}()"
    if given is SharedPort:
        meant = f"{ours}()"
    elif isinstance(given, str):
        with contextlib.suppress(SharedPortError):
            meant = f"{ours}(name={check_sock_id(given)!r})"
    raise TypeError(
        f"shared_port is True, False or a SharedPort, not {given!r}; write shared_port={meant}"
    )


def _choose_transfers(manager: Any, system: System, settings: SharedPort) -> str | None:
    """Return whether workers fetch from each other, None where they never do."""
    if system.has_peer_transfers:
        return choose(manager, settings.peer_transfers)
    if settings.peer_transfers != "off":
        log.warning(
            "peer_transfers=%r has no effect: %s has no transfers between workers",
            settings.peer_transfers,
            system.name,
        )
    return None


def _share_lan(self: Any, why: str) -> None:
    """Let the workers fetch from each other, as a factory's option or preset says."""
    link = self._shared_port_link
    if link is None or link.reference.peer_transfers == "site":
        return
    if share_one_lan(self, why):
        link.describe(peer_transfers="site")
        write_run_file(link.reference)


def _choose_port(
    system: System, signature: inspect.Signature, bound: inspect.BoundArguments
) -> None:
    """Refuse a TCP port that is taken; take a free one where none was asked for.

    The stock way is two notices and an exception, without a cause.

    Raises:
        SettingError: The port that was given cannot be had.
    """
    port = bound.arguments.get("port", signature.parameters["port"].default)
    if type(port) is not int or port <= 0:  # a range, any, or nothing that we know
        return
    try:
        with socket.socket() as probe:  # as cctools' link_serve_address() does
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
            probe.listen()
            return
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            why = f"is taken by {who_listens(port)}"
        else:
            why = f"cannot be had ({why})"
    if "port" in bound.arguments:
        raise SettingError(
            f"the manager's TCP port {port} {why}; its workers come by the shared port, so any "
            f"port will do: write port=0 in the call of {system.manager}"
        )
    log.warning(
        "the default TCP port %d %s, so the manager takes any free one; workers that come by "
        "the shared port need none",
        port,
        why,
    )
    bound.arguments["port"] = 0


@contextlib.contextmanager
def _no_port_told(system: System, port: Any) -> Iterator[None]:
    """Say what to do where the stock manager has found no port, as in a range that is full."""
    try:
        yield
    except Exception as error:
        # Both systems raise Exception itself.
        if not re.search(r"Could not create (manager|queue) on port", str(error)):
            raise
        step = f"write port=0 in the call of {system.manager}"
        if not port:
            step = "unset TCP_LOW_PORT and TCP_HIGH_PORT, or give others"
        raise SettingError(
            f"{system.name} found no free TCP port for the manager, with port={port!r}; its "
            f"workers come by the shared port, so any port will do: {step}"
        ) from None


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
        for factory in self.__dict__.pop(FACTORIES, ()):  # once
            factory._warn_of_no_start()
        with _collector_off():
            task = wait(self, *args, **kwargs)
        if self._shared_port_link is not None:
            self._shared_port_link.check()
        return task

    return checked


def _remembering(set_password: Any) -> Any:
    """Return the method with a note of the file, which workers need a copy of."""

    @functools.wraps(set_password)
    def remembered(self: Any, file: str) -> Any:
        answer = set_password(self, file)
        if self._shared_port_link is not None:
            self._shared_port_link.describe(password_file=absolute(file))
            write_run_file(self._shared_port_link.reference)
        return answer

    return remembered


def _checking_catalog(set_name: Any) -> Any:
    """Return the method with a look whether the catalog can be reported to."""

    @functools.wraps(set_name)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._shared_port_link is not None:
            CatalogCheck(begin=True).warn()
        return set_name(self, *args, **kwargs)

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


def _open_link(
    manager: Any, system: System, settings: SharedPort, location: SharedPortLocation
) -> Link:
    """Open the way in: direct where possible, else by a relay, never half of each."""
    sock_id = settings.sock_id()
    logs, lasting = (absolute(path) for path in system.directories(manager))
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
        "keepalive": settings.keepalive,
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
