"""Numbers that the porter writes and the manager reads, without a word between them.

They stand in one page of shared memory, so reading them never waits for the porter,
and they survive it: its successor counts on.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
import tempfile

__all__ = ["Counters", "Gauge", "Refusal"]


class Refusal(enum.Enum):
    """Why a connection was not handed to the manager; the value is what users read."""

    FOREIGN_USER = "another user than root or the manager's"
    NOT_A_HAND_OFF = "no hand-off message"
    NO_DESCRIPTOR = "no TCP connection handed over"
    STALLED = "the hand-off did not finish in time"
    WRONG_SECRET = "wrong secret at the gate"
    GATE_TIMEOUT = "no answer at the gate in time"
    CLOSED_EARLY = "closed by the client before its first byte"
    SILENT = "no byte from the client in time"
    TOO_MANY = "too many waiting connections"
    DESCRIPTORS = "descriptor limit reached"
    MANAGER_DESCRIPTORS = "the manager's descriptor limit reached"


class Gauge(enum.Enum):
    """How many connections wait, and for whom."""

    HANDED_OVER = "handed to the manager so far"
    PENDING = "waiting for the client's first bytes"
    READY = "waiting for the manager"
    STARTS = "porters started so far"


_WORD = struct.Struct("Q")  # one aligned word: readers never see half a number
_SLOTS = {name: index for index, name in enumerate([*Gauge, *Refusal])}


def _anonymous_file() -> int:
    """Return a descriptor of a page of zeros that has no name."""
    if hasattr(os, "memfd_create"):  # not in a Python built for glibc before 2.27
        fd = os.memfd_create("vine_sharedport", os.MFD_CLOEXEC)
    else:
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
