"""Why a job is held, in plain words, and what to do about it.

HTCondor tells a code, a subcode and a text. The codes are ``CONDOR_HOLD_CODE`` in
src/condor_utils/condor_holdcodes.h (manual: "Hold Reason Codes"); texts as HTCondor
23.9.6 and 25.14.1 write them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

__all__ = ["SPOOLING_INPUT", "Cause", "explain_hold", "is_hold"]

SPOOLING_INPUT = 16
"""HoldReasonCode of a job whose input files are on their way to the schedd."""

# HoldReasonSubCode of both JobOutOfResources (34) and the policies that HTCondor ships
# for machines (HOLD_IF_MEMORY_EXCEEDED, ... in param_info.in).
_CPUS, _MEMORY, _DISK = 101, 102, 104
# HOLD_IF_RUNTIME_EXCEEDS.
_RUNTIME = 103

_ENOENT, _EACCES, _ENOEXEC, _ENOSPC, _EDQUOT = 2, 13, 8, 28, 122


@dataclass(frozen=True)
class Cause:
    """A known reason for jobs being held.

    Attributes:
        name: One word for programs, such as ``memory``; ``unknown`` for a reason that is
            not known here.
        explanation: What happened.
        remedy: What the user can do.
        repair: Attributes to change before the job is released; empty if it may be
            released as it is; None if that would only bring the hold back.
    """

    name: str
    explanation: str
    remedy: str
    repair: Mapping[str, int | float | str] | None = None


def is_hold(code: int | None) -> bool:
    """Whether somebody has to act on a job that HTCondor calls held."""
    return code != SPOOLING_INPUT


def explain_hold(
    code: int | None,
    subcode: int | None = None,
    reason: str | None = None,
    ad: Mapping[str, Any] | None = None,
    tool_options: str = "",
) -> Cause:
    """Return the cause of a hold.

    Args:
        code: HoldReasonCode.
        subcode: HoldReasonSubCode.
        reason: HoldReason.
        ad: The job's ad, where there is one: ``Cmd``, ``RequestMemory`` (MB) and
            ``RequestDisk`` (KiB) make the answer better.
        tool_options: What HTCondor's tools want to be told of the schedd, after a blank each.
    """
    hold = _Hold(code or 0, subcode or 0, (reason or "").strip(), ad or {}, tool_options)
    cause = _BY_CODE.get(hold.code, _by_text)(hold)
    return cause or _by_text(hold) or _unknown(hold)


@dataclass(frozen=True)
class _Hold:
    """What HTCondor tells."""

    code: int
    subcode: int
    text: str
    ad: Mapping[str, Any]
    tool_options: str

    @property
    def quoted(self) -> str:
        """HTCondor's words, to be put at the end of a sentence."""
        return f"HTCondor says: {self.text}" if self.text else "HTCondor gives no reason"


