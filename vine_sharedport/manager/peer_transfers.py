"""Transfers between workers: off, unless all workers share one LAN.

TaskVine has a worker fetch files from others at the address from which those have come. Behind
NAT that is the NAT's own, where nobody answers: the tasks wait, and the program with them. So
they are off, and every file comes from the manager.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import math
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any, Callable

from vine_sharedport.manager.temps import (
    Temp,
    Temps,
    note_inputs,
    note_outputs,
    temps_of,
)

__all__ = ["choose", "extend_transfers", "share_one_lan"]

log = logging.getLogger(__name__)

# On a manager: its Temps while transfers are off; absent without a shared port.
_STATE = "_shared_port_temps"
# On a method that is extended already: the stock class may be, and one of its subclasses.
_DONE = "_shared_port_transfers"
# Seconds of each of the stock waits that a wait is made of, while tasks are held back.
_SLICE = 1
# Bytes below which a place for temps is said to be small; seconds between two looks at it.
_LITTLE_ROOM, _ROOM_INTERVAL = 5 << 30, 60.0

_WAITS = ("wait_for_tag", "wait_for_task_id")
_TASK_INPUTS = (
    "add_input", "add_environment", "add_execution_context", "add_poncho_package",
    "add_starch_package",
)  # fmt: skip


def choose(manager: Any, setting: str) -> str:
    """Switch the transfers off, or leave them on; say which, and why.

    Args:
        manager: A TaskVine manager that was just made.
        setting: ``peer_transfers`` of its ``SharedPort``.

    Returns:
        What was chosen, ``off`` or ``site``.
    """
    manager.__dict__[_STATE] = None
    if setting == "site" and share_one_lan(manager, "SharedPort says so"):
        return "site"
    if setting == "off":
        log.info(
            "peer transfers: off, as workers behind NAT do not reach each other; files come "
            "from the manager. Where all workers share one LAN, SharedPort("
            "peer_transfers='site') lets them fetch from each other"
        )
    _switch_off(manager)
    return "off"


def share_one_lan(manager: Any, why: str) -> bool:
    """Let the workers of a manager fetch from each other; False if that must not be.

    Args:
        manager: A TaskVine manager with a shared port.
        why: Who says that they share one LAN.
    """
    if manager._using_ssl:
        log.warning(
            "peer transfers: off, although %s: the manager speaks TLS, and transfers between "
            "workers are neither encrypted nor protected; files come from the manager",
            why,
        )
        return False
    log.info("peer transfers: site, all workers share one LAN: %s", why)
    if manager.__dict__.get(_STATE) is not None:
        _stock(manager, "enable_peer_transfers")(manager)
        manager.__dict__[_STATE].keeps = False
    return True


def _switch_off(manager: Any) -> None:
    _note_files_of_tasks()
    manager.__dict__[_STATE] = manager.__dict__.get(_STATE) or _Kept()
    manager.__dict__[_STATE].keeps = True
    with _without_its_notice():
        _stock(manager, "disable_peer_transfers")(manager)


class _Kept(Temps):
    """The temps of a manager, and whether new ones are kept by it."""

    keeps = True
    place_looked = -math.inf
    place_warned = False


def _stock(manager: Any, name: str) -> Any:
    """Return the stock manager's own method."""
    return inspect.unwrap(getattr(type(manager), name))


