"""Jobs that no machine of the pool is large enough for."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from vine_sharedport.condor import bindings
from vine_sharedport.condor.machines import query_too_large
from vine_sharedport.condor.submit_description import SubmitDescription
from vine_sharedport.errors import SharedPortError
from vine_sharedport.factory.jobs.description import Description
from vine_sharedport.factory.jobs.job import Job
from vine_sharedport.factory.report.record import Problem
from vine_sharedport.factory.report.runs import is_typed, typed

__all__ = ["MachineFit"]

log = logging.getLogger(__name__)

# Seconds for which a job must have waited: a pool with a free machine may take as long, and
# is not asked. And seconds between two questions: machines come and go.
_WAITED, _INTERVAL = 3.0, 60.0


class MachineFit:
    """Asks the pool for its largest machine while jobs wait.

    Attributes:
        problem: That none is large enough; None if one is, or nobody knows.
    """

    def __init__(self) -> None:
        self.problem: Problem | None = None
        self._asked = float("-inf")
        self._recipe: SubmitDescription | None = None
        self._said = ""

    def update(self, jobs: Iterable[Job], description: Description) -> None:
        """Look at the jobs.

        Args:
            jobs: The factory's.
            description: What it submits now.
        """
        waiting = [job for job in jobs if job.state == "idle"]
        if not waiting or description.where.grid is not None:
            self.problem = None
            return
        now = time.monotonic()
        recent = now - self._asked < _INTERVAL and self._recipe == description.recipe
        if recent or time.time() - waiting[0].since < _WAITED:
            return
        self._asked, self._recipe = now, description.recipe
        self.problem = self._find(description, tuple(job.id for job in waiting))
        said = "" if self.problem is None else self.problem.explanation
        if said and said != self._said:
            log.warning("%s; %s", said, self.problem and self.problem.remedy)
        self._said = said

    @staticmethod
    def _find(description: Description, jobs: tuple[str, ...]) -> Problem | None:
        try:
            found = query_too_large(
                bindings.load(), description.job.commands, description.where.pool
            )
        except SharedPortError:
            return None
        if found is None:
            return None
        option = f"--{found.option}"
        remedy = f"ask for less: {found.option}={found.most}"
        if is_typed():
            again = typed(option, str(found.most), without=(option,))
            remedy = f"end this factory, and ask for less: {again}"
        return Problem("too_large", found.explanation, remedy, jobs)
