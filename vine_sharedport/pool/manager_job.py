"""A manager's program as an HTCondor job on the access point itself.

For access points where long processes of users do not belong on the login node: the
schedd starts the program there (``universe = local``), keeps its output and its log, and
starts it again after a restart of its own. ``docs/manager-job.md`` tells its user more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from vine_sharedport.errors import LaunchError
from vine_sharedport.pool import _htcondor
from vine_sharedport.pool.manager_description import (
    GRACE,
    checked_name,
    class_ad_string,
    describe_manager,
    log_directory,
    name_of,
)

__all__ = [
    "ManagerJob",
    "describe_manager",
    "find_manager",
    "follow_output",
    "list_managers",
    "remove_manager",
    "submit_manager",
]

log = logging.getLogger(__name__)

# JobStatus in HTCondor's manual, appendix "Job ClassAd Attributes".
_STATES = {1: "idle", 2: "running", 3: "removing", 4: "ended", 5: "held", 6: "running"}

# What is read of each job.
_ATTRIBUTES = [
    "ClusterId", "VineSharedPortManager", "VineSharedPortProgram", "VineSharedPortGrace",
    "JobStatus", "EnteredCurrentStatus", "QDate", "NumJobStarts", "HoldReason",
    "RemoveReason", "ExitBySignal", "ExitCode", "ExitSignal", "CompletionDate",
    "Iwd", "Out", "Err", "UserLog",
]  # fmt: skip

_ANY = "VineSharedPortManager isnt UNDEFINED"

# How far back ended jobs are looked for: reading a long history is work for the schedd.
_HISTORY_DAYS = 7

_POLL_INTERVAL = 0.2
_LAST_LINES = 10


@dataclass(frozen=True)
class ManagerJob:
    """One manager's job, as the schedd tells of it.

    Attributes:
        name: What its user calls it.
        id: HTCondor's number of it; ``condor_q ID`` shows it.
        state: ``idle``, ``running``, ``held``, ``removing`` (told to end, not yet gone),
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
        return {**asdict(self), "last_lines": lines}

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
                f"next:    mend that and start it again by 'condor_release {self.id}', or "
                f"give it up by 'vine_sharedport manager remove {self.name}'"
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


def submit_manager(
    program: str,
    arguments: Sequence[str] = (),
    *,
    name: str | None = None,
    log_dir: str | None = None,
    module: bool = False,
    shared_port: Sequence[str] | None = None,
    env: Sequence[str] = (),
    grace: float = GRACE,
    once: bool = False,
    memory: int | None = None,
) -> ManagerJob:
    """Submit a Python program as a job that runs on this access point.

    It runs in the present directory, by the present Python, with a short list of the
    present environment. What stands in a job's environment is public.

    Args:
        program: Its file, or its name with ``module``.
        arguments: The program's.
        name: What to call it; by default as the program, with a number if needed.
        log_dir: For its output, errors and log; ``vine-managers`` in the present
            directory by default.
        module: Run it as ``python3 -m`` would.
        shared_port: Run it by ``vine_sharedport run`` with these options, so that its
            managers have a shared port without any change to it.
        env: Further variables, as ``NAME`` or ``NAME=VALUE``. Public like the others.
        grace: Seconds from SIGTERM to SIGKILL when it is removed.
        once: Do not start it a second time after a restart of HTCondor; hold it.
        memory: MB to ask for, where the administrator limits such jobs.

    Returns:
        The job, which is not running yet.

    Raises:
        LaunchError: The program is not there, the name is in use, or the schedd takes no
            such jobs.
        DiscoveryError: HTCondor is not configured here.
    """
    htcondor2 = _htcondor.load()
    taken = {job.name for job in _query(htcondor2, f"{_ANY} && {_mine()}")}
    if name is None:
        name = _free_name(name_of(program), taken)
    elif name in taken:
        raise LaunchError(
            f"a manager named {name} is in the queue already; see 'vine_sharedport manager "
            f"status {name}', remove it, or choose another --name"
        )
    description = describe_manager(
        program,
        arguments,
        name=name,
        log_dir=log_dir,
        module=module,
        shared_port=shared_port,
        env=env,
        grace=grace,
        once=once,
        memory=memory,
    )
    _check_local_universe(htcondor2)
    directory = log_directory(log_dir)
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise LaunchError(
            f"cannot make the directory {directory}: {error.strerror}; give another --log-dir"
        ) from error
    with _schedd_errors(htcondor2, "submit the manager"):
        result = htcondor2.Schedd().submit(htcondor2.Submit(description))
        cluster = int(result.cluster())
    log.info("submitted the manager %s cluster=%d logs=%s", name, cluster, directory)
    return find_manager(str(cluster))


