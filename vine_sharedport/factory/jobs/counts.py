"""How many workers there are: this factory's, other factories', and others."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable

from vine_sharedport.factory.jobs.job import Job
from vine_sharedport.factory.jobs.queue import Queue
from vine_sharedport.factory.jobs.worker_match import worker_address
from vine_sharedport.factory.manager_view.monitor import ManagerView
from vine_sharedport.factory.manager_view.routes import TCP, routes
from vine_sharedport.factory.manager_view.silence import Silence, SilenceWatch
from vine_sharedport.factory.report.record import Problem

__all__ = ["Counts", "WorkerCounter"]

# Seconds for which a worker may go on after it should have given up to reach the manager:
# pauses between attempts, the end of its tasks.
_LEAST_GRACE, _MOST_GRACE = 10.0, 60.0


@dataclass(frozen=True)
class Counts:
    """How many workers there are, of this factory and of others.

    Attributes:
        idle: Jobs of this factory that wait for a machine.
        running: Those that run, connected or not yet.
        connected: Those of them that the manager knows.
        held: Those that HTCondor has stopped.
        other_idle: Other factories' jobs for the same manager that wait, or are held.
        other_running: Those that run.
        unmatched: Workers that are connected to the manager and are no job's here.
        useless: Jobs of this factory that have a machine and do not count as workers:
            suspended ones, and those that the manager has not known for long.
    """

    idle: int = 0
    running: int = 0
    connected: int = 0
    held: int = 0
    other_idle: int = 0
    other_running: int = 0
    unmatched: int = 0
    useless: int = 0

    @property
    def own(self) -> int:
        """This factory's workers, on whatever stage of their way, without useless ones."""
        return self.idle + self.running + self.held

    @property
    def others(self) -> int:
        """Workers that are not this factory's, each once."""
        return self.other_idle + self.other_running + self.unmatched

    @property
    def on_their_way(self) -> int:
        """This factory's workers that the manager does not know yet."""
        return max(0, self.own - self.connected)


class WorkerCounter:
    """Counts each worker once, as a job, as a worker of the manager, or as both.

    Args:
        queue: The factory's jobs.
        patience: Returns the seconds after which a worker gives up to connect; without it
            none is ever taken for lost.

    Attributes:
        routes: By which way each of the manager's workers came, by its address.
        silences: Which of them do not answer.
        lost: Jobs that run, and of which the manager has known nothing for so long that
            their workers should have ended.
    """

    def __init__(self, queue: Queue, patience: Callable[[], int] | None = None) -> None:
        self._queue = queue
        self._patience = patience
        self.lost: tuple[Job, ...] = ()
        self._unmatched = 0  # workers by the shared port that are no job's
        self._silence = SilenceWatch()
        self.routes: dict[str, str] = {}
        self.silences: dict[str, Silence] = {}

    @property
    def is_in_doubt(self) -> bool:
        """Whether a worker may be one of another factory's jobs that seem to wait."""
        return self._unmatched > 0 and self._queue.others.counts()["idle"] > 0

    def join(self, view: ManagerView, now: float) -> None:
        """Find out which job is which of the manager's workers."""
        addresses = [worker_address(worker) for worker in view.workers]
        port = (view.status or {}).get("port")
        self.routes = routes(addresses, port) if isinstance(port, int) else {}
        self.silences = self._silence.look(self.routes)
        # Ours come by the shared port: their launcher knows no other way.
        candidates = [
            worker
            for worker, address in zip(view.workers, addresses)
            if self.routes.get(address) != TCP
        ]
        moment = time.time()
        age = now if view.answered is None else now - view.answered
        unmatched = self._queue.join(candidates, now=moment, told=moment - age)
        # Of those that it had told, some were of jobs that have ended since.
        gone = view.gone_since is not None
        self._unmatched = min(unmatched, self._unmatched) if gone else unmatched
        self.lost = self._find_lost(moment - age)

    def _find_lost(self, told: float) -> tuple[Job, ...]:
        """Return the lost jobs, by what the manager told then and not by its silence since."""
        if self._patience is None:
            return ()
        patience = self._patience()
        before = told - patience - min(max(_LEAST_GRACE, patience), _MOST_GRACE)
        return tuple(
            job
            for job in self._queue.table
            if job.state == "running"
            and job.not_connected_since is not None
            and job.not_connected_since < before
        )

    def problems(self) -> list[Problem]:
        """Return what is wrong with jobs that have a machine and do not count as workers."""
        found = []
        table = self._queue.table
        suspended = tuple(job.id for job in table if job.state == "suspended")
        if suspended:
            found.append(
                Problem(
                    "suspended",
                    f"{len(suspended)} workers are suspended: they keep their tasks and do "
                    "nothing; they do not count, and others come in their place",
                    "nothing, where the machine's owner wants it for a while; condor_continue "
                    "for jobs that somebody has suspended by condor_suspend; or condor_rm them",
                    suspended,
                )
            )
        if self.lost:
            found.append(
                Problem(
                    "lost",
                    f"{len(self.lost)} jobs run, and the manager has known no worker of theirs "
                    "for so long that they should have ended; they do not count, and others "
                    "come in their place",
                    "see what they do, by condor_ssh_to_job; then condor_rm them. A wrapper "
                    "that does not end with its worker is one cause",
                    tuple(job.id for job in self.lost),
                )
            )
        return found

    def counts(self, *, doubt: bool = False) -> Counts:
        """Return what there is, as ``plan`` wants it.

        Args:
            doubt: Workers that seem to be others' may belong to jobs that seem to wait.
        """
        found, others = self._queue.table.counts(), self._queue.others.counts()
        unmatched = self._unmatched
        if doubt or not self._queue.knows_host:
            # The schedd hears late that a job runs elsewhere: its worker may be connected
            # while the job seems to wait, and must not count as another's.
            unmatched -= min(unmatched, found["idle"])
        lost = len(self.lost)
        return Counts(
            idle=found["idle"],
            running=found["running"] - lost,
            connected=found["connected"],
            held=found["held"],
            other_idle=others["idle"] + others["held"],
            other_running=others["running"],
            unmatched=unmatched + sum(way == TCP for way in self.routes.values()),
            useless=found["suspended"] + lost,
        )