@contextlib.contextmanager
def _without_its_notice() -> Iterator[None]:
    """Keep the C code from writing to standard error what our own line says."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    try:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# ---- what is extended ----


def extend_transfers(cls: Any) -> None:
    """Extend a TaskVine manager's class in place.

    Nothing changes for managers that ``choose`` has not seen.
    """
    _wrap(cls, "submit", _submit)
    _wrap(cls, "declare_temp", _declare_temp)
    _wrap(cls, "enable_peer_transfers", _enable)
    _wrap(cls, "disable_peer_transfers", _disable)
    for name in dir(cls):
        if name.startswith("declare_") and name != "declare_temp":
            _wrap(cls, name, _declare)
    for name in _WAITS:
        _wrap(cls, name, _wait)


def _wrap(cls: Any, name: str, ours: Callable[..., Any]) -> None:
    stock = getattr(cls, name, None)
    if stock is None or getattr(stock, _DONE, False):
        return

    @functools.wraps(stock)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        return ours(stock, self, *args, **kwargs)

    setattr(wrapped, _DONE, True)
    setattr(cls, name, wrapped)


@functools.cache  # once for a process
def _note_files_of_tasks() -> None:
    from ndcctools.taskvine.task import Task

    for name in _TASK_INPUTS:
        _wrap(Task, name, _add_input)
    _wrap(Task, "add_output", _add_output)


def _add_input(stock: Any, task: Any, file: Any, *args: Any, **kwargs: Any) -> Any:
    note_inputs(task, temps_of(file))
    return stock(task, file, *args, **kwargs)


def _add_output(stock: Any, task: Any, file: Any, *args: Any, **kwargs: Any) -> Any:
    note_outputs(task, temps_of(file))
    return stock(task, file, *args, **kwargs)


def _declare(stock: Any, manager: Any, *args: Any, **kwargs: Any) -> Any:
    """Declare what is made of other files, or by a task, and so needs their temps, too."""
    file = stock(manager, *args, **kwargs)
    for thing in (*args, *kwargs.values()):
        note_inputs(file, temps_of(thing))
    return file


def _submit(stock: Any, manager: Any, task: Any, *args: Any, **kwargs: Any) -> Any:
    number = stock(manager, task, *args, **kwargs)
    kept = manager.__dict__.get(_STATE)
    if kept is not None and isinstance(number, int):  # else it is a result of an earlier run
        kept.submitted(task)
    return number


def _declare_temp(stock: Any, manager: Any, *args: Any, **kwargs: Any) -> Any:
    kept = manager.__dict__.get(_STATE)
    if kept is None or not kept.keeps:
        return stock(manager, *args, **kwargs)
    if getattr(manager, "_tasks_cache", None):
        file = stock(manager, *args, **kwargs)  # a file of that cache, which the manager keeps
    else:
        # cctools 7.14 makes them in the program's present directory.
        place = manager.staging_directory
        _look_at_place(kept, place)
        path = os.path.join(place, f"temp-{uuid.uuid4()}")
        file = manager.declare_file(path, cache=True, unlink_when_done=True)
    path = file.source()
    if path is not None:
        note_inputs(file, [Temp(os.path.abspath(path))])
    return file


def _look_at_place(kept: _Kept, place: str) -> None:
    """Tell where temps are; warn once if there is little room for them, then or later."""
    now, is_first = time.monotonic(), kept.place_looked < 0
    if kept.place_warned or now < kept.place_looked + _ROOM_INTERVAL:
        return
    kept.place_looked = now
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        return
    kept.place_warned = free < _LITTLE_ROOM
    if not (is_first or kept.place_warned):
        return
    level = logging.WARNING if kept.place_warned else logging.INFO
    log.log(
        level,
        "temps come back to the manager, as peer transfers are off: %s has %.1f GB left for "
        "them; for another place give staging_path= to the manager",
        place,
        free / 1e9,
    )


def _enable(stock: Any, manager: Any, *args: Any, **kwargs: Any) -> Any:
    kept = manager.__dict__.get(_STATE)
    if kept is None or not kept.keeps:
        return stock(manager, *args, **kwargs)
    if manager._using_ssl:
        log.warning(
            "peer transfers stay off: the manager speaks TLS, and transfers between workers "
            "are neither encrypted nor protected"
        )
        return 0
    log.warning(
        "peer transfers: on, as the program has enabled them: tasks whose files are at a "
        "worker that others do not reach, as behind NAT, wait for ever. Where all share one "
        "LAN, write SharedPort(peer_transfers='site') instead, by which they tell their own "
        "addresses"
    )
    kept.keeps = False
    return stock(manager, *args, **kwargs)


def _disable(stock: Any, manager: Any, *args: Any, **kwargs: Any) -> Any:
    if _STATE not in manager.__dict__:
        return stock(manager, *args, **kwargs)
    _switch_off(manager)
    return 1  # as stock


def _wait(stock: Any, manager: Any, *args: Any, **kwargs: Any) -> Any:
    """Wait as stock does; meanwhile let go the tasks whose temps are there."""
    kept = manager.__dict__.get(_STATE)
    if kept is None:
        return stock(manager, *args, **kwargs)
    kept.before_wait(manager)
    if not kept.holds:
        task = stock(manager, *args, **kwargs)
        if task is not None:
            kept.returned(task)
        return task
    bound = inspect.signature(stock).bind(manager, *args, **kwargs)
    bound.apply_defaults()
    timeout = bound.arguments.get("timeout")
    if timeout in ("wait_forever", -1):
        until = math.inf
    elif isinstance(timeout, int):
        until = time.monotonic() + timeout
    else:
        until = -math.inf  # stock says what is wrong with it
    while True:
        left = until - time.monotonic()
        if kept.holds and left > _SLICE:
            bound.arguments["timeout"] = _SLICE
        elif left < math.inf and timeout:
            bound.arguments["timeout"] = max(1, round(left)) if left > -math.inf else timeout
        else:
            bound.arguments["timeout"] = timeout
        sliced = bound.arguments["timeout"] == _SLICE and left > _SLICE
        task = stock(*bound.args, **bound.kwargs)
        if task is not None:
            kept.returned(task)
            return task
        if not sliced:
            return None
        kept.look(manager)
