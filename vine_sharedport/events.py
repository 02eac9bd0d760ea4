"""What happens, as records: each is a line of a log, a line of JSON and a number.

An event has a ``code``, which stays the same when its text is reworded, and the level of its
line. What strangers can cause as often as they like has a length of time, ``every``, in which
one line for each reason is written; the next one tells how many there were since.
"""

from __future__ import annotations

import enum
import json
import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, ClassVar

__all__ = [
    "Closed",
    "Crowded",
    "Dropped",
    "Ended",
    "Ending",
    "Event",
    "HandOff",
    "Held",
    "JobFailed",
    "Journal",
    "JsonFormatter",
    "LeftBehind",
    "Listening",
    "NotListening",
    "PorterEnded",
    "Refused",
    "Removed",
    "Repaired",
    "Slug",
    "SocketRemade",
    "Submitted",
]


class Slug(enum.Enum):
    """Members' values are codes for programs; each has its ``text`` for people."""

    _value_: str
    text: str

    def __new__(cls, code: str, text: str = "") -> Slug:
        """Make a member of its code and its text."""
        made = object.__new__(cls)
        made._value_, made.text = code, text
        return made


@dataclass(frozen=True)
class Event:
    """Something that has happened.

    Attributes:
        code: What, for programs.
        level: Of its line in a log.
        text: Its line, with its values left open.
        every: Seconds to the next line for the same thing; 0 for a line each time.
    """

    code: ClassVar[str]
    level: ClassVar[int] = logging.INFO
    text: ClassVar[str]
    every: ClassVar[float] = 0.0

    @property
    def key(self) -> str:
        """What is counted together, and has one line in ``every`` seconds."""
        return self.code

    @property
    def times(self) -> int:
        """How often it has happened."""
        return 1

    def __str__(self) -> str:
        """Return the log's line."""
        return self.text.format(**vars(self))

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``json.dumps``."""
        values = {k: v.value if isinstance(v, Slug) else v for k, v in vars(self).items()}
        level = logging.getLevelName(self.level).lower()
        return {"schema": 1, "event": self.code, "level": level, **values}


@dataclass(frozen=True)
class Listening(Event):
    """An endpoint has begun to serve."""

    code, text = "listening", "serving sock_id={sock_id} path={path}"
    sock_id: str
    path: str


@dataclass(frozen=True)
class NotListening(Event):
    """An endpoint, or its file, cannot be made."""

    code, level, every = "not-listening", logging.ERROR, 60.0
    text = "{why}; trying again in {pause:.1f} s"
    why: str
    pause: float


@dataclass(frozen=True)
class SocketRemade(Event):
    """Somebody has removed an endpoint's file."""

    code, level = "socket-remade", logging.WARNING
    text = "the socket file had vanished and was made again: {path}"
    path: str


@dataclass(frozen=True)
class HandOff(Event):
    """A client was given to the manager."""

    code, level, text = "hand-off", logging.DEBUG, "hand-off sock_id={sock_id}"
    sock_id: str


@dataclass(frozen=True)
class Refused(Event):
    """Connections were not given to the manager."""

    code, level, text = "refused", logging.WARNING, "refused {number}: {reason.text}"
    every = 60.0
    reason: Slug
    number: int

    @property
    def key(self) -> str:
        """Each reason by itself."""
        return f"refused.{self.reason.value}"

    @property
    def times(self) -> int:
        """Of each of them."""
        return self.number


@dataclass(frozen=True)
class Crowded(Event):
    """No more connection can be accepted now."""

    code, level, every = "crowded", logging.WARNING, 60.0
    text = "descriptor limit reached; connections wait in the backlog"


@dataclass(frozen=True)
class Dropped(Event):
    """A client that was to be relayed is lost."""

    code, level, every = "dropped", logging.WARNING, 60.0
    text = "a client was dropped: {why}"
    why: str


@dataclass(frozen=True)
class Closed(Event):
    """An endpoint serves no more."""

    code, text = "closed", "closed sock_id={sock_id} refused={refused}"
    sock_id: str
    refused: str


@dataclass(frozen=True)
class PorterEnded(Event):
    """A porter has died."""

    code, level = "porter-ended", logging.WARNING
    text = "the porter of {sock_id} has ended; starting another"
    sock_id: str


@dataclass(frozen=True)
class Submitted(Event):
    """A factory has submitted workers."""

    code, text = "submitted", "submitted {number} workers as cluster {cluster}"
    number: int
    cluster: int

    @property
    def times(self) -> int:
        """Of each of them."""
        return self.number


@dataclass(frozen=True)
class Held(Event):
    """HTCondor has stopped a job until somebody acts."""

    code, level = "held", logging.WARNING
    text = "job {job} is held ({cause}): {explanation}; {remedy}"
    job: str
    cause: str
    explanation: str
    remedy: str


@dataclass(frozen=True)
class Repaired(Event):
    """A job that was held has been repaired and released."""

    code = "repaired"
    text = "job {job} is held ({cause}): {explanation}; repaired and released"
    job: str
    cause: str
    explanation: str


@dataclass(frozen=True)
class JobFailed(Event):
    """A worker has ended otherwise than one that is not needed any more."""

    code, level, text = "job-failed", logging.WARNING, "job {job}: {why}"
    job: str
    why: str | None


@dataclass(frozen=True)
class Removed(Event):
    """A factory has removed jobs that waited."""

    code, text = "removed", "removed {number} waiting jobs: {why}"
    number: int
    why: str

    @property
    def times(self) -> int:
        """Of each of them."""
        return self.number


@dataclass(frozen=True)
class Ending(Event):
    """A factory or a porter begins to end."""

    code, text = "ending", "ending: {why}"
    why: str


@dataclass(frozen=True)
class Ended(Event):
    """A factory has ended."""

    code, text = "ended", "ended: {why}"
    phase: Slug
    why: str


@dataclass(frozen=True)
class LeftBehind(Event):
    """A factory has ended, and its jobs could not be removed."""

    code, level, text = "left-behind", logging.ERROR, "ended: {why}"
    phase: Slug
    why: str


class Journal:
    """Logs events, and counts them.

    Args:
        log: Where.
        clock: Monotonic seconds.

    Attributes:
        counts: How often each has happened, by its ``key``.
    """

    def __init__(
        self, log: logging.Logger, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[str, tuple[float, int]] = {}  # next line's time, untold ones

    def tell(self, event: Event) -> None:
        """Count an event, and log it unless that was done a moment ago for the same thing."""
        key = event.key
        with self._lock:
            self.counts[key] += event.times
            more = 0
            if event.every:
                now = self._clock()
                due, more = self._told.get(key, (now, 0))
                if now < due:
                    self._told[key] = (due, more + event.times)
                    return
                self._told[key] = (now + event.every, 0)
        self._log.log(
            event.level,
            "%s%s",
            event,
            f" ({more} more since the line before)" if more else "",
            extra={"event": event, "more": more},
        )


class JsonFormatter(logging.Formatter):
    """Writes each line of a log as a JSON object, events with their values."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        event = getattr(record, "event", None)
        found: dict[str, Any]
        if isinstance(event, Event):
            found = {**event.as_dict(), "more": getattr(record, "more", 0)}
        else:
            found = {"schema": 1, "event": None, "level": record.levelname.lower()}
        found.update(time=record.created, logger=record.name, message=record.getMessage())
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        return json.dumps(found)
