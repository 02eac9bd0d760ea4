"""How long to wait before the next attempt, and when to give up.

A shared port takes every TCP connection, so a program's own back-off never starts; and
workers come in hundreds, so the pauses are spread by chance.
"""

from __future__ import annotations

import random
import threading
import time

__all__ = ["Backoff"]


class Backoff:
    """The pauses between failed attempts, and the time limit over all of them.

    May be used from several threads.

    Args:
        first: Seconds of the first pause; each further one is twice as long. Of each a
            random half to whole is waited.
        last: Seconds of the longest.
        limit: Seconds from the start of the first attempt that failed to giving up; None
            to go on for ever.
    """

    def __init__(self, first: float, last: float, limit: float | None = None) -> None:
        self.limit = limit
        self._first, self._last = first, last
        self._lock = threading.Lock()
        self._pause = first
        self._give_up_at: float | None = None

    def failed(self, started: float) -> float | None:
        """Take note of a failed attempt.

        Args:
            started: ``time.monotonic()`` when it began.

        Returns:
            Seconds to wait before the next, never beyond the time limit; None to give up.
        """
        with self._lock:
            if self._give_up_at is None and self.limit is not None:
                self._give_up_at = started + self.limit
            left = self._left()
            if left <= 0:
                return None
            pause = self._pause * random.uniform(0.5, 1.0)
            self._pause = min(2 * self._pause, self._last)
            return min(pause, left)

    def succeeded(self) -> None:
        """Take note of a connection that works: the next failure is the first again."""
        with self._lock:
            self._pause = self._first
            self._give_up_at = None

    @property
    def left(self) -> float | None:
        """Seconds until giving up; None if there is no limit, or no failure."""
        with self._lock:
            return None if self._give_up_at is None else max(0.0, self._left())

    @property
    def is_over(self) -> bool:
        """Whether the time limit has passed since the first failure."""
        with self._lock:
            return self._left() <= 0

    def _left(self) -> float:
        if self._give_up_at is None:
            return float("inf")
        return self._give_up_at - time.monotonic()
