"""Numbers that the porter writes and the manager reads, without a word between them.

They stand in one page of shared memory, so reading them never waits for the porter,
and they survive it: its successor counts on.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping

from vine_sharedport.events import Slug

__all__ = ["Counters", "Gauge", "Refusal", "describe_refused"]


class Refusal(Slug):
    """Why a connection was not handed to the manager."""

    FOREIGN_USER = "foreign-user", "another user than root or the manager's"
    NOT_A_HAND_OFF = "not-a-hand-off", "no hand-off message"
    NO_DESCRIPTOR = "no-descriptor", "no TCP connection handed over"
    STALLED = "stalled", "the hand-off did not finish in time"
    WRONG_SECRET = "wrong-secret", "wrong secret at the gate"
    GATE_TIMEOUT = "gate-timeout", "no answer at the gate in time"
    CLOSED_EARLY = "closed-early", "closed by the client before its first byte"
    SILENT = "silent", "no byte from the client in time"
    TOO_MANY = "too-many", "too many waiting connections"
    DESCRIPTORS = "descriptors", "descriptor limit reached"
    MANAGER_DESCRIPTORS = "manager-descriptors", "the manager's descriptor limit reached"


class Gauge(Slug):
    """How many connections came, or wait, and for whom; and how the endpoint fares."""

    HANDED_OVER = "handed-over", "handed to the manager so far"
    WORKERS = "workers", "of those, began as a worker does"
    QUERIES = "queries", "of those, asked for the manager's status"
    PENDING = "pending", "waiting for the client's first bytes"
    READY = "ready", "waiting for the manager"
    STARTS = "starts", "porters started so far"
    NAMES_HELD = "names-held", "abstract names now held"
    NAME_TAKEN = "name-taken", "abstract names that another program has now"
    NAME_TAKEN_SO_FAR = "name-taken-so-far", "times that another program had one"


def describe_refused(refused: Mapping[str, int]) -> str:
    """Return how many were refused and why, for people."""
    each = (f"{number} ({Refusal(code).text})" for code, number in refused.items())
    return ", ".join(each) or "none"


_WORD = struct.Struct("Q")  # one aligned word: readers never see half a number
_SLOTS = {name: index for index, name in enumerate([*Gauge, *Refusal])}


def _anonymous_file() -> int:
    """Return a descriptor of a page of zeros that has no name."""
    if hasattr(os, "memfd_create"):  # not in a Python built for glibc before 2.27
        fd = os.memfd_create("vine_sharedport", os.MFD_CLOEXEC)
    else:
        import tempfile  # it loads much, and every porter has its page already

        fd, path = tempfile.mkstemp(prefix="vine_sharedport-")
        os.unlink(path)
    os.ftruncate(fd, mmap.PAGESIZE)
    return fd


class Counters:
    """One page of numbers, shared with the process that gets its descriptor.

    Owns the descriptor and the mapping until ``close()``.

    Args:
        fd: Descriptor of an existing page; None makes a new one.
    """

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            fd = _anonymous_file()
        self._fd = fd
        try:
            self._page = mmap.mmap(fd, mmap.PAGESIZE)
        except BaseException:
            os.close(fd)
            raise

    def fileno(self) -> int:
        """Return the descriptor to pass on; it stays this object's."""
        return self._fd

    def __getitem__(self, name: Gauge | Refusal) -> int:
        """Return a number; 0 after ``close()``."""
        if self._page.closed:
            return 0
        value: int = _WORD.unpack_from(self._page, _SLOTS[name] * _WORD.size)[0]
        return value

    def __setitem__(self, name: Gauge | Refusal, value: int) -> None:
        """Write a number. Each number has one writer."""
        _WORD.pack_into(self._page, _SLOTS[name] * _WORD.size, value)

    def refused(self) -> dict[str, int]:
        """Return how many connections were refused for which reason, without zeros."""
        return {reason.value: self[reason] for reason in Refusal if self[reason]}

    def close(self) -> None:
        """Give the page back. Idempotent."""
        if not self._page.closed:
            self._page.close()
            os.close(self._fd)
