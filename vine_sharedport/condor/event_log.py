"""The job event log: what HTCondor writes down of each job.

Its events come back as plain Python values, so that what stands above needs no HTCondor
to be tested.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Any

from vine_sharedport.condor import bindings
from vine_sharedport.errors import SettingError

__all__ = ["Event", "EventLog"]

log = logging.getLogger(__name__)


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


# The line after an event: SynchDelimiter in src/condor_utils/write_user_log.cpp.
_END_OF_EVENT = re.compile(rb"^\.\.\.[ \t\r]*\n", re.MULTILINE)
# How an event begins: its number, the job's, date and time. ULogEvent::formatHeader. Not
# always in a new line: see _whole_events.
_START_OF_EVENT = re.compile(rb"\d{3} \(-?\d+\.-?\d+\.-?\d+\) [0-9/-]{5,10}[ T]\d\d:\d\d:\d\d")

# Time zones differ by a multiple of this, and by no more than that: from UTC-12 to UTC+14.
_ZONE_STEP, _LARGEST_ZONE_DIFFERENCE = 900, 26 * 3600

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
            SettingError: The file is there and cannot be read.
        """
        try:
            events = self._read_on()
            if self._is_replaced():
                self.close()
                self._offset, self._before = 0, b""
                events += self._read_on()
        except OSError as error:
            self.close()
            raise SettingError(
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
                raise SettingError(
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
                return _by_our_clock(events, os.fstat(self._fd).st_mtime)
            elif size >= _LONGEST_EVENT:
                raise SettingError(
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


def _by_our_clock(events: list[Event], written: float) -> list[Event]:
    """Return the events with the times that they have in this process's time zone.

    They are written in local time, without the zone: the daemons may have another one, as
    where TZ is set for a program.

    Args:
        events: What has just been read, to the end of the log.
        written: When the log was written last, in seconds since 1970.
    """
    if not events:
        return events
    shift = round((events[-1].time - written) / _ZONE_STEP) * _ZONE_STEP
    if shift == 0 or abs(shift) > _LARGEST_ZONE_DIFFERENCE:
        return events
    return [replace(event, time=event.time - shift) for event in events]


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
    except bindings.failures(bindings.load()) as error:
        log.debug("%s: %s", path, error)
        events = []
    if len(events) == len(blocks):
        return events
    # One of them is not what HTCondor's reader expects, and it stops there.
    events = []
    for block in blocks:
        try:
            found = _parse_blocks(block)
        except bindings.failures(bindings.load()):
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
    htcondor2 = bindings.load()
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


def _text_or_none(value: Any) -> str | None:
    return str(value).strip() or None if value is not None else None


def _int_or_none(value: Any) -> int | None:
    return None if value is None else int(value)
