"""Takes workers back that are too many and would not end by themselves."""

from __future__ import annotations

from vine_sharedport.factory.demand import within_limits
from vine_sharedport.factory.jobs.counts import WorkerCounter
from vine_sharedport.factory.jobs.queue import Queue
from vine_sharedport.factory.manager_view.monitor import ManagerView
from vine_sharedport.factory.options.schema import Options

__all__ = ["Surplus"]


class Surplus:
    """Removes jobs that wait above ``max_workers``, and workers with nothing but libraries.

    Args:
        queue: The jobs.
        counter: Counts them.
    """

    def __init__(self, queue: Queue, counter: WorkerCounter) -> None:
        self._queue = queue
        self._counter = counter
        # Since when each worker has had nothing to do but to keep a library.
        self._unused_since: dict[str, float] = {}

    def remove(self, view: ManagerView, needed: int, options: Options) -> None:
        """Remove what there is to remove now.

        Args:
            view: What the manager says.
            needed: Workers that its tasks could use at once.
            options: The factory's.
        """
        self._remove_waiting(options.max_workers)
        self._remove_unused(view, within_limits(needed, options), options.timeout)

    def _remove_waiting(self, most: int) -> None:
        """Take back jobs that wait for a machine and are above ``max_workers``."""
        if not self._queue.knows_host:
            return  # they may be at work already
        counts = self._counter.counts(doubt=True)
        surplus = min(counts.idle, counts.own + counts.others - most)
        if surplus > 0:
            idle = [job for job in self._queue.table if job.state == "idle"]
            self._queue.remove_waiting(idle[-surplus:], "above the factory's max_workers")

    def _remove_unused(self, view: ManagerView, wanted: int, timeout: int) -> None:
        """Remove workers that would have ended by themselves but for TaskVine's libraries."""
        told = view.answered or 0.0
        unused = [
            job
            for job in self._queue.table
            if job.worker and job.worker in view.libraries.unused
        ]
        since = {job.id: self._unused_since.get(job.id, told) for job in unused}
        self._unused_since = since
        due = [job for job in unused if told - since[job.id] > timeout]
        surplus = self._counter.counts().connected - wanted
        if due and surplus > 0:
            reason = f"only libraries, and no task, for {timeout} s"
            self._queue.remove(due[:surplus], reason)
