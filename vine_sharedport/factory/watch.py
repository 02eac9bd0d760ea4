"""The manager as its factory sees it, asked again and again by a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Callable

from vine_sharedport.errors import SharedPortError, Verdict
from vine_sharedport.factory.ask import ManagerPlace, ask
from vine_sharedport.link.race import verdict_of

__all__ = ["ManagerView", "Watch", "says_nobody_there"]

log = logging.getLogger(__name__)

# A manager answers in milliseconds while its program waits for tasks, and not at all while
# it does something else.
_TIMEOUT = 10.0


@dataclass(frozen=True)
class ManagerView:
    """What is known of the manager.

    Attributes:
        status: Its last answer; None before the first.
        workers: Its workers then.
        answered: When it answered last; ``time.monotonic()``.
        asked: When it was asked last, whatever came of it.
        error: Why it did not answer the last question; None if it did.
        gone_since: Since when the answer has been that nobody is there.
    """

    status: Mapping[str, Any] | None = None
    workers: tuple[Mapping[str, Any], ...] = ()
    answered: float | None = None
    asked: float | None = None
    error: str | None = None
    gone_since: float | None = None


class Watch:
    """Asks the manager, until it is closed or the process ends.

    In a thread: a manager whose program is busy lets its factory wait, which must see to
    its jobs meanwhile.

    Args:
        place: Where the manager is.
        period: Returns the seconds between two questions.
    """

    def __init__(self, place: ManagerPlace, period: Callable[[], float]) -> None:
        self.place = place
        self.news = threading.Event()
        self._period = period
        self._view = ManagerView()
        self._is_open = True
        self._thread = threading.Thread(target=self._run, name="ask-manager", daemon=True)

    @property
    def view(self) -> ManagerView:
        """What is known now."""
        return self._view

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """Ask no more, after the question that may be under way."""
        self._is_open = False

    def _run(self) -> None:
        while self._is_open:
            began = time.monotonic()
            try:
                self._view = self._look()
            except Exception as error:  # the thread must not end while the factory goes on
                log.exception("asking the manager failed")
                self._view = replace(self._view, error=str(error), asked=time.monotonic())
            self.news.set()
            time.sleep(max(0.1, began + self._period() - time.monotonic()))

    def _look(self) -> ManagerView:
        """Ask once, and return what is known then."""
        try:
            status = ask(self.place, "manager", timeout=_TIMEOUT)
            workers = ask(self.place, "workers", timeout=_TIMEOUT)
        except (SharedPortError, OSError) as error:
            now = time.monotonic()
            gone = None
            if says_nobody_there(error, self.place):
                gone = self._view.gone_since or now
            return replace(self._view, error=str(error), asked=now, gone_since=gone)
        now = time.monotonic()
        entry: Mapping[str, Any] = status[0] if status else {}
        return ManagerView(entry, tuple(workers), now, now)


def says_nobody_there(error: Exception, place: ManagerPlace) -> bool:
    """Whether a failure means that no manager serves at the place.

    As opposed to one that is busy, and to a shared port that is away for a moment.
    """
    if place.address is None:
        return verdict_of(error) is Verdict.CONNECTION_REFUSED
    return verdict_of(error) in (Verdict.NOBODY_THERE, Verdict.UNANSWERED)
