"""Pauses after submissions that the schedd has not taken: each costs it a cluster number."""

from __future__ import annotations

import re

__all__ = ["RefusalBackoff"]

_FIRST_PAUSE, _LONGEST_PAUSE = 15.0, 300.0


class RefusalBackoff:
    """Tells when the next submission is due, and how many jobs it may have.

    Attributes:
        most: Jobs that one submission may have; None without a known limit.
    """

    def __init__(self) -> None:
        self.most: int | None = None
        self._in_a_row = 0
        self._until = 0.0
        self._what: object = None
        self._text = ""

    def refused(self, text: str, what: object, now: float) -> bool:
        """Take note of a refusal; return whether it says something new.

        Args:
            text: Its reason.
            what: What was to be submitted: another one is tried at once.
            now: ``time.monotonic()``.
        """
        self._in_a_row += 1
        self._until = now + min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(9, self._in_a_row - 1))
        self._what = what
        # Numbers of clusters and jobs differ each time.
        before, self._text = self._text, re.sub(r"\d+", "#", text)
        return before != self._text

    def accepted(self, count: int) -> None:
        """Take note that so many jobs were taken."""
        self._in_a_row, self._until, self._text = 0, 0.0, ""
        if self.most is not None and count >= self.most:
            self.most *= 2  # the limit may have been another one

    def pause(self, what: object, now: float) -> float:
        """Return for how many seconds nothing should be submitted."""
        return max(0.0, self._until - now) if what == self._what else 0.0
