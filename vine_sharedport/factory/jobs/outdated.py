"""Jobs that still wait with what options asked for that have changed since."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from vine_sharedport.condor.submit_description import SubmitDescription
from vine_sharedport.factory.jobs.description import Description
from vine_sharedport.factory.jobs.job import Job
from vine_sharedport.factory.options.schema import Options

__all__ = ["OutdatedJobs"]

# A pool looks for machines once in a minute (NEGOTIATOR_INTERVAL): jobs of a program that
# changes its options again and again must live long enough to be seen.
_INTERVAL = 60.0


class OutdatedJobs:
    """Remembers what each cluster was submitted with, and tells which jobs to replace.

    Of jobs that an earlier process has submitted nothing is known: they stay.
    """

    def __init__(self) -> None:
        self._submitted: dict[int, tuple[Options, SubmitDescription]] = {}  # by cluster
        self._wanted: SubmitDescription | None = None
        self._since = 0.0
        self._replaced = float("-inf")

    def note(
        self, cluster: int, options: Options, description: Description, jobs: Iterable[Job]
    ) -> None:
        """Remember a cluster; of the earlier ones those that have a job left.

        Args:
            cluster: Its number.
            options: It was described by these.
            description: What was submitted.
            jobs: All jobs of the factory.
        """
        left = {job.cluster for job in jobs if job.left}
        self._submitted = {n: made for n, made in self._submitted.items() if n in left}
        self._submitted[cluster] = (options, description.recipe)

    def find(
        self, jobs: Iterable[Job], options: Options, describe: Callable[[], Description]
    ) -> list[Job]:
        """Return the jobs that wait or are held, and would be submitted otherwise now.

        Args:
            jobs: All jobs of the factory.
            options: Those that hold.
            describe: Returns what would be submitted; called when that may be something else.

        Raises:
            SharedPortError: It cannot be described.
        """
        # By the options first: what changes beside them, as on PATH, replaces no job.
        changed = {n for n, (by, _) in self._submitted.items() if by != options}
        found = [j for j in jobs if j.state in ("idle", "held") and j.cluster in changed]
        if not found:
            return []
        wanted = describe().recipe
        if wanted != self._wanted:
            self._wanted, self._since = wanted, time.monotonic()
        return [job for job in found if self._submitted[job.cluster][1] != wanted]

    def is_due(self, cycle: float) -> bool:
        """Whether to replace them now.

        Not before what is wanted has stayed for a cycle, for a program sets one option after
        the other; and not again before the last new jobs have had their chance.

        Args:
            cycle: The option, in seconds.
        """
        now = time.monotonic()
        return now - self._since >= cycle and now - self._replaced >= _INTERVAL

    def note_replaced(self) -> None:
        """Remember that the schedd has removed the old ones."""
        self._replaced = time.monotonic()
