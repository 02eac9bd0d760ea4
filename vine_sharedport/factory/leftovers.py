"""Jobs that a killed factory has left, for another manager or at another schedd than now.

A manager's name leads to another address when its program is started again. What was
submitted for the previous one finds nobody, and would count as workers of the new one. But
a manager that lives keeps its workers: in another directory, a name may mean another one.
"""

from __future__ import annotations

import logging
import os
import shlex

from vine_sharedport.dialing import dial
from vine_sharedport.dialing.race import verdict_of
from vine_sharedport.errors import SharedPortError, Verdict
from vine_sharedport.factory.jobs.queue import Queue
from vine_sharedport.factory.options.stored import read_config
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.record import Problem
from vine_sharedport.factory.submission.destination import Destination
from vine_sharedport.factory.submission.location import JobLocation
from vine_sharedport.wire.sinful import Sinful

__all__ = ["leftovers_location", "remove_at_other_schedd", "remove_for_other_manager"]

log = logging.getLogger(__name__)

# Seconds for the previous manager to answer, if it is there.
_TIMEOUT = 5.0


def remove_for_other_manager(directory: str) -> None:
    """Remove jobs for another manager, left in a factory's directory, with one attempt."""
    try:
        kept = JobLocation.read(directory)
        if kept is None:
            return
        options = read_config(os.path.join(directory, paths.CONFIG))
        if options.address is None or options.reference.sock_id == kept.manager:
            return
        queue = Queue(directory, factory=paths.factory_id(directory), place=kept)
        if sum(queue.count_left()) == 0:
            return
        if not _has_gone(options.reference.address.with_sock(kept.manager)):
            log.warning(
                "jobs were left here for another manager, %s, which may still need them; give "
                "this factory a directory of its own (directory, --directory)", kept.manager,
            )  # fmt: skip
            return
        queue.remove_all("their factory serves another manager now")
        log.warning("removed what was left here for another manager, %s", kept.manager)
    except SharedPortError as error:
        log.warning("there may be jobs left for another manager: %s", error)


def _has_gone(address: Sinful) -> bool:
    """Whether the shared port is there and has nobody of that name."""
    try:
        dial.connect(address, timeout=_TIMEOUT, check=True).close()
    except SharedPortError as error:
        return verdict_of(error) is Verdict.NOBODY_THERE
    return False


def leftovers_location(kept: JobLocation | None, where: Destination) -> JobLocation | None:
    """Return where jobs of a factory that was killed may be, at another schedd than now.

    Args:
        kept: What the factory's directory says of jobs that may be left.
        where: Where jobs are submitted now.
    """
    if kept is None or (kept.where.schedd, kept.where.pool) == (where.schedd, where.pool):
        return None
    return kept


def remove_at_other_schedd(
    directory: str, factory: str, place: JobLocation, now: JobLocation
) -> Problem | None:
    """Remove such jobs, with one attempt; return the problem if that fails.

    Args:
        directory: The factory's, absolute.
        factory: Its id.
        place: What ``leftovers_location`` has returned.
        now: The place that the options name.
    """
    where = place.where
    name = f"schedd {where.schedd}" if where.schedd else "this machine's schedd"
    queue = Queue(directory, factory=factory, place=place)
    try:
        left = queue.names()
        # It may be the same schedd, in other words.
        if not left or left == Queue(directory, factory=factory, place=now).names():
            return None
        queue.remove_all("their factory submits to another schedd now")
    except SharedPortError as error:
        problem = Problem(
            "schedd",
            f"a factory that was killed here may have jobs at {name}: {error}",
            f"remove them by condor_rm{queue.tool_options} -constraint "
            f"{shlex.quote(queue.mine)}",
        )
        log.warning("%s; %s", problem.explanation, problem.remedy)
        return problem
    log.warning("removed what a factory that was killed here had left at %s", name)
    return None
