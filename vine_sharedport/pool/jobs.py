"""Jobs of a schedd, near or far: submitting, asking, acting, and their event log.

Everything here comes back as plain Python values, so that what stands above needs no
HTCondor to be tested.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Callable, TypeVar

from vine_sharedport.errors import LaunchError
from vine_sharedport.pool import _htcondor

__all__ = ["ACTIONS", "Event", "EventLog", "Schedd"]

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

ACTIONS = {
    "hold": "Hold",
    "release": "Release",
    "remove": "Remove",
    "vacate": "Vacate",
    "vacate_fast": "VacateFast",
}
"""What ``Schedd.act`` can do, with the names in ``htcondor2.JobAction``."""


# A schedd that has moved refuses at once; one that hangs takes the bindings 20 s, and is
# not asked twice.
_AT_ONCE = 5.0


@dataclass(frozen=True)
class Event:
    """One event of a job event log.

    Attributes:
        type: HTCondor's name, as in ``htcondor2.JobEventType``: ``SUBMIT``, ``EXECUTE``,
            ``JOB_EVICTED``, ``JOB_TERMINATED``, ``JOB_ABORTED``, ``JOB_HELD``, ...
        cluster: First number of the job.
        proc: Second number of the job; -1 in events of the whole cluster.
        time: Seconds since 1970, by the clock of the access point.
        host: Name of the execute machine, where told and known.
        address: IP address of the execute machine, where told.
        slot: Name of the slot, such as ``slot1_1@node7.example.org``.
        reason: HTCondor's text: of a hold, an eviction, a removal, a lost connection.
        code: HoldReasonCode, or the code of the eviction.
        subcode: HoldReasonSubCode, or the subcode of the eviction.
        exit_status: Of a job that ended by itself.
        exit_signal: Of a job that a signal ended.
        requeued: It ended and waits to be run again (``on_exit_remove`` was false).
    """

    type: str
    cluster: int
    proc: int
    time: float
    host: str | None = None
    address: str | None = None
    slot: str | None = None
    reason: str | None = None
    code: int | None = None
    subcode: int | None = None
    exit_status: int | None = None
    exit_signal: int | None = None
    requeued: bool = False


class Schedd:
    """A schedd that takes our jobs. Opens nothing before it is used.

    Args:
        schedd: Its name; the one of this host by default.
        pool: The collector that knows it; this host's by default. Without ``schedd``, it
            is the only one that this collector knows.
    """

    def __init__(self, schedd: str | None = None, pool: str | None = None) -> None:
        self.name = schedd
        self.pool = pool
        self._located: Any = None
        self._located_by: Any = None

    def __repr__(self) -> str:
        return f"<Schedd {self.name or 'of this host'} pool={self.pool or 'own'}>"

    def submit(self, description: str, count: int = 1, *, spool: bool = False) -> int:
        """Submit one cluster.

        Never tried twice: whether a schedd that did not answer has the jobs, the caller
        finds out by a mark in their ads.

        Args:
            description: Submit description without a ``queue`` line.
            count: Number of jobs.
            spool: Send the input files to the schedd too. Jobs whose files could not be
                sent are removed.

        Returns:
            The cluster's number.

        Raises:
            LaunchError: The schedd does not take them; with its reason.
        """
        if count < 1:
            raise LaunchError(f"cannot submit {count} jobs; give a count of 1 or more")
        htcondor2 = _htcondor.load()
        with self._errors(htcondor2, "submit jobs"), _logged_warnings():
            schedd = self._locate(htcondor2)
            result = schedd.submit(htcondor2.Submit(description), count=count, spool=spool)
        cluster = int(result.cluster())
        if spool:
            try:
                with self._errors(htcondor2, f"send the files of cluster {cluster}"):
                    schedd.spool(result)
            except LaunchError:
                # They would be held for ever, waiting for their files.
                with contextlib.suppress(LaunchError):
                    self.act("remove", f"ClusterId == {cluster}", "its files were not sent")
                raise
        log.info("submitted cluster=%d jobs=%d schedd=%s", cluster, count, self.name or "local")
        return cluster

    def query(self, constraint: str, projection: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return the ads of the jobs for which the ClassAd expression is true.

        Args:
            constraint: For example ``ClusterId == 12``.
            projection: Attributes wanted; all by default. HTCondor may add some.

        Returns:
            Plain dictionaries, spelled as in the projection. An attribute that is
            undefined is not there; an expression stands there by its value, as text if
            it has none.

        Raises:
            LaunchError: The schedd does not answer.
        """
        ads = self._ask(
            "ask for jobs",
            lambda _, schedd: schedd.query(constraint=constraint, projection=list(projection)),
        )
        spelling = {name.lower(): name for name in projection}
        return [_plain_ad(ad, spelling) for ad in ads]

    def act(self, action: str, constraint: str, reason: str) -> int:
        """Do something with the jobs for which the expression is true.

        Args:
            action: One of ``ACTIONS``.
            constraint: A ClassAd expression.
            reason: Recorded in the jobs' ads and event log.

        Returns:
            To how many jobs it was done.

        Raises:
            LaunchError: The schedd does not answer, or forbids it.
        """
        if action not in ACTIONS:
            raise LaunchError(f"no such action: {action!r}; known are {', '.join(ACTIONS)}")

        def do(htcondor2: Any, schedd: Any) -> Any:
            # A pair: the bindings (23.9 and 25.14) lose a reason that is a plain string.
            chosen = getattr(htcondor2.JobAction, ACTIONS[action])
            return schedd.act(chosen, f"({constraint})", reason=(reason, 0))

        result = self._ask(f"{action} jobs", do)
        if result is None:
            return 0
        denied = int(result["TotalPermissionDenied"])
        if denied:
            raise LaunchError(
                f"cannot {action} jobs: {self._what()} denies it for {denied} of the jobs with "
                f"{constraint}: they are another user's, or this user has no write access"
            )
        return int(result["TotalSuccess"])

    def edit(self, constraint: str, attribute: str, value: str | int | float | bool) -> int:
        """Change an attribute of the jobs for which the expression is true.

        Args:
            constraint: A ClassAd expression.
            attribute: Its name.
            value: A number or a truth value; a string is a ClassAd expression, so that
                a text stands in double quotes.

        Returns:
            How many jobs were changed.

        Raises:
            LaunchError: The schedd does not answer, or forbids it.
        """
        text = str(value).lower() if isinstance(value, bool) else str(value)
        try:
            changed = self._ask(
                f"set {attribute} = {text}",
                lambda _, schedd: schedd.edit(f"({constraint})", attribute, text),
            )
        except LaunchError:
            # The bindings say the same when no job matches.
            if not self.query(constraint, ["ClusterId"]):
                return 0
            raise
        return int(changed)

    def retrieve(self, constraint: str) -> None:
        """Fetch the output files of jobs that were submitted with ``spool``.

        Raises:
            LaunchError: The schedd does not answer, or a file cannot be written.
        """
        self._ask("fetch output files", lambda _, schedd: schedd.retrieve(f"({constraint})"))

    def _ask(self, what: str, do: Callable[[Any, Any], _Result]) -> _Result:
        """Do what can be done twice; again at once if the schedd may just have moved."""
        htcondor2 = _htcondor.load()
        was_located = self._located is not None and self._located_by is htcondor2
        if was_located:
            start = time.monotonic()
            try:
                return do(htcondor2, self._locate(htcondor2))
            except _htcondor.failures(htcondor2) as error:
                if time.monotonic() - start > _AT_ONCE:
                    with self._errors(htcondor2, what):
                        raise
                log.debug("%s: %s; looking for the schedd again", what, error)
                self._located = None
        with self._errors(htcondor2, what):
            return do(htcondor2, self._locate(htcondor2))

    def _locate(self, htcondor2: Any) -> Any:
        """Return the bindings' object; the address is remembered until something fails."""
        if self._located is None or self._located_by is not htcondor2:
            local = self.name is None and self.pool is None
            found = htcondor2.Schedd() if local else htcondor2.Schedd(self._ad(htcondor2))
            self._located, self._located_by = found, htcondor2
        return self._located

    def _ad(self, htcondor2: Any) -> Any:
        """Return the ad of a schedd that was named."""
        collector = htcondor2.Collector(self.pool)
        if self.name is not None:
            # None for an unknown name, and Schedd(None) would be the local one.
            ad = collector.locate(htcondor2.DaemonType.Schedd, self.name)
            if ad is not None:
                return ad
        needed = ["Name", "MyAddress", "CondorVersion"]
        ads = collector.query(htcondor2.AdType.Schedd, projection=needed)
        if self.name is None and len(ads) == 1:
            return ads[0]
        names = sorted(str(ad["Name"]) for ad in ads)
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        known = f"it knows {', '.join(names[:5])}{more}" if names else "it knows none"
        wanted = f"a schedd {self.name!r}" if self.name else "which schedd is meant"
        raise LaunchError(
            f"the collector {self.pool or 'of this pool'} does not know {wanted}; {known}; "
            "give the name as 'condor_status -schedd' shows it"
        )

    def _what(self) -> str:
        where = f" of the pool {self.pool}" if self.pool else ""
        return f"the schedd {self.name}{where}" if self.name else f"the schedd{where}"

    @contextlib.contextmanager
    def _errors(self, htcondor2: Any, what: str) -> Iterator[None]:
        """Turn what the bindings raise into a LaunchError."""
        try:
            yield
        except LaunchError:
            raise
        except _htcondor.failures(htcondor2) as error:
            was_located, self._located = self._located is not None, None  # it may have moved
            raise LaunchError(
                f"cannot {what}: {self._what()}: {_text(error)}; {self._advice(was_located)}"
            ) from error

    def _advice(self, was_located: bool) -> str:
        """Say what to look at."""
        option = f" -pool {self.pool}" if self.pool else ""
        name = f" -name {self.name}" if self.name else ""
        if was_located or not (option or name):
            return f"is it running, and is this allowed ('condor_q{option}{name}')?"
        return f"does the collector answer ('condor_status{option} -schedd')?"


