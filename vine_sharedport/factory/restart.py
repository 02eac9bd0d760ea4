"""Sees that a factory is there as long as its program is."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable

from vine_sharedport.supervision import Restarts

__all__ = ["keep"]

log = logging.getLogger(__name__)

# Seconds between two looks. While the manager waits for tasks, Python's threads do not run:
# then it is as long as the program's calls of wait() take.
_INTERVAL = 1.0

# Seconds from one start to the next, but for the first; until one has lived for the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 300.0


def keep(revive: Callable[[], bool]) -> threading.Event:
    """Call a factory's method again and again, in a thread of its own.

    Args:
        revive: Bound method that starts the factory if it was killed, and returns whether
            it had to. Its object is not kept alive. What it raises is logged.

    Returns:
        What ends the thread when it is set; it also ends with the method's object.
    """
    over = threading.Event()
    method = weakref.WeakMethod(revive)
    threading.Thread(target=_run, args=(method, over), name="keep-factory", daemon=True).start()
    return over


def _run(method: weakref.WeakMethod[Callable[[], bool]], over: threading.Event) -> None:
    restarts = Restarts(_FIRST_PAUSE, _LONGEST_PAUSE, settled=_LONGEST_PAUSE)
    revived, said = float("-inf"), ""
    while not over.wait(_INTERVAL):
        if time.monotonic() - revived < restarts.pause:
            continue
        revive = method()
        if revive is None:
            return
        try:
            found = revive()
        except Exception as error:  # e.g. no more processes or files just now
            if str(error) != said:
                log.warning("cannot see to the factory, trying again: %s", error)
            said, found = str(error), False
        del revive
        if found:
            restarts.ended(time.monotonic() - revived)
            revived, said = time.monotonic(), ""
