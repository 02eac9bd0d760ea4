"""Jobs of a factory that was killed, at a schedd that its options no longer name."""

from __future__ import annotations

import logging

from vine_sharedport.errors import SharedPortError
from vine_sharedport.factory.jobs.queue import Queue
from vine_sharedport.factory.report.record import Problem
from vine_sharedport.factory.submission.destination import Where
from vine_sharedport.factory.submission.location import Place

__all__ = ["place_elsewhere", "remove_elsewhere"]

log = logging.getLogger(__name__)


def place_elsewhere(kept: Place | None, where: Where) -> Place | None:
    """Return where such jobs may be; None if there can be none.

    Args:
        kept: What the factory's directory says of jobs that may be left.
        where: Where jobs are submitted now.
    """
    if kept is None or (kept.where.schedd, kept.where.pool) == (where.schedd, where.pool):
        return None
    return kept


def remove_elsewhere(directory: str, factory: str, place: Place, now: Place) -> Problem | None:
    """Remove such jobs, with one attempt; return what there is to tell if that fails.

    Args:
        directory: The factory's, absolute.
        factory: Its id.
        place: What ``place_elsewhere`` has returned.
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
            f"remove them by condor_rm{queue.tool_options} -constraint '{queue.mine}'",
        )
        log.warning("%s; %s", problem.explanation, problem.remedy)
        return problem
    log.warning("removed what a factory that was killed here had left at %s", name)
    return None