# The line after an event: SynchDelimiter in src/condor_utils/write_user_log.cpp.
_END_OF_EVENT = re.compile(rb"^\.\.\.[ \t\r]*\n", re.MULTILINE)
# How an event begins: its number, the job's, date and time. ULogEvent::formatHeader. Not
# always in a new line: see _whole_events.
_START_OF_EVENT = re.compile(rb"\d{3} \(-?\d+\.-?\d+\.-?\d+\) [0-9/-]{5,10}[ T]\d\d:\d\d:\d\d")

# Bytes read at a time.
_CHUNK = 1 << 20
# Bytes before our place that must be the same the next time.
_REMEMBERED = 256
# An event has a few hundred bytes; what has no end after this is no event log.
_LONGEST_EVENT = 16 << 20


class EventLog:
    """A job event log, followed from its beginning; never waits for anything.

    HTCondor's reader, given the file itself, sleeps at a half-written event, sticks for
    good at one that a killed daemon left damaged, and does not see that the file was
    replaced. So the bytes are read here, and its reader gets whole events only, out of
    memory.

    Args:
        path: The file; need not be there yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._fd = -1
        self._offset = 0  # behind the last whole event
        self._before = b""  # the bytes just before it

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; ``read`` opens it again and goes on. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self) -> list[Event]:
        """Return the events that have been written since the last call.

        A log that was rotated is read to its end, then the new one from its beginning;
        so is one that was truncated. Damaged events are skipped with a warning.

        Raises:
            LaunchError: The file is there and cannot be read.
        """
        try:
            events = self._read_on()
            if self._is_replaced():
                self.close()
                self._offset, self._before = 0, b""
                events += self._read_on()
        except OSError as error:
            self.close()
            raise LaunchError(
                f"cannot read the job event log {self.path}: {error.strerror}; put it on a "
                "file system that this host and the schedd can both use"
            ) from error
        return events

    def _read_on(self) -> list[Event]:
        """Read what the open file has."""
        if self._fd < 0:
            try:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except (FileNotFoundError, NotADirectoryError):
                return []
        start = max(0, self._offset - _REMEMBERED)
        if os.pread(self._fd, self._offset - start, start) != self._before:
            log.warning("the job event log %s is another one now; it is read anew", self.path)
            self._offset, self._before = 0, b""
        events: list[Event] = []
        size = _CHUNK
        while True:
            data = os.pread(self._fd, size, self._offset)
            if self._offset == 0 and data.startswith(b"<"):
                # The bindings of 23.9 crash on it.
                raise LaunchError(
                    f"the job event log {self.path} is written as XML; take the submit command "
                    "log_xml out"
                )
            whole = _end_of_last_event(data)
            if whole:
                events += _parse(data[:whole], self.path)
                self._offset += whole
                tail = self._before + data[max(0, whole - _REMEMBERED) : whole]
                self._before = tail[-min(_REMEMBERED, self._offset) :]
                size = _CHUNK
            elif len(data) < size:
                return events
            elif size >= _LONGEST_EVENT:
                raise LaunchError(
                    f"{self.path} is no job event log: {size} bytes from {self._offset} have "
                    "no end of an event; give the file of the submit command 'log'"
                )
            else:
                size *= 2

    def _is_replaced(self) -> bool:
        """Whether another file has the name now."""
        if self._fd < 0:
            return False
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except OSError:
            return False  # moved away, and the new one not there yet


def _end_of_last_event(data: bytes) -> int:
    """Return the length of the whole events at the beginning of the bytes."""
    # From the end, where it stands nearly always.
    at = data.rfind(b"...\n")
    while at >= 0:
        if at == 0 or data[at - 1 : at] == b"\n":
            return at + 4
        at = data.rfind(b"...\n", 0, at)
    return 0


def _parse(data: bytes, path: str) -> list[Event]:
    """Return the events of these bytes, which end with the end of one."""
    blocks = list(_whole_events(data, path))
    if not blocks:
        return []
    try:
        events = _parse_blocks(b"".join(blocks))
    except _htcondor.failures(_htcondor.load()) as error:
        log.debug("%s: %s", path, error)
        events = []
    if len(events) == len(blocks):
        return events
    # One of them is not what HTCondor's reader expects, and it stops there.
    events = []
    for block in blocks:
        try:
            found = _parse_blocks(block)
        except _htcondor.failures(_htcondor.load()):
            found = []
        if not found:
            log.warning("an event in %s cannot be read: %r", path, block[:200])
        events += found
    return events


def _whole_events(data: bytes, path: str) -> Iterator[bytes]:
    """Yield each event's bytes, without what is left of damaged ones."""
    start = 0
    for end in _END_OF_EVENT.finditer(data):
        block = data[start : end.end()]
        start = end.end()
        # A daemon that was killed while writing: the next event begins within this one,
        # wherever the writing stopped.
        begins = [match.start() for match in _START_OF_EVENT.finditer(block)]
        if not begins or begins[-1] > 0:
            damaged = block[: begins[-1]] if begins else block
            if damaged.strip(b". \t\r\n"):
                log.warning("%s has a damaged event: %r", path, damaged[:200])
        if begins:
            yield block[begins[-1] :]


