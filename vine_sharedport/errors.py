"""Every exception that vine_sharedport raises on purpose, and what programs can hold on to.

The classes are divided by what the caller can do: correct a setting, try later, drop one
connection, or stop. Each has a ``code``, which stays the same when its message is reworded,
and the exit status with which a command ends. Messages name the value found, the value wanted
and the next step; they are for people, and no code may read them.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "CedarError",
    "DialAttempt",
    "DialError",
    "DialTimeout",
    "DiscoveryError",
    "EndpointError",
    "ExitStatus",
    "GateError",
    "HandOffError",
    "HandOffTimeout",
    "HookError",
    "LaunchError",
    "MissingDependencyError",
    "NoStatusError",
    "OptionError",
    "PoolError",
    "ScheddError",
    "SettingError",
    "SharedPortError",
    "SinfulError",
    "Verdict",
    "WrongSecretError",
]


class ExitStatus(enum.IntEnum):
    """How every command of ours ends, and every worker that the launcher or the shim ends.

    Source: sysexits.h for 75 to 78, POSIX's shell for 126 and 127.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    LATER = 75  # EX_TEMPFAIL
    WRONG_SECRET = 77  # EX_NOPERM
    SETTING = 78  # EX_CONFIG
    NOT_EXECUTABLE = 126
    NO_PROGRAM = 127

    @property
    def meaning(self) -> str:
        """What it says, in one line for people."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitStatus.OK: "done",
    ExitStatus.FAILED: "it failed, for the reason given",
    ExitStatus.USAGE: "the command line, or a setting that it names, cannot be used",
    ExitStatus.LATER: "the manager was not reached within the time limit",
    ExitStatus.WRONG_SECRET: "the manager refused the secret",
    ExitStatus.SETTING: "address, secret file or another setting cannot be used there",
    ExitStatus.NOT_EXECUTABLE: "the worker program, or the wrapper, cannot be executed there",
    ExitStatus.NO_PROGRAM: "no worker program that runs on this machine, or no Python for the "
    "relay",
}


class Verdict(enum.Enum):
    """What came of one attempt to reach a manager; the value is its code.

    In this order: of several attempts the first one counts, which got furthest.
    """

    UNANSWERED = "unanswered"  # the manager took the connection and closed it without a byte
    WRONG_SECRET = "wrong-secret"  # the manager has another one
    SECRET_NEEDED = "secret-needed"  # we have none, and the manager has a gate
    UNPROVEN_SERVER = "unproven-server"  # the server does not hold the secret
    CLOSED_AT_GATE = "closed-at-gate"  # the manager broke off
    NOBODY_THERE = "nobody-there"  # the shared port knows nobody of this sock id
    NOT_A_GATE = "not-a-gate"  # something else answers
    GATE_SILENT = "gate-silent"  # no greeting in time
    CONNECTION_REFUSED = "connection-refused"
    TIMED_OUT = "timed-out"
    HOST_UNREACHABLE = "host-unreachable"
    NETWORK_UNREACHABLE = "network-unreachable"
    NAME_UNKNOWN = "name-unknown"
    NAME_SERVICE = "name-service"  # it did not answer
    FAILED = "failed"  # any other reason
    NOT_TRIED = "not-tried"  # for lack of time, or as another candidate's address


@dataclass(frozen=True)
class DialAttempt:
    """What one candidate of an address did.

    Attributes:
        candidate: Host and port, as text.
        verdict: What came of it.
        reason: The same for people, with what the system says.
    """

    candidate: str
    verdict: Verdict
    reason: str

    def __str__(self) -> str:
        return f"{self.candidate}: {self.reason}"


class SharedPortError(Exception):
    """Base of every error below.

    Attributes:
        cause: What is wrong.
        step: What to do next; some callers know a better one.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[ExitStatus] = ExitStatus.FAILED

    def __init__(self, cause: str, *, step: str | None = None) -> None:
        super().__init__(f"{cause}; {step}" if step else cause)
        self.cause, self.step = cause, step


class SinfulError(SharedPortError, ValueError):
    """The text is not an HTCondor address."""

    code = "address"
    exit_status = ExitStatus.USAGE


class CedarError(SharedPortError):
    """The peer's bytes break the protocol."""

    code = "protocol"


class GateError(SharedPortError):
    """The other side does not hold the manager's secret; drop the connection.

    Attributes:
        verdict: What came of the attempt.
    """

    code = "gate"

    def __init__(
        self,
        cause: str,
        verdict: Verdict = Verdict.UNPROVEN_SERVER,
        *,
        step: str | None = None,
    ) -> None:
        super().__init__(cause, step=step)
        self.verdict = verdict


class WrongSecretError(GateError):
    """The manager has another secret than we, or we have none; to try again is no use."""

    code = "wrong-secret"
    exit_status = ExitStatus.WRONG_SECRET

    def __init__(
        self, cause: str, verdict: Verdict = Verdict.WRONG_SECRET, *, step: str | None = None
    ) -> None:
        super().__init__(cause, verdict, step=step)


class HandOffError(SharedPortError):
    """This one connection is lost; keep serving."""

    code = "hand-off"


class HandOffTimeout(HandOffError, TimeoutError):
    """The connection was not handed off before its deadline."""

    code = "hand-off-timeout"


class DialError(SharedPortError):
    """No candidate of the manager's address could be reached.

    Attributes:
        verdict: That of the candidate that got furthest.
        attempts: What each candidate did, in order; empty if none was tried.
    """

    code = "not-reached"
    exit_status = ExitStatus.LATER

    def __init__(
        self,
        message: str,
        verdict: Verdict | None = None,
        attempts: Sequence[DialAttempt] = (),
    ) -> None:
        super().__init__(message)
        if verdict is None:
            verdicts = [attempt.verdict for attempt in attempts] or [Verdict.FAILED]
            verdict = min(verdicts, key=list(Verdict).index)
        self.verdict = verdict
        self.attempts = tuple(attempts)


class DialTimeout(DialError, TimeoutError):
    """The manager could not be reached before the deadline."""

    code = "not-reached-in-time"


class EndpointError(SharedPortError):
    """The endpoint cannot serve under this sock id."""

    code = "endpoint"


class HookError(SharedPortError):
    """The accept hook is not installed; the library is untouched."""

    code = "hook"


class LaunchError(SharedPortError):
    """A worker, a job, a factory or a porter did not start."""

    code = "launch"


class SettingError(SharedPortError, ValueError):
    """A setting, an option or a file that was given cannot be used; correct it."""

    code = "setting"
    exit_status = ExitStatus.USAGE


class OptionError(SettingError, AttributeError):
    """There is no option of this name, or it cannot be set, or not any more."""

    code = "option"


class ScheddError(SharedPortError):
    """The schedd does not answer, or refuses.

    Attributes:
        room: How many jobs it would take where those submitted are too many; None where it is
            no matter of their number.
        denied: To how many jobs it did not do what was asked, as not allowed.
    """

    code = "schedd"

    def __init__(
        self, cause: str, *, step: str | None = None, room: int | None = None, denied: int = 0
    ) -> None:
        super().__init__(cause, step=step)
        self.room, self.denied = room, denied


class NoStatusError(SharedPortError):
    """There is no status to read: nothing of this name has run, or it has written none yet."""

    code = "no-status"


class DiscoveryError(SharedPortError):
    """HTCondor's shared port, or its socket directory, cannot be used."""

    code = "discovery"


class PoolError(SharedPortError):
    """The personal pool did not start, or is not there."""

    code = "pool"


class MissingDependencyError(SharedPortError, ImportError):
    """A library this function needs is not installed."""

    code = "missing"
