"""The end of a factory's jobs, with a schedd that may be away just then."""

from __future__ import annotations

import logging
import os
import shlex
import time

from vine_sharedport.errors import ScheddError, SharedPortError
from vine_sharedport.factory.jobs.queue import Queue

__all__ = ["Removal"]

log = logging.getLogger(__name__)

# Seconds between two steps; longer ones while the schedd does not answer.
_TICK = 0.2
_LONGEST_TICK = 5.0

# How long an end waits for a schedd that does not answer; the jobs' lease is shorter.
_TIMEOUT = 1800.0
# And for one whose configuration has gone too, as that of a personal pool does.
_POOL_GONE_AFTER = 5.0
# And for a schedd that answers and does not let us remove them.
_DENIED_TIMEOUT = 30.0
# And for running workers to be gone after their removal.
_REMOVAL_TIMEOUT = 20.0


class Removal:
    """Removes a factory's jobs, step by step.

    Args:
        queue: The jobs.
        reason: What HTCondor shows as the reason.

    Attributes:
        is_over: Whether there is nothing more to do.
        is_done: Whether the jobs are gone, or are HTCondor's to end.
        remark: What there is to say about it afterwards.
    """

    def __init__(self, queue: Queue, reason: str) -> None:
        # Without it, a schedd that is not there would be asked for long.
        self.is_over = self.is_done = not queue.has_submitted
        self.remark = ""
        self._queue = queue
        self._reason = reason[:200]
        self._deadline = time.monotonic() + _TIMEOUT
        self._removed: float | None = None
        self._pool_gone: float | None = None
        self._denied: float | None = None
        self._tick = _TICK

    def go_on(self) -> None:
        """Do the next step, and wait a moment if it was not the last."""
        try:
            self._remove()
        except SharedPortError as error:
            self._look_at(error)
        else:
            self._queue.error = None
            self._tick = _TICK
        if not self.is_over:
            self._queue.follow()
            time.sleep(self._tick)

    def _remove(self) -> None:
        if self._removed is None:
            self._queue.remove_all(self._reason)
        left, leaving = self._queue.count_left()
        now = time.monotonic()
        if left:
            self._removed = None  # e.g. submitted while we were told to end
            return
        self._removed = self._removed or now
        if not leaving or now - self._removed > _REMOVAL_TIMEOUT:
            self.is_over = self.is_done = True

    def _look_at(self, error: SharedPortError) -> None:
        """Decide whether to wait for a schedd that does not answer."""
        self._queue.note(error)
        self._tick = min(_LONGEST_TICK, 1.5 * self._tick)
        now = time.monotonic()
        if not _pool_is_gone():
            self._pool_gone = None
        elif self._pool_gone is None:
            self._pool_gone = now
        elif now - self._pool_gone > _POOL_GONE_AFTER:
            self.is_over = self.is_done = True
            self.remark = "HTCondor itself has ended, and its jobs with it"
        if not (isinstance(error, ScheddError) and error.denied):
            self._denied = None
        elif self._denied is None:
            self._denied = now
        is_denied = self._denied is not None and now - self._denied > _DENIED_TIMEOUT
        if is_denied or now > self._deadline:
            self.is_over = True
            self.remark = (
                f"its jobs could not be removed ({error}); remove them by condor_rm "
                f"-constraint {shlex.quote(self._queue.mine)}"
            )


def _pool_is_gone() -> bool:
    """Whether HTCondor's configuration is no longer there: a personal pool has ended."""
    path = os.environ.get("CONDOR_CONFIG")
    return bool(path) and path != "ONLY_ENV" and not os.path.exists(str(path))