def _parse_blocks(data: bytes) -> list[Event]:
    """Let HTCondor's reader read them, out of a file in memory."""
    htcondor2 = _htcondor.load()
    fd = os.memfd_create("job-events")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        reader = htcondor2.JobEventLog(f"/proc/self/fd/{fd}")
        try:
            return [_plain_event(htcondor2, event) for event in reader.events(0)]
        finally:
            reader.close()
    finally:
        os.close(fd)


def _plain_event(htcondor2: Any, event: Mapping[str, Any]) -> Event:
    """Return the bindings' event as ours. Attributes: ``toClassAd`` in condor_event.cpp."""
    number = int(event["EventTypeNumber"])
    try:
        name = str(htcondor2.JobEventType(number).name)
    except ValueError:
        name = f"EVENT_{number}"  # of a newer HTCondor
    held = name == "JOB_HELD"
    slot = _text_or_none(event.get("SlotName") or event.get("StartdName"))
    address, alias = _machine(str(event.get("ExecuteHost") or event.get("StartdAddr") or ""))
    reasons = ("HoldReason", "Reason", "DisconnectReason", "Message", "ErrorMsg")
    reason = next((event.get(key) for key in reasons if event.get(key)), None)
    return Event(
        type=name,
        cluster=int(event.get("Cluster", -1)),
        proc=int(event.get("Proc", -1)),
        # Local time, whatever the log has: the reader converts UTC.
        time=datetime.fromisoformat(str(event["EventTime"]).rstrip("Z")).timestamp(),
        host=_host_of(slot, alias),
        address=address,
        slot=slot,
        reason=_text_or_none(reason),
        code=_int_or_none(event.get("HoldReasonCode" if held else "ReasonCode")),
        subcode=_int_or_none(event.get("HoldReasonSubCode" if held else "ReasonSubCode")),
        exit_status=_int_or_none(event.get("ReturnValue")),
        exit_signal=_int_or_none(event.get("TerminatedBySignal")),
        requeued=event.get("TerminatedAndRequeued") is True,
    )


