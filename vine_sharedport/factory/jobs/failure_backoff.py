"""When workers fail one after the other: fewer new ones, more slowly."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from vine_sharedport.factory.jobs.job import Job

__all__ = ["FailureBackoff", "has_failed"]

# In a row, before anything is done about it: one bad machine is no reason.
_PATIENCE = 3
_FIRST_PAUSE = 15.0
_LONGEST_PAUSE = 900.0


def has_failed(job: Job) -> bool:
    """Whether a job ended otherwise than a worker that was not needed any more.

    Such a one ends with status 0, and has been connected before.
    """
    return job.state == "ended" and (
        job.was_useless or job.exit_signal is not None or job.exit_status not in (0, None)
    )


class FailureBackoff:
    """Tells how many jobs may be submitted while others fail without having connected."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._in_a_row = 0
        self._until = 0.0

    @property
    def failures(self) -> int:
        """Jobs that failed, or are lost, and never were connected, since the last good sign."""
        return self._in_a_row

    def update(
        self,
        jobs: Iterable[Job],
        worked: set[str],
        now: float,
        lost: Collection[str] = (),
    ) -> None:
        """Take note of jobs that have ended.

        Args:
            jobs: The factory's.
            worked: Ids of the jobs that have been connected at any time.
            now: Present time, ``time.monotonic()``.
            lost: Ids of those that do not end though they should have.
        """
        for job in jobs:
            if job.connected and job.state == "running" and self._in_a_row:
                self._in_a_row, self._until = 0, 0.0
            is_lost = job.id in lost
            if (job.left and not is_lost) or job.id in self._seen:
                continue
            self._seen.add(job.id)
            if job.id in worked or not (is_lost or has_failed(job)):
                continue
            self._in_a_row += 1
            if self._in_a_row >= _PATIENCE:
                pause = _FIRST_PAUSE * 2 ** min(10, self._in_a_row - _PATIENCE)
                self._until = now + min(_LONGEST_PAUSE, pause)

    def forget(self, id: str) -> None:
        """Forget a job: another one may get its id."""
        self._seen.discard(id)

    def pause(self, now: float) -> float:
        """Return for how many seconds nothing should be submitted."""
        return max(0.0, self._until - now)

    def at_most(self, wanted: int) -> int:
        """Return how many to submit when there is no pause: one, to see whether it works."""
        return min(wanted, 1) if self._in_a_row >= _PATIENCE else wanted
