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
from typing import TYPE_CHECKING, Any, Callable, ClassVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Callable[[type], type]:
        return lambda cls: cls


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
    "NameHeld",
    "NameTaken",
    "NameUnknown",
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


@dataclass_transform(frozen_default=True)
class Event:
    """Something that has happened; each kind has its values as annotations.

    No dataclass: to make that of so many classes takes longer than all else here, and every
    porter waits for it.

    Attributes:
        code: What, for programs.
        level: Of its line in a log.
        text: Its line, with its values left open.
        every: Seconds to the next line for the same thing; 0 for a line each time.
    """

    code: ClassVar[str]
    text: ClassVar[str]
    level: ClassVar[int]
    every: ClassVar[float]

    def __init_subclass__(
        cls, *, code: str, text: str, level: int = logging.INFO, every: float = 0.0
    ) -> None:
        cls.code, cls.text, cls.level, cls.every = code, text, level, every

    def __init__(self, *values: Any) -> None:
        vars(self).update(zip(type(self).__annotations__, values))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name} of an event cannot be set")

    @property
    def key(self) -> str:
        """What is counted together, and has one line in ``every`` seconds."""
        return self.code

    @property
    def times(self) -> int:
        """How often it has happened."""
        return int(vars(self).get("number", 1))

    def __str__(self) -> str:
        """Return the log's line."""
        return self.text.format(**vars(self))

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``json.dumps``."""
        values = {k: v.value if isinstance(v, Slug) else v for k, v in vars(self).items()}
        level = logging.getLevelName(self.level).lower()
        return {"schema": 1, "event": self.code, "level": level, **values}


class Listening(Event, code="listening", text="serving sock_id={sock_id} path={path}"):
    """An endpoint has begun to serve."""

    sock_id: str
    path: str


class NotListening(
    Event,
    code="not-listening",
    text="{why}; trying again in {pause:.1f} s",
    level=logging.ERROR,
    every=60.0,
):
    """An endpoint, or its file, cannot be made."""

    why: str
    pause: float


class SocketRemade(
    Event,
    code="socket-remade",
    text="the socket file had vanished and was made again: {path}",
    level=logging.WARNING,
):
    """Somebody has removed an endpoint's file."""

    path: str


class NameHeld(
    Event,
    code="name-held",
    text="the abstract socket name of {sock_id} is held",
    level=logging.DEBUG,
):
    """Nobody else can take an endpoint's other name."""

    sock_id: str


class NameTaken(
    Event,
    code="name-taken",
    text="another program on this host has taken the abstract socket name of {sock_id}, and "
    "may get the connections of its workers; trying to get it back",
    level=logging.WARNING,
    every=60.0,
):
    """Somebody else has an endpoint's other name."""

    sock_id: str


class NameUnknown(
    Event,
    code="name-unknown",
    text="cannot keep the abstract socket name from other users of this host: {why}",
    level=logging.WARNING,
    every=60.0,
):
    """An endpoint's other name cannot be looked for, or not be held."""

    why: str


class HandOff(Event, code="hand-off", text="hand-off sock_id={sock_id}", level=logging.DEBUG):
    """A client was given to the manager."""

    sock_id: str


class Refused(
    Event,
    code="refused",
    text="refused {number}: {reason.text}",
    level=logging.WARNING,
    every=60.0,
):
    """Connections were not given to the manager."""

    reason: Slug
    number: int

    @property
    def key(self) -> str:
        """Each reason by itself."""
        return f"refused.{self.reason.value}"


class Crowded(
    Event,
    code="crowded",
    text="descriptor limit reached; connections wait in the backlog",
    level=logging.WARNING,
    every=60.0,
):
    """No more connection can be accepted now."""


class Dropped(
    Event,
    code="dropped",
    text="a client was dropped: {why}",
    level=logging.WARNING,
    every=60.0,
):
    """A client that was to be relayed is lost."""

    why: str


class Closed(Event, code="closed", text="closed sock_id={sock_id} refused={refused}"):
    """An endpoint serves no more."""

    sock_id: str
    refused: str


class PorterEnded(
    Event,
    code="porter-ended",
    text="the porter of {sock_id} has ended; starting another",
    level=logging.WARNING,
):
    """A porter has died."""

    sock_id: str


class Submitted(
    Event, code="submitted", text="submitted {number} workers as cluster {cluster}"
):
    """A factory has submitted workers."""

    number: int
    cluster: int


class Held(
    Event,
    code="held",
    text="job {job} is held ({cause}): {explanation}; {remedy}",
    level=logging.WARNING,
):
    """HTCondor has stopped a job until somebody acts."""

    job: str
    cause: str
    explanation: str
    remedy: str


class Repaired(
    Event,
    code="repaired",
    text="job {job} is held ({cause}): {explanation}; repaired and released",
):
    """A job that was held has been repaired and released."""

    job: str
    cause: str
    explanation: str


class JobFailed(Event, code="job-failed", text="job {job}: {why}", level=logging.WARNING):
    """A worker has ended otherwise than one that is not needed any more."""

    job: str
    why: str | None


class Removed(Event, code="removed", text="removed {number} waiting jobs: {why}"):
    """A factory has removed jobs that waited."""

    number: int
    why: str


class Ending(Event, code="ending", text="ending: {why}"):
    """A factory or a porter begins to end."""

    why: str


class Ended(Event, code="ended", text="ended: {why}"):
    """A factory has ended."""

    phase: Slug
    why: str


class LeftBehind(Event, code="left-behind", text="ended: {why}", level=logging.ERROR):
    """A factory has ended, and its jobs could not be removed."""

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

    def record(self, event: Event) -> None:
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
