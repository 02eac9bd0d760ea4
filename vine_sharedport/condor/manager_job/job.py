"""A manager's program as an HTCondor job on the access point itself.

For access points where long processes of users do not belong on the login node: the
schedd starts the program there (``universe = local``), keeps its output and its log, and
starts it again after a restart of its own. ``docs/manager-job.md`` tells its user more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vine_sharedport.condor import bindings
from vine_sharedport.condor.manager_job.description import (
    ManagerProgram,
    check_program,
    checked_name,
    describe_manager,
    name_of,
)
from vine_sharedport.condor.manager_job.status import ATTRIBUTES, ManagerJob, read_job
from vine_sharedport.condor.personal_pool.user import owner
from vine_sharedport.condor.schedd import Schedd, class_ad_string
from vine_sharedport.errors import NoStatusError, ScheddError, SettingError

__all__ = [
    "find_manager",
    "follow_output",
    "list_managers",
    "stop_manager",
    "submit_manager",
]

log = logging.getLogger(__name__)

_ANY = "VineSharedPortManager isnt UNDEFINED"

# How far back ended jobs are looked for: reading a long history is work for the schedd.
_HISTORY_DAYS = 7

_POLL_INTERVAL = 0.2


def submit_manager(manager: ManagerProgram) -> ManagerJob:
    """Submit a Python program as a job that runs on this access point.

    Returns:
        The job, which is not running yet.

    Raises:
        ScheddError: The program is not there, the name is in use, or the schedd takes no
            such jobs.
        DiscoveryError: HTCondor is not configured here.
    """
    check_program(manager)  # the user's own mistake comes before HTCondor's
    taken = {job.name for job in _query(f"{_ANY} && {_mine()}")}
    name = manager.name or _free_name(name_of(manager.program), taken)
    if name in taken:
        raise SettingError(
            f"a manager named {name} is in the queue already; see 'vine_sharedport manager "
            f"status {name}', stop it, or choose another --name"
        )
    description = describe_manager(replace(manager, name=name))
    _check_local_universe()
    try:
        os.makedirs(manager.log_dir, exist_ok=True)
    except OSError as error:
        raise SettingError(
            f"cannot make the directory {manager.log_dir}: {error.strerror}; give another "
            "--log-dir"
        ) from error
    cluster = Schedd().submit(description)
    log.debug("the manager %s is cluster=%d logs=%s", name, cluster, manager.log_dir)
    return find_manager(str(cluster))


def list_managers(*, ended: bool = True) -> list[ManagerJob]:
    """Return the managers' jobs of this user, the oldest first.

    Args:
        ended: Also the last hundred of those that have ended, of the last days.

    Raises:
        ScheddError: The schedd does not answer.
    """
    wanted = f"{_ANY} && {_mine()}"
    found = _query(wanted)
    if ended:
        found += _history(wanted, 100)
    # A job may be in both for a moment.
    return sorted({job.id: job for job in reversed(found)}.values(), key=lambda job: job.id)


def find_manager(name: str) -> ManagerJob:
    """Return the last job with this name, or the one with this number.

    Raises:
        NoStatusError: There is none.
        ScheddError: The schedd does not answer.
    """
    number = name.split(".")[0]
    if number.isascii() and number.isdecimal():
        wanted = f"ClusterId == {number} && {_ANY} && {_mine()}"
    else:
        checked_name(name)
        wanted = f'VineSharedPortManager is "{name}" && {_mine()}'
    found = _query(wanted) or _history(wanted, 1)
    if not found:
        raise NoStatusError(
            f"no manager {name} is in the queue, nor among those of the last "
            f"{_HISTORY_DAYS} days; 'vine_sharedport manager list' lists them"
        )
    return max(found, key=lambda job: job.id)


def stop_manager(name: str, *, timeout: float | None = None) -> ManagerJob:
    """Have a manager's job end: SIGTERM, and SIGKILL when its grace is over.

    Args:
        name: The job's name or number.
        timeout: Seconds after which to wait no longer for its end; None: wait for it.

    Returns:
        The job, as it is afterwards.

    Raises:
        NoStatusError: There is none.
        ScheddError: It does not go.
    """
    job = find_manager(name)
    if job.done:
        return job
    one, reason = f"ClusterId == {job.id} && {_mine()}", "by vine_sharedport manager stop"
    schedd = Schedd()
    schedd.act("remove", one, reason)
    told = time.monotonic()
    deadline = told + job.grace + 30.0
    forced = False
    while left := schedd.query(one, ["ClusterId"]):
        if timeout is not None and time.monotonic() - told >= timeout:
            break
        if time.monotonic() > deadline:
            if forced:
                raise ScheddError(
                    f"the manager {job.name} does not go, even by force; look with "
                    f"'condor_q {job.id}', and ask the administrator"
                )
            # Ends the starter too, and with it every process of the job.
            schedd.act("remove_by_force", one, reason)
            forced, deadline = True, time.monotonic() + 30.0
        time.sleep(_POLL_INTERVAL)
    with contextlib.suppress(NoStatusError, ScheddError):  # a schedd that keeps no history
        return find_manager(str(job.id))
    return replace(job, state="removing" if left else "removed", since=time.time())


def follow_output(job: ManagerJob, *, follow: bool = False) -> Iterator[tuple[str, bytes]]:
    """Yield what the job has printed, as pairs of ``out`` or ``err`` and bytes.

    Args:
        job: The job.
        follow: Go on until it has ended, or is held.

    Raises:
        ScheddError: The schedd does not answer.
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


def _check_local_universe() -> None:
    """Refuse to submit what the schedd would never start; warn of what waits."""
    ad = _schedd_ad()
    if ad is None or _may_start(ad) is not False:
        return
    rule = str(ad.lookup("StartLocalUniverse")).strip()
    if rule.lower() in ("false", "0"):
        raise ScheddError(
            f"the schedd {ad.get('Name')} starts no jobs of the local universe "
            f"(START_LOCAL_UNIVERSE = {rule}); ask its administrator to allow them, or how "
            "long programs are to be run here"
        )
    log.warning(
        "the schedd starts no job of the local universe at present (START_LOCAL_UNIVERSE = "
        "%s); the manager waits",
        rule,
    )


def _schedd_ad() -> Any:
    """Return what the local schedd tells of itself, None if the collector does not know."""
    htcondor2 = bindings.load()
    with contextlib.suppress(*bindings.failures(htcondor2)):
        collector = htcondor2.Collector()
        name = str(collector.locate(htcondor2.DaemonType.Schedd)["Name"])
        ads = collector.query(
            htcondor2.AdType.Schedd,
            constraint=f"Name is {class_ad_string(name)}",
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


def _query(wanted: str) -> list[ManagerJob]:
    """Return the jobs in the queue."""
    jobs = [read_job(ad, in_queue=True) for ad in Schedd().query(wanted, ATTRIBUTES)]
    if any(job.state == "idle" for job in jobs):
        reason = _why_idle(_schedd_ad())
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


def _history(wanted: str, count: int) -> list[ManagerJob]:
    """Return the last jobs that have left the queue."""
    since = time.time() - _HISTORY_DAYS * 86400
    ads = Schedd().history(wanted, ATTRIBUTES, count=count, since=since)
    return [read_job(ad, in_queue=False) for ad in ads]


def _mine() -> str:
    """Return the constraint for this user's jobs: a history has everybody's."""
    return f"Owner is {class_ad_string(owner())}"


def _free_name(name: str, taken: set[str]) -> str:
    """Return the name, with a number if it is in use."""
    number, found = 2, name
    while found in taken:
        number, found = number + 1, f"{name}-{number}"
    return found
