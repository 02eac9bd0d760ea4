"""A status that is not written any more, though its factory runs: seen, and why.

Where the directory is full or gone, the factory cannot write that there. So each status says
by when the next one is due, and who reads it judges; why it is late he tries himself.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from typing import TypeVar

from vine_sharedport.factory.report.phase import Phase
from vine_sharedport.factory.report.record import StatusRecord
from vine_sharedport.factory.report.text import describe_age

__all__ = ["SLACK", "marked_if_stale", "why_not_written"]

_Status = TypeVar("_Status", bound=StatusRecord)

SLACK = 5.0
"""Seconds that a cycle may take, beside the pause that belongs to it."""

# More than fits into an inode.
_TRIAL = bytes(65536)


def marked_if_stale(snapshot: _Status, directory: str) -> _Status:
    """Return the status of a factory that runs; if it is late, its phase and message say so."""
    now = time.time()
    if snapshot.state != "running" or not snapshot.due or now < snapshot.due:
        return snapshot
    why = why_not_written(directory)
    reason = why or f"it may be busy; see the log in {directory}"
    message = f"{Phase.STALE.text}; this is of {describe_age(now - snapshot.time)}: {reason}"
    return dataclasses.replace(snapshot, phase=Phase.STALE.value, message=message)


def why_not_written(directory: str) -> str | None:
    """Return why nothing can be written to a directory, by trying it; None if it can be."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(_TRIAL)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"{directory} cannot be written: {error.strerror}"
    return None
