"""What the schedd tells of a manager's job."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vine_sharedport import records
from vine_sharedport.condor.manager_job.description import GRACE, decode_program

__all__ = ["ATTRIBUTES", "ManagerJob", "read_job"]

# JobStatus in HTCondor's manual, appendix "Job ClassAd Attributes".
_STATES = {
    1: "idle", 2: "running", 3: "removing", 4: "ended", 5: "held", 6: "running",
    7: "suspended",
}  # fmt: skip

ATTRIBUTES = [
    "ClusterId", "VineSharedPortManager", "VineSharedPortProgram", "VineSharedPortGrace",
    "JobStatus", "EnteredCurrentStatus", "QDate", "NumJobStarts", "HoldReason",
    "RemoveReason", "ExitBySignal", "ExitCode", "ExitSignal", "CompletionDate",
    "Iwd", "Out", "Err", "UserLog",
]  # fmt: skip
"""What ``read_job`` looks at."""

_LAST_LINES = 10


@dataclass(frozen=True)
class ManagerJob:
    """One manager's job, as the schedd tells of it.

    Attributes:
        name: What its user calls it.
        id: HTCondor's number of it; ``condor_q ID`` shows it.
        state: ``idle``, ``running``, ``held``, ``removing`` (being removed, not yet gone),
            ``ended`` by itself or ``removed``.
        since: When it got into that state; seconds since 1970.
        submitted: When it was submitted; seconds since 1970.
        program: The program and its arguments, as a shell would take them.
        directory: Where it runs.
        output: File with what it prints.
        error: File with what it prints on stderr.
        log: File with HTCondor's events.
        starts: How often it was started.
        reason: Why it is idle, held or removed, None if there is nothing to say.
        exit_status: What it ended with, None if it has not ended or by a signal.
        exit_signal: The number of the signal that ended it.
        grace: Seconds from SIGTERM to SIGKILL when it is removed.
    """

    name: str
    id: int
    state: str
    since: float
    submitted: float
    program: str
    directory: str
    output: str
    error: str
    log: str
    starts: int = 0
    reason: str | None = None
    exit_status: int | None = None
    exit_signal: int | None = None
    grace: float = GRACE

    @property
    def done(self) -> bool:
        """Whether it will not run again."""
        return self.state in ("ended", "removed")

    @property
    def failed(self) -> bool:
        """Whether it has ended otherwise than with status 0."""
        return self.state == "ended" and self.exit_status != 0

    def last_lines(self) -> tuple[str, list[str]]:
        """Return the file with its last words, and their lines; stderr's if there are any."""
        for path in (self.error, self.output):
            lines = _tail(path)
            if lines:
                return path, lines
        return self.error, []

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON, with its last words if it has failed or is held."""
        lines = self.last_lines()[1] if self.failed or self.state == "held" else []
        return {**records.as_dict(self), "last_lines": lines}

    def __str__(self) -> str:
        """Return it in a few lines, for a terminal."""
        state = self.state
        if self.exit_signal is not None:
            state += f", by signal {self.exit_signal} ({_signal_name(self.exit_signal)})"
        elif self.exit_status is not None:
            state += f" with status {self.exit_status}"
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        lines = [f"{self.name} ({self.id}): {state}, since {when}"]
        if self.reason is not None:
            lines.append(f"reason:  {self.reason}")
        if self.state == "held":
            lines.append(
                f"next:    correct that and start it again by 'condor_release {self.id}', or "
                f"give it up by 'vine_sharedport manager stop {self.name}'"
            )
        lines.append(f"program: {self.program}")
        if self.starts > 1:
            lines.append(
                f"starts:  {self.starts}; each started from the beginning, and emptied "
                "the files"
            )
        lines += [f"output:  {self.output}", f"error:   {self.error}", f"log:     {self.log}"]
        if self.failed:
            path, last = self.last_lines()
            lines += [f"The last lines of {path}:", *(f"  {line}" for line in last)]
            if not last:
                lines[-1] = "It has printed nothing."
        return "\n".join(lines)


def read_job(ad: Mapping[str, Any], *, in_queue: bool) -> ManagerJob:
    """Return the job of an ad, from the queue or from the history."""
    state = _STATES.get(int(ad.get("JobStatus", 1)), "running")
    if state == "removing" and not in_queue:
        state = "removed"
    ended = state == "ended"
    by_signal = bool(ad.get("ExitBySignal", False))
    reason = ad.get({"held": "HoldReason"}.get(state, "RemoveReason"))
    directory = str(ad.get("Iwd", ""))
    return ManagerJob(
        name=str(ad.get("VineSharedPortManager")),
        id=int(ad["ClusterId"]),
        state=state,
        since=float(ad.get("EnteredCurrentStatus", 0)),
        submitted=float(ad.get("QDate", 0)),
        program=decode_program(str(ad.get("VineSharedPortProgram", ""))),
        directory=directory,
        output=os.path.join(directory, str(ad.get("Out", ""))),
        error=os.path.join(directory, str(ad.get("Err", ""))),
        log=os.path.join(directory, str(ad.get("UserLog", ""))),
        starts=int(ad.get("NumJobStarts", 0)),
        reason=None if reason is None or state in ("running", "ended") else str(reason),
        exit_status=int(ad["ExitCode"]) if ended and not by_signal else None,
        exit_signal=int(ad["ExitSignal"]) if ended and by_signal else None,
        grace=float(ad.get("VineSharedPortGrace", GRACE)),
    )


def _tail(path: str) -> list[str]:
    """Return the last lines of a file; none if it cannot be read."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - (1 << 14)))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-_LAST_LINES:]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
