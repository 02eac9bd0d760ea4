"""Sees that a factory is there as long as its program is."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable

__all__ = ["keep"]

# Seconds between two looks. While the manager waits for tasks, Python's threads do not run:
# then it is as long as the program's calls of wait() take.
_INTERVAL = 1.0

# Seconds from one start to the next; doubled each time until one has lived for the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 300.0


def keep(revive: Callable[[], bool | None]) -> None:
    """Call a factory's method again and again, in a thread of its own.

    Args:
        revive: Bound method that starts the factory if it was killed, and returns whether
            it had to; None when there is nothing to look after any more. Its object is
            not kept alive.
    """
    method = weakref.WeakMethod(revive)
    threading.Thread(target=_run, args=(method,), name="keep-factory", daemon=True).start()


def _run(method: weakref.WeakMethod[Callable[[], bool | None]]) -> None:
    pause, revived = _FIRST_PAUSE, float("-inf")
    while True:
        time.sleep(_INTERVAL)
        age = time.monotonic() - revived
        if age < pause:
            continue
        revive = method()
        found = revive() if revive is not None else None
        del revive
        if found is None:
            return
        if found:
            pause = min(_LONGEST_PAUSE, 2 * pause) if age < _LONGEST_PAUSE else _FIRST_PAUSE
            revived = time.monotonic()
