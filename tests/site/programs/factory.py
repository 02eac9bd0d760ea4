"""A factory of three workers, with which other users may meddle meanwhile.

Usage: factory.py SETTINGS, in JSON: limit, in seconds. Goes on when there is a file ``go``.
"""

import os
import time

from common import LIMIT, introduce, say

import vine_sharedport as vine


def drive(manager, until):
    """Let the manager work until that is true; return whether it was in time."""
    end = time.monotonic() + LIMIT
    while not until():
        manager.wait(1)
        if time.monotonic() > end:
            return False
    return True


def main():
    with vine.Manager(0, shared_port=True) as manager:
        introduce(manager)
        never = vine.Task("true")
        never.add_feature("nobody has this")
        manager.submit(never)
        options = {
            "min_workers": 0, "max_workers": 3, "workers_per_cycle": 0, "cycle": 1,
            "timeout": 300, "cores": 1, "memory": 300, "disk": 1000, "tasks_per_worker": 100,
        }  # fmt: skip
        with vine.Factory("condor", manager=manager, directory="factory", **options) as workers:
            say(factory=workers.status().factory, manager=manager.shared_port.sock_id)
            drive(manager, lambda: os.path.exists("go"))
            workers.min_workers = 3
            drive(manager, lambda: workers.status().workers.connected == 3)
            status = workers.status()
            say(
                connected=status.workers.connected,
                problems=[problem.explanation for problem in status.problems],
            )
            began = time.monotonic()
        say(seconds=time.monotonic() - began, state=workers.status().state)


main()
