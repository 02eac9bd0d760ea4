"""What a factory does, waits for, or has ended by, and where it tells what happens."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from vine_sharedport.events import Journal, Slug

__all__ = ["Activity", "Phase", "journal"]

journal = Journal(logging.getLogger("vine_sharedport.factory"))
"""The factory's, one for each process."""


class Phase(Slug):
    """What a factory does or waits for; the last ones are why it ends, or has ended."""

    STARTING = "starting", "it is starting"
    NO_OPTIONS = "no-options", "the options are not known: nothing is submitted"
    WAITING_FOR_MANAGER = "waiting-for-manager", "waiting for a manager to be started"
    WAITING_FOR_ANSWER = "waiting-for-answer", "waiting for the manager's first answer"
    MANAGER_GONE = "manager-gone", "nobody answers for the manager: nothing is submitted"
    BUSY_MANAGER = "busy-manager", "the manager does not answer: nothing is submitted"
    SETTLING = "settling", "waiting a moment for options that may still be set"
    REPLACING = "replacing", "jobs wait with earlier options and are replaced"
    WORKERS_FAIL = "workers-fail", "workers fail one after the other"
    OTHER_FACTORY = "other-factory", "another factory of this manager is submitting"
    NO_SCHEDD = "no-schedd", "the schedd does not answer: nothing is submitted"
    NO_DESCRIPTION = "no-description", "the workers cannot be described: nothing is submitted"
    NOT_TAKEN = "not-taken", "the schedd does not take the jobs"
    SUBMITTED = "submitted", "it has submitted workers"
    NO_MACHINE = "no-machine", "no machine is large enough"
    WAITING_FOR_MACHINES = "waiting-for-machines", "jobs have waited for a machine for long"
    JOBS_HELD = "jobs-held", "held jobs stand for workers that are needed"
    MAX_WORKERS = "max-workers", "max_workers is reached"
    MAX_IDLE = "max-idle", "max_idle jobs wait for a machine already"
    WORKERS_PER_CYCLE = "workers-per-cycle", "workers_per_cycle are on their way already"
    ENOUGH = "enough", "there are as many workers as are needed"
    # Why it ends.
    PROGRAM_ENDED = "program-ended", "its program has ended"
    STOPPED = "stopped", "stopped by 'vine_sharedport factory stop'"
    CTRL_C = "ctrl-c", "stopped by Ctrl-C"
    SIGNAL = "signal", "stopped by a signal"
    MANAGER_ENDED = "manager-ended", "the manager has ended"
    NO_MANAGER = "no-manager", "no manager within factory_timeout"
    CONFIGURATION = "configuration", "its configuration cannot be used"
    LEFT_JOBS = "left-jobs", "started to remove the jobs that are left"
    STALE = "stale", "the factory runs, and its status is not written any more"
    KILLED = "killed", "the factory's process is gone, its jobs may be there"


@dataclass(frozen=True)
class Activity:
    """A phase, and what there is to say about it at the moment.

    Attributes:
        phase: For programs.
        message: For people; by default the phase's text.
    """

    phase: Phase
    message: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", self.message or self.phase.text)