def _memory(hold: _Hold) -> Cause:
    used = re.search(r"[Ll]ast measured usage: (\d+) megabytes", hold.text)
    asked = hold.ad.get("RequestMemory")
    known = [int(used[1])] if used else []
    if isinstance(asked, (int, float)):
        known.append(int(asked))
    more = -(-max(known) * 3 // 2) if known else None
    had = f" of {asked} MB" if isinstance(asked, (int, float)) else ""
    return Cause(
        "memory",
        f"the worker and its tasks used more memory than the slot{had} has",
        "give the tasks' needs (task.set_memory) so that the manager starts fewer at once, "
        + (f"or workers more memory (memory={more})" if more else "or workers more (memory=)"),
        None if more is None else {"RequestMemory": more},
    )


def _disk(hold: _Hold) -> Cause:
    asked = hold.ad.get("RequestDisk")
    more = int(asked * 2) if isinstance(asked, (int, float)) else None
    had = f" of {int(asked) // 1024} MB" if isinstance(asked, (int, float)) else ""
    return Cause(
        "disk",
        f"the worker's workspace outgrew the slot's disk{had}: cached inputs, temporary "
        "files and the tasks' sandboxes count",
        "give workers more disk "
        + (f"(disk={more // 1024}, in MB), " if more else "(disk=), ")
        + "or let files be dropped sooner (cache='task')",
        None if more is None else {"RequestDisk": more},
    )


def _cpus(_: _Hold) -> Cause:
    return Cause(
        "cpus",
        "tasks used more cores than the slot has",
        "give the tasks' needs (task.set_cores), limit their threads (OMP_NUM_THREADS=1), or "
        "give workers more cores (cores=)",
    )


def _wall_time(hold: _Hold) -> Cause:
    limits = {46: "AllowedJobDuration", 47: "AllowedExecuteDuration"}
    limit = limits.get(hold.code, "the site's limit")
    after = re.search(r"duration of ([0-9:+]+)", hold.text)
    return Cause(
        "wall_time",
        f"the job ran for longer than {limit}{' (' + after[1] + ')' if after else ''} allows",
        "nothing is lost but the tasks at work: let workers end before the limit "
        "(--wall-time), or choose a longer category (JobDurationCategory, "
        "allowed_execute_duration)",
        {},
    )


_FILE = re.compile(r"(reading from|writing to) file ([^:]+): \(errno (\d+)\)")


def _input_files(hold: _Hold) -> Cause:
    """Explain code 13: on their way to the machine."""
    match = _FILE.search(hold.text)
    path, errno = (match[2], int(match[3])) if match else ("", hold.subcode)
    if match and match[1] == "writing to":
        return _no_space_there(hold) if errno in (_ENOSPC, _EDQUOT) else _transfer(hold)
    if errno == _ENOENT:
        if path and path == hold.ad.get("Cmd"):
            return _missing_executable(path)
        return Cause(
            "missing_input",
            f"an input file is not there on the access point: {path or hold.text}",
            "put the file back or correct its path, then release the jobs; a directory that "
            "the schedd's host does not have needs spooling",
        )
    if errno == _EACCES:
        return Cause(
            "unreadable_input",
            f"the schedd may not read an input file: {path or hold.text}",
            "let the submitting user read the file and enter its directories, then release "
            "the jobs",
        )
    return _transfer(hold)


def _missing_executable(path: str) -> Cause:
    return Cause(
        "missing_executable",
        f"the job's program is not there on the access point: {path}",
        "put it back (an upgrade or a removed environment takes it away), then release the "
        "jobs; new ones use the present path",
    )


def _output_files(hold: _Hold) -> Cause:
    """Explain code 12: on their way back."""
    match = _FILE.search(hold.text)
    path, errno = (match[2], int(match[3])) if match else ("", hold.subcode)
    if errno in (_ENOSPC, _EDQUOT):
        return Cause(
            "access_point_full",
            f"no space, or no quota, is left on the access point for {path or 'the output'}",
            "make room in the directory of the jobs' logs, then release the jobs",
        )
    if match and match[1] == "writing to":
        return Cause(
            "output_directory",
            f"the access point cannot write {path}: the directory is gone or forbidden",
            "make the directory of the jobs' logs again, or start the factory in one that "
            "stays; then release the jobs",
        )
    if errno == _ENOENT:
        return Cause(
            "missing_output",
            f"the job did not leave a file that it was to send back: {path or hold.text}",
            "take it out of transfer_output_files; workers need no output files",
        )
    return _transfer(hold)


def _no_space_there(hold: _Hold) -> Cause:
    asked = hold.ad.get("RequestDisk")
    more = {"RequestDisk": int(asked * 2)} if isinstance(asked, (int, float)) else {}
    return Cause(
        "execute_point_full",
        f"the machine has no space for the job's input files; {hold.quoted}",
        "release the jobs, so that they go elsewhere; ask for more disk (disk=)",
        more,
    )


def _transfer(hold: _Hold) -> Cause:
    return Cause(
        "transfer",
        f"files did not get through; {hold.quoted}",
        "release the jobs once; if it comes back, the network, the URL or the machine named "
        "there is the cause",
        {},
    )


def _start(hold: _Hold) -> Cause:
    """Explain code 6: the program did not start."""
    if "interpreter" in hold.text:
        why = "the machine has not the interpreter in its first line"
    elif hold.subcode == _ENOEXEC:
        why = "it is no program for this machine"
    elif hold.subcode == _EACCES:
        why = "it may not be executed there: its mode, or a file system mounted noexec"
    else:
        why = "it, or a file that it needs, is not there"
    return Cause(
        "not_executable",
        f"the machine could not start the job's program: {why}; {hold.quoted}",
        "correct the program (wrapper=, worker_binary=), or leave such machines out "
        "(condor_requirements)",
    )


def _machine_policy(hold: _Hold) -> Cause | None:
    """Explain codes 21 and 34: the machine had enough."""
    return {_CPUS: _cpus, _MEMORY: _memory, _DISK: _disk, _RUNTIME: _wall_time}.get(
        hold.subcode, lambda _: None
    )(hold)


def _by_user(hold: _Hold) -> Cause:
    return Cause(
        "user",
        f"somebody held the job (condor_hold); {hold.quoted}",
        f"when it may go on: {_release(hold)}; the factory leaves it alone",
    )


def _policy(hold: _Hold) -> Cause:
    who = "the job's own policy (periodic_hold, on_exit_hold)"
    if hold.code in (26, 27):
        who = "a policy of the access point"
    return _by_text(hold) or Cause(
        "policy",
        f"{who} holds such jobs; {hold.quoted}",
        "do what the reason says, or ask whoever set the policy; then release the jobs",
    )


def _too_large(hold: _Hold) -> Cause:
    what = "input" if hold.code == 32 else "output"
    return Cause(
        "transfer_size",
        f"the job's {what} files are larger than this access point transfers; {hold.quoted}",
        "send less with the job: give large files to the manager, or by URL (osdf:///, "
        "python_env= as a URL)",
    )


def _plain(name: str, explanation: str, remedy: str) -> Callable[[_Hold], Cause]:
    """Return what explains a code by which all is said."""
    return lambda hold: Cause(name, f"{explanation}; {hold.quoted}", remedy)


_image = _plain(
    "container",
    "the container did not start",
    "try the image by hand ('apptainer test IMAGE'), check its name and that machines "
    "can fetch it",
)
_credential = _plain(
    "credential",
    "a credential of the job is invalid or missing",
    "renew it (condor_store_cred, or the site's login), then release the jobs",
)
_directory = _plain(
    "directory",
    "the directory or log of the job is gone or forbidden",
    "make it again, readable and writable by the submitting user; then release the jobs",
)
_user_files = _plain(
    "standard_files",
    "a standard file of the job could not be opened",
    "correct the paths of input, output and error, then release the jobs",
)


def _spooling(_: _Hold) -> Cause:
    return Cause(
        "spooling",
        "the job's input files are on their way to the schedd",
        "wait; a job that stays so has been abandoned by whoever submitted it: remove it",
    )


def _on_hold(hold: _Hold) -> Cause:
    return Cause(
        "submitted_on_hold",
        "the job was submitted on hold (hold = true)",
        f"{_release(hold)}; to have no more of them start the factory without that command "
        "(commands, batch_options, preset)",
    )


def _release(hold: _Hold) -> str:
    """Return the command that releases the job, and others that were submitted with it."""
    return f"condor_release{hold.tool_options} {hold.ad.get('ClusterId', 'JOB')}"


def _unknown(hold: _Hold) -> Cause:
    return Cause(
        "unknown",
        f"the job is held with code {hold.code}, subcode {hold.subcode}; {hold.quoted}",
        "look the code up in HTCondor's manual ('Hold Reason Codes'); release the jobs when "
        "it is settled, or remove them",
    )


_BY_CODE: dict[int, Callable[[_Hold], Cause | None]] = {
    1: _by_user,
    3: _policy,
    4: _credential,
    5: _policy,
    6: _start,
    **dict.fromkeys((7, 8, 9, 10), _user_files),
    11: _transfer,
    12: _output_files,
    13: _input_files,
    14: _directory,
    15: _on_hold,
    SPOOLING_INPUT: _spooling,
    18: _transfer,
    21: _machine_policy,
    22: _directory,
    26: _policy,
    27: _policy,
    32: _too_large,
    33: _too_large,
    34: _machine_policy,
    35: _image,
    45: _image,
    46: _wall_time,
    47: _wall_time,
}


_too_many_starts = _plain(
    "too_many_starts",
    "the job was started again and again",
    "see why it does not stay (its event log, 'condor_q -l'): evictions, or a worker "
    "that ends at once; then release or remove the jobs",
)
_blahp = _plain(
    "batch_system",
    "the schedd cannot find out what its batch system makes of the job",
    "see whether the batch system's commands work on the schedd's machine; HTCondor's "
    "before 24.0.12 need a Python before 3.12 for them. Then release the jobs",
)

# Sites write their own words into codes 3, 21 and 26, the gridmanager into code 0.
_WORDS: tuple[tuple[re.Pattern[str], Callable[[_Hold], Cause]], ...] = (
    # blahp's scripts for Slurm, PBS and SGE, seen with blah.py on Python 3.13.
    (re.compile(r"Error parsing classad or job not found"), _blahp),
    (re.compile(r"memory|out.of.memory|\bOOM\b|\bRSS\b", re.IGNORECASE), _memory),
    (re.compile(r"disk|scratch space", re.IGNORECASE), _disk),
    (re.compile(r"\bcpus?\b|\bcores?\b", re.IGNORECASE), _cpus),
    (re.compile(r"(NumJobStarts|too many|number of).*start|restarts", re.IGNORECASE),
     _too_many_starts),
    (re.compile(r"wall.?(clock.?)?time|duration|run.?time|time limit", re.IGNORECASE),
     _wall_time),
)  # fmt: skip


def _by_text(hold: _Hold) -> Cause | None:
    """Recognize a site's own words."""
    return next((explain(hold) for words, explain in _WORDS if words.search(hold.text)), None)
