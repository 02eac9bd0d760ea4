"""Jobs of a factory that was killed, at a schedd that its options no longer name."""

from __future__ import annotations

import contextlib
import logging

from vine_sharedport.errors import LaunchError, SharedPortError
from vine_sharedport.factory import files
from vine_sharedport.factory.place import Place
from vine_sharedport.factory.queue import Queue
from vine_sharedport.factory.report import Problem
from vine_sharedport.factory.where import Where

__all__ = ["place_elsewhere", "remove_elsewhere"]

log = logging.getLogger(__name__)


def place_elsewhere(directory: str, kept: Place | None, where: Where) -> Place | None:
    """Return where such jobs may be; None if there can be none.

    Args:
        directory: The factory's.
        kept: What its directory says of the jobs that were submitted last.
        where: Where jobs are submitted now.
    """
    if kept is None or (kept.where.schedd, kept.where.pool) == (where.schedd, where.pool):
        return None
    with contextlib.suppress(LaunchError):
        if files.read_status(directory).state == "ended":
            return None
    return kept


def remove_elsewhere(directory: str, factory: str, place: Place) -> Problem | None:
    """Remove such jobs, with one attempt; return what there is to tell if that fails.

    Args:
        directory: The factory's, absolute.
        factory: Its id.
        place: What ``place_elsewhere`` has returned.
    """
    where = place.where
    name = f"schedd {where.schedd}" if where.schedd else "this machine's schedd"
    queue = Queue(directory, factory=factory, place=place)
    try:
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
