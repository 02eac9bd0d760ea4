"""Where does order end? A parameter study of the logistic map, made for the OSPool.

On an OSPool access point only HTCondor's port is open, and little is known of the machines
that jobs run on: a shell and awk are there, Python maybe not. So each task is one awk program.
It computes Lyapunov exponents of x -> r x (1 - x): negative where the map finds a rhythm,
positive where it is chaotic. That is known to begin at r = 3.5699.

    python examples/ospool.py                      on an access point of the OSPool
    python examples/ospool.py --dry-run            what would be submitted there, and no more
    python examples/ospool.py --preset personal    in a pool of your own, made if need be
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import warnings

import vine_sharedport as vine

warnings.filterwarnings("ignore", message="DaskVine not available")  # not needed here

say = functools.partial(print, file=sys.stderr)  # stdout is for the results

# The mean of log |f'(x)| on the way of one x, after 1000 steps to forget where it began.
LYAPUNOV = """LC_ALL=C awk 'BEGIN {{
    for (k = {first}; k < {first} + {count}; k++) {{
        r = k / 200; x = 0.4; total = 0
        for (n = -1000; n < {steps}; n++) {{
            x = r * x * (1 - x); slope = r * (1 - 2 * x)
            if (n >= 0) total += log(slope < 0 ? -slope : slope + 1e-300)
        }}
        print r, total / {steps}
    }}
}}'"""


def main() -> None:
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_it_is)
    parser.add_argument("--preset", default="ospool", help="of the factory (default: ospool)")
    parser.add_argument("--project", help="of yours, if the access point knows several")
    parser.add_argument("--container", metavar="IMAGE", help="such as osdf:///.../NAME-1.0.sif")
    parser.add_argument("--workers", type=int, default=4, help="at most so many (default: 4)")
    parser.add_argument("--dry-run", action="store_true", help="print the jobs, submit none")
    options = parser.parse_args()
    if options.workers < 1:
        parser.error(f"--workers is {options.workers}; give 1 or more")
    with use_pool(may_start=options.dry_run or options.preset != "ospool") as own_pool:
        if own_pool and options.preset == "ospool":
            options.project = options.project or "MyProject"  # for want of a map to look into
        # TaskVine's own port is for this machine alone: an access point wants no open ones.
        manager = vine.Manager(0, shared_port=vine.SharedPort(tcp="loopback"))
        workers = vine.Factory("condor", manager=manager)
        workers.preset = options.preset  # project, time limit, pace, place of the logs
        workers.min_workers = 0
        workers.max_workers = options.workers
        workers.cores = 1
        workers.memory = workers.disk = 1000  # MB; small jobs start earlier
        if options.container:  # an image that has what your tasks need; its name, its version
            workers.container_image = options.container
        if options.project:  # otherwise the preset looks into the access point's map
            workers.commands = {"+ProjectName": f'"{options.project}"'}
        if options.dry_run:
            print(workers.submit_description())
            return
        with workers:  # it submits jobs as tasks wait, and removes them at the end
            show(study(manager, workers))


def use_pool(*, may_start: bool) -> contextlib.AbstractContextManager:
    """Return this machine's HTCondor, or else a personal pool for as long as this runs."""
    try:
        say(f"Using HTCondor: {vine.discover().address}")
        return contextlib.nullcontext()
    except vine.SharedPortError as error:
        if not may_start:
            say(f"this is no access point: {error}")
            raise SystemExit("try --dry-run, or --preset personal") from None
        say("No HTCondor can be used here: starting a personal pool")
        return vine.PersonalPool()


def study(manager: vine.Manager, workers: vine.Factory) -> dict[float, float]:
    """Run the tasks; return the exponent of each r from 3.4 to 4, in steps of 0.005."""
    for first in range(680, 801, 5):
        task = vine.Task(LYAPUNOV.format(first=first, count=min(5, 801 - first), steps=100000))
        task.set_cores(1)
        task.set_retries(5)  # machines of the OSPool come and go
        manager.submit(task)
    exponents = {}
    while not manager.empty():
        task = manager.wait(5)
        if task is None:  # none has ended for 5 s; the factory knows why
            now = workers.status()
            say("waiting:", now.message, *(problem.explanation for problem in now.problems))
            continue
        if not task.successful():
            raise SystemExit(f"a task failed ({task.result}): {task.output}")
        lines = [line.split() for line in task.output.splitlines()]
        exponents.update({float(r): float(exponent) for r, exponent in lines})
        way = "the shared port" if manager.shared_port.accepted(task.addrport) else "TCP"
        say(f"r = {lines[0][0]}..{lines[-1][0]}  from {task.addrport}, a worker by {way}")
    return exponents


def show(exponents: dict[float, float]) -> None:
    print("    r   exponent" + " " * 12 + "rhythm | chaos")
    for r, exponent in sorted(exponents.items()):
        if round(200 * r) % 4 == 0:
            bar = "#" * round(20 * abs(exponent))
            left, right = (bar, "") if exponent < 0 else ("", bar)
            print(f"{r:5.3f}  {exponent:+9.4f} {left:>20}|{right}")
    chaotic = [r for r, exponent in exponents.items() if exponent > 0.002]
    print(f"Of {len(exponents)} values of r, {len(chaotic)} are chaotic, first {min(chaotic)}")
    print(f"At r = 4 the exponent is {exponents[4.0]:.4f}; exactly it is log 2 = 0.6931")


if __name__ == "__main__":
    try:
        main()
    except vine.SharedPortError as error:  # it says what to do
        raise SystemExit(f"ospool: {error}") from None
