"""Why a schedd does not take jobs, in plain words, and what to do about it.

The texts are those of the bindings of HTCondor 23.9.6 and 25.14.1; the numbers of limits are
``NEWJOB_ERR_MAX_JOBS_…`` in src/condor_includes/condor_qmgr.h.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Refusal", "explain_refusal"]

_LIMITS = {
    -2: ("MAX_JOBS_SUBMITTED", "jobs in this schedd's queue, of all users together"),
    -3: ("MAX_JOBS_PER_OWNER", "jobs of one user in this schedd's queue"),
    -4: ("MAX_JOBS_PER_SUBMISSION", "jobs in one submission"),
}
# What the bindings make of a job that the schedd gives no number.
_NUMBER = re.compile(r"expected next ProcId to be (\d+), but Schedd says (-\d+)")
# Where not even a cluster is to be had.
_NO_CLUSTER = re.compile(r"(MAX_JOBS_[A-Z_]+) exceeded")
# A SUBMIT_REQUIREMENT_… of the administrator's; its reason follows.
_REQUIREMENT = re.compile(r"(?:Unable to|Failed to) commit transaction\W+SCHEDD:\d+:(.*)")
_IDENTITY = re.compile(
    r"AUTHENTICATE:|authenticat|\bexpired\b|token|credential|\bproxy\b|certificate", re.I
)
_DENIED = re.compile(r"\bDENIED\b|PERMISSION_DENIED|not authorized")
_FULL = re.compile(r"No space left|quota exceeded|disk is full", re.I)
_FORBIDDEN = re.compile(
    r"permission denied|No such file or directory|cannot (?:open|access)|"
    r"Failed to open|not a directory",
    re.I,
)


@dataclass(frozen=True)
class Refusal:
    """A known reason.

    Attributes:
        cause: What it is, with HTCondor's own words.
        step: What the user can do.
        room: How many of the jobs it would have taken; None where it is no matter of number.
    """

    cause: str
    step: str
    room: int | None = None


def explain_refusal(text: str) -> Refusal | None:
    """Return what HTCondor's text means; None if that is not known.

    Args:
        text: Of the bindings' exception, in one line.
    """
    number = _NUMBER.search(text)
    if number is not None and int(number[2]) in _LIMITS:
        name, what = _LIMITS[int(number[2])]
        return _limit(name, what, int(number[1]), text)
    no_cluster = _NO_CLUSTER.search(text)
    if no_cluster is not None:
        what = dict(_LIMITS.values()).get(no_cluster[1], "jobs")
        return _limit(no_cluster[1], what, 0, text)
    requirement = _REQUIREMENT.search(text)
    if requirement is not None:
        return Refusal(
            f"its administrator does not let such jobs in: {requirement[1].strip()}",
            "do as that says. Where logs have to be elsewhere: directory= (a factory's -S, "
            "--log-dir of 'manager submit'); what a job asks for: commands=, preset=, and the "
            "factory's other options",
        )
    if _FULL.search(text):
        return Refusal(f"no room is left, or no quota: {text}", "make room, or give directory=")
    if _IDENTITY.search(text):
        return Refusal(
            f"it does not know who you are: {text}",
            "renew what proves that, such as a token (condor_token_list shows yours), a "
            "Kerberos ticket (kinit) or a proxy; 'condor_ping -table READ WRITE' tells whether "
            "it is enough",
        )
    if _DENIED.search(text):
        return Refusal(
            f"it forbids that to you: {text}",
            "ask its administrator (ALLOW_WRITE), or take another schedd (schedd=)",
        )
    if _FORBIDDEN.search(text):
        return Refusal(
            f"a file or directory of the jobs cannot be used: {text}",
            "make it readable, and the directory of their logs writable, or give another one: "
            "directory= (a factory's -S, --log-dir of 'manager submit')",
        )
    return None


def _limit(name: str, what: str, room: int, text: str) -> Refusal:
    how_many = f"takes only {room} of them" if room else "takes no more of them"
    return Refusal(
        f"it {how_many}: {name} limits the {what} (HTCondor says: {text})",
        "have fewer jobs there (max_workers=, condor_q shows yours), or ask its administrator "
        f"for a higher {name}",
        room,
    )
