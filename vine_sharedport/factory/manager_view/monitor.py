"""The manager as its factory sees it, asked again and again by a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Callable

from vine_sharedport.dialing.race import verdict_of
from vine_sharedport.errors import DialAttempt, DialError, SharedPortError, Verdict
from vine_sharedport.factory.manager_view.libraries import (
    Libraries,
    find_libraries,
    may_have,
    without_libraries,
)
from vine_sharedport.manager_protocol.query import query_manager
from vine_sharedport.registry.reference import Reference

__all__ = ["ManagerMonitor", "ManagerView", "says_nobody_there"]

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
        libraries: Its library tasks then, which ``status`` does not count.
        answered: When it answered last; ``time.monotonic()``.
        asked: When it was asked last, whatever came of it.
        error: Why it did not answer the last question; None if it did.
        gone_since: Since when the answer has been that nobody is there.
        attempts: What each way to it did at the last question, if none led there.
    """

    status: Mapping[str, Any] | None = None
    workers: tuple[Mapping[str, Any], ...] = ()
    libraries: Libraries = field(default_factory=Libraries)
    answered: float | None = None
    asked: float | None = None
    error: str | None = None
    gone_since: float | None = None
    attempts: tuple[DialAttempt, ...] = ()


class ManagerMonitor:
    """Asks the manager, until it is closed or the process ends.

    In a thread: a manager whose program is busy lets its factory wait, which must see to
    its jobs meanwhile.

    Args:
        manager: Whom to query; None only if it is never started.
        period: Returns the seconds between two questions.
    """

    def __init__(self, manager: Reference | None, period: Callable[[], float]) -> None:
        self._manager = manager
        self.news = threading.Event()
        self._period = period
        self._view = ManagerView()
        self._is_open = True
        self._thread = threading.Thread(target=self._run, name="query-manager", daemon=True)

    @property
    def view(self) -> ManagerView:
        """What is known now."""
        return self._view

    def start(self) -> None:
        """Begin to query."""
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
                self._view = replace(
                    self._view, error=str(error), asked=time.monotonic(), attempts=()
                )
            self.news.set()
            time.sleep(max(0.1, began + self._period() - time.monotonic()))

    def _look(self) -> ManagerView:
        """Ask once, and return what is known then."""
        manager = self._manager
        assert manager is not None
        try:
            status = query_manager(manager, "manager", timeout=_TIMEOUT)
            workers = query_manager(manager, "workers", timeout=_TIMEOUT)
        except (SharedPortError, OSError) as error:
            now = time.monotonic()
            gone = None
            if says_nobody_there(error, manager):
                gone = self._view.gone_since or now
            tried = error.attempts if isinstance(error, DialError) else ()
            return replace(
                self._view, error=str(error), asked=now, gone_since=gone, attempts=tried
            )
        now = time.monotonic()
        entry: Mapping[str, Any] = status[0] if status else {}
        libraries = self._query_libraries(manager) if may_have(entry) else Libraries()
        entry = without_libraries(entry, libraries)
        return ManagerView(entry, tuple(workers), libraries, now, now)

    def _query_libraries(self, manager: Reference) -> Libraries:
        """Return the manager's libraries; those known before if it does not tell them now."""
        try:
            return find_libraries(query_manager(manager, "tasks", timeout=_TIMEOUT))
        except (SharedPortError, OSError) as error:
            log.debug("%s", error)
            return self._view.libraries


def says_nobody_there(error: Exception, manager: Reference) -> bool:
    """Whether a failure means that no manager serves at the address.

    As opposed to one that is busy, and to a shared port that is away for a moment.
    """
    if manager.address.sock is None:
        return verdict_of(error) is Verdict.CONNECTION_REFUSED
    return verdict_of(error) in (Verdict.NOBODY_THERE, Verdict.UNANSWERED)