def list_managers(*, ended: bool = True) -> list[ManagerJob]:
    """Return the managers' jobs of this user, the oldest first.

    Args:
        ended: Also the last hundred of those that have ended, of the last days.

    Raises:
        LaunchError: The schedd does not answer.
    """
    htcondor2 = _htcondor.load()
    wanted = f"{_ANY} && {_mine()}"
    found = _query(htcondor2, wanted)
    if ended:
        found += _history(htcondor2, wanted, 100)
    # A job may be in both for a moment.
    return sorted({job.id: job for job in reversed(found)}.values(), key=lambda job: job.id)


def find_manager(name: str) -> ManagerJob:
    """Return the last job with this name, or the one with this number.

    Raises:
        LaunchError: There is none, or the schedd does not answer.
    """
    htcondor2 = _htcondor.load()
    number = name.split(".")[0]
    if number.isdecimal():
        wanted = f"ClusterId == {number} && {_ANY}"
    else:
        checked_name(name)
        wanted = f'VineSharedPortManager is "{name}" && {_mine()}'
    found = _query(htcondor2, wanted) or _history(htcondor2, wanted, 1)
    if not found:
        raise LaunchError(
            f"no manager {name} is in the queue, nor among those of the last "
            f"{_HISTORY_DAYS} days; 'vine_sharedport manager status' lists them"
        )
    return max(found, key=lambda job: job.id)


def remove_manager(name: str, *, wait: bool = False) -> ManagerJob:
    """Have a manager's job end: SIGTERM, and SIGKILL when its grace is over.

    Args:
        name: The job's name or number.
        wait: Wait until it is gone.

    Returns:
        The job, as it is afterwards.

    Raises:
        LaunchError: There is none, or it does not go.
    """
    job = find_manager(name)
    if job.done:
        return job
    htcondor2 = _htcondor.load()
    one = f"ClusterId == {job.id}"
    with _schedd_errors(htcondor2, "remove the manager"):
        schedd = htcondor2.Schedd()
        _act(schedd, htcondor2.JobAction.Remove, one)
        deadline = time.monotonic() + job.grace + 30.0
        forced = False
        while wait and schedd.query(constraint=one, projection=["ClusterId"]):
            if time.monotonic() > deadline:
                if forced:
                    raise LaunchError(
                        f"the manager {job.name} does not go, even by force; look with "
                        f"'condor_q {job.id}', and ask the administrator"
                    )
                # Ends the starter too, and with it every process of the job.
                _act(schedd, htcondor2.JobAction.RemoveX, one)
                forced, deadline = True, time.monotonic() + 30.0
            time.sleep(_POLL_INTERVAL)
        gone = not schedd.query(constraint=one, projection=["ClusterId"])
    with contextlib.suppress(LaunchError):  # a schedd that keeps no history
        return find_manager(str(job.id))
    return replace(job, state="removed" if gone else "removing", since=time.time())


def follow_output(job: ManagerJob, *, follow: bool = False) -> Iterator[tuple[str, bytes]]:
    """Yield what the job has printed, as pairs of ``out`` or ``err`` and bytes.

    Args:
        job: The job.
        follow: Go on until it has ended, or is held.

    Raises:
        LaunchError: The schedd does not answer.
    """
    files = {"out": job.output, "err": job.error}
    read = dict.fromkeys(files, 0)
    next_question = 0.0
    while True:
        done = not follow or job.done or job.state == "held"
        for what, path in files.items():
            while True:
                data, read[what] = _read_from(path, read[what])
                if not data:
                    break
                yield what, data
        if done:
            return
        time.sleep(_POLL_INTERVAL)
        if time.monotonic() >= next_question:
            job = find_manager(str(job.id))
            next_question = time.monotonic() + 2.0


def _act(schedd: Any, action: Any, constraint: str) -> None:
    """Act on jobs, with a reason that ``condor_q`` and the event log show."""
    reason = "by vine_sharedport manager remove"
    try:
        # The bindings of 25.14 drop a reason that is not a pair, without a word.
        schedd.act(action, constraint, reason=(reason, 0))
    except TypeError:  # those of 23.9 want a string
        schedd.act(action, constraint, reason=reason)