# <192.0.2.7:9618?addrs=...&alias=node7.example.org&sock=startd_1>, also with [IPv6].
_SINFUL = re.compile(r"<(?:\[([^\]]+)\]|([^:\]]+)):\d+(?:\?([^>]*))?>")


def _machine(sinful: str) -> tuple[str | None, str | None]:
    """Return IP address and name of a machine; grid jobs have other texts there."""
    match = _SINFUL.fullmatch(sinful)
    if match is None:
        return None, None
    for item in (match[3] or "").split("&"):
        if item.startswith("alias="):
            return match[1] or match[2], item[6:]
    return match[1] or match[2], None


def _host_of(slot: str | None, alias: str | None) -> str | None:
    """Return the machine's name: ``slot1_2@glidein_7@node.example.org``."""
    if slot and "@" in slot:
        return slot.rpartition("@")[2]
    return alias


def _plain_ad(ad: Any, spelling: Mapping[str, str]) -> dict[str, Any]:
    """Return an ad as a dictionary."""
    found = {}
    for name in ad:
        value = _plain(ad, name)
        if value is not None:
            found[spelling.get(name.lower(), name)] = value
    return found


def _plain(ad: Any, name: str) -> Any:
    """Return an attribute's value; None where it is undefined."""
    value = ad[name]
    if type(value).__name__ == "ExprTree":
        text = str(value)
        try:
            value = ad.eval(name)
        except Exception:  # the bindings raise their own types, by version
            return text
        if type(value).__name__ in ("ExprTree", "Value"):
            return text
    return _plain_value(value)


def _plain_value(value: Any) -> Any:
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if type(value).__name__ == "Value":  # classad2.Value.Undefined, .Error
        return None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, (list, tuple)):
        return [_plain_value(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain_value(value[key]) for key in value}
    return str(value)


def _text_or_none(value: Any) -> str | None:
    return str(value).strip() or None if value is not None else None


def _int_or_none(value: Any) -> int | None:
    return None if value is None else int(value)


def _text(error: BaseException) -> str:
    """Return an error's text in one line."""
    return " ".join(str(error).split()).rstrip(".;") or type(error).__name__


@contextlib.contextmanager
def _logged_warnings() -> Iterator[None]:
    """Log what the schedd says to a submission, which the bindings tell by ``warnings``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        log.warning("HTCondor warns: %s", " ".join(str(warning.message).split()))
