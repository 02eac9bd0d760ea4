"""One task, by workers that are started in one of two ways: call.py workers|factory."""

import sys
import time
import warnings

warnings.simplefilter("ignore")
import vine_sharedport as vine  # noqa: E402

SMALL = {"cores": 1, "memory": 200, "disk": 500}


def make_workers(manager):
    if sys.argv[1] == "workers":
        return vine.submit_workers(manager, 1, **SMALL)
    factory = vine.Factory("condor", manager=manager)
    for name, value in {**SMALL, "min_workers": 1, "max_workers": 1, "cycle": 1}.items():
        setattr(factory, name, value)
    return factory


with vine.Manager(0, shared_port=True) as manager, make_workers(manager) as workers:
    manager.submit(vine.Task("echo $(id -un) on $(hostname)"))
    until = time.monotonic() + 60
    while not manager.empty():
        task = manager.wait(1)
        if task is not None:
            print("task:", task.std_output.strip(), flush=True)
        if sys.argv[1] == "factory":
            for problem in workers.status().problems:
                if problem.cause == "schedd":
                    sys.exit(f"{problem.explanation}; {problem.remedy}")
        if time.monotonic() > until:
            sys.exit("no task has ended")