def _read_from(path: str, offset: int) -> tuple[bytes, int]:
    """Return what a file has from there on, and where that ends."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < offset:
                offset = 0  # emptied: the job was started again
            file.seek(offset)
            data = file.read(1 << 16)
    except OSError:  # not there before the first start
        return b"", offset
    return data, offset + len(data)


def _check_local_universe(htcondor2: Any) -> None:
    """Refuse to submit what the schedd would never start; warn of what waits."""
    ad = _schedd_ad(htcondor2)
    if ad is None or _may_start(ad) is not False:
        return
    rule = str(ad.lookup("StartLocalUniverse")).strip()
    if rule.lower() in ("false", "0"):
        raise LaunchError(
            f"the schedd {ad.get('Name')} starts no jobs of the local universe "
            f"(START_LOCAL_UNIVERSE = {rule}); ask its administrator to allow them, or how "
            "long programs are to be run here"
        )
    log.warning(
        "the schedd starts no job of the local universe at present (START_LOCAL_UNIVERSE = "
        "%s); the manager waits",
        rule,
    )


def _schedd_ad(htcondor2: Any) -> Any:
    """Return what the local schedd tells of itself, None if the collector does not know."""
    with contextlib.suppress(*_htcondor.failures(htcondor2)):
        collector = htcondor2.Collector()
        name = str(collector.locate(htcondor2.DaemonType.Schedd)["Name"])
        ads = collector.query(
            htcondor2.AdType.Schedd,
            constraint=f"Name is {class_ad_string(name, macros=False)}",
            projection=["Name", "StartLocalUniverse", "TotalLocalJobsRunning"],
        )
        return ads[0] if ads else None
    return None


def _may_start(ad: Any) -> bool | None:
    """Whether the schedd would start a job of the local universe, None if it cannot be told."""
    if "StartLocalUniverse" not in ad:
        return None
    value = ad.eval("StartLocalUniverse")
    # An expression over the job, such as its Owner, is undefined here: an enum's member.
    return bool(value) if type(value) in (bool, int) else None


def _query(htcondor2: Any, wanted: str) -> list[ManagerJob]:
    """Return the jobs in the queue."""
    with _schedd_errors(htcondor2, "ask for the managers"):
        ads = htcondor2.Schedd().query(constraint=wanted, projection=_ATTRIBUTES)
    jobs = [_job_of(ad, in_queue=True) for ad in ads]
    if any(job.state == "idle" for job in jobs):
        reason = _why_idle(_schedd_ad(htcondor2))
        jobs = [replace(job, reason=reason) if job.state == "idle" else job for job in jobs]
    return jobs


def _why_idle(ad: Any) -> str | None:
    """Return what keeps jobs of the local universe from starting, as far as it is known."""
    if ad is None or _may_start(ad) is not False:
        return None
    rule = str(ad.lookup("StartLocalUniverse")).strip()
    return (
        f"the schedd starts no such job at present (START_LOCAL_UNIVERSE = {rule}; "
        f"{ad.get('TotalLocalJobsRunning', 0)} run)"
    )


def _history(htcondor2: Any, wanted: str, count: int) -> list[ManagerJob]:
    """Return the last jobs that have left the queue."""
    import classad2

    oldest = int(time.time()) - _HISTORY_DAYS * 86400
    # The bindings of 23.9 take a string for a job's number.
    since = classad2.ExprTree(f"EnteredCurrentStatus < {oldest}")
    with _schedd_errors(htcondor2, "read the schedd's history"):
        ads = list(htcondor2.Schedd().history(wanted, _ATTRIBUTES, count, since=since))
    return [_job_of(ad, in_queue=False) for ad in ads]


def _job_of(ad: Any, *, in_queue: bool) -> ManagerJob:
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
        program=str(ad.get("VineSharedPortProgram", "")),
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


def _mine() -> str:
    """Return the constraint for this user's jobs: a history has everybody's."""
    import pwd

    owner = pwd.getpwuid(os.geteuid()).pw_name
    return f"Owner is {class_ad_string(owner, macros=False)}"


def _free_name(name: str, taken: set[str]) -> str:
    """Return the name, with a number if it is in use."""
    number, found = 2, name
    while found in taken:
        number, found = number + 1, f"{name}-{number}"
    return found


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


@contextlib.contextmanager
def _schedd_errors(htcondor2: Any, what: str) -> Iterator[None]:
    try:
        yield
    except LaunchError:
        raise
    except _htcondor.failures(htcondor2) as error:
        raise LaunchError(
            f"cannot {what}: {error}; is the schedd running ('condor_q')?"
        ) from error
