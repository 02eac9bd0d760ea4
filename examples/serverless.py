"""A magnet loses its magnetism: 80 short simulations as TaskVine function calls.

Simulates the Ising model of a ferromagnet, a 64 x 64 lattice of spins, at 20 temperatures,
four times each, and compares with Onsager's exact solution. A call takes a fifth of a second,
as long as Python's start and import of numpy; so these happen once for each worker, in a
library, which keeps what it has prepared and forks for each call.
Needs cloudpickle and conda-pack; numpy, threadpoolctl and ndcctools where the workers run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import os
import sys
import warnings
from typing import Any

import vine_sharedport as vine

warnings.filterwarnings("ignore", message="DaskVine not available")  # not needed here


def prepare(size: int) -> dict[str, Any]:
    """Make what all calls share. Runs once for each worker, when its library starts."""
    import numpy as np

    # No two neighbours in one colour of a chessboard: each is updated in one step.
    board = np.indices((size, size)).sum(axis=0) % 2
    return {"colours": [board == 0, board == 1]}


def magnetise(temperature: float, sweeps: int, seed: int) -> float:
    """Return the magnetisation after some sweeps. Runs in a fork of the worker's library."""
    import numpy as np
    from ndcctools.taskvine.utils import load_variable_from_library

    colours = load_variable_from_library("colours")  # what prepare() has returned
    random = np.random.default_rng(seed)
    spins = np.ones(colours[0].shape, dtype=np.int8)  # all point upwards
    seen = []
    for sweep in range(sweeps):
        for colour in colours:
            field = sum(np.roll(spins, step, axis) for step in (1, -1) for axis in (0, 1))
            energy = 2 * spins * field  # that it takes to turn a spin over
            turn = random.random(spins.shape) < np.exp(-energy / temperature)
            spins[turn & colour] *= -1
        if sweep >= sweeps // 2:  # the first half is for forgetting the start
            seen.append(abs(spins.mean()))
    return float(np.mean(seen))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2, help="at most so many (default: 2)")
    parser.add_argument("--python-env", metavar="TARBALL", help="Python for the workers")
    options = parser.parse_args()
    if options.workers < 1:
        parser.error(f"--workers is {options.workers}; give 1 or more")
    needed = ("cloudpickle", "conda_pack", "numpy", "threadpoolctl")
    if lacking := [name for name in needed if not importlib.util.find_spec(name)]:
        names = ", ".join(lacking)
        raise SystemExit(f"serverless: no {names}; in the checkout, pip install '.[examples]'")
    with use_pool(), vine.Manager(0, shared_port=True) as manager:
        workers = vine.Factory("condor", manager=manager)
        workers.min_workers = 0
        workers.max_workers = options.workers
        workers.cores = 2
        if options.python_env:  # made by conda-pack or poncho_package_create; travels along
            workers.python_env = options.python_env
        else:  # the machines of a personal pool are this one, and its Python will do
            workers.env = {"PATH": f"{os.path.dirname(sys.executable)}:/usr/bin:/bin"}
        with workers:  # it submits jobs as tasks wait, and removes them at the end
            show(simulate(manager, workers))


def use_pool() -> contextlib.AbstractContextManager:
    """Return this machine's HTCondor, or else a personal pool for as long as this runs."""
    try:
        print(f"Using HTCondor: {vine.discover().address}")
        return contextlib.nullcontext()
    except vine.SharedPortError:
        print("No HTCondor can be used here: starting a personal pool")
        return vine.PersonalPool()


def simulate(manager: vine.Manager, workers: vine.Factory) -> dict[float, list[float]]:
    """Call the function four times for each temperature; return the magnetisations."""
    how = {"library_context_info": [prepare, [64], {}], "add_env": False}  # no conda to pack
    library = manager.create_library_from_functions("ising", magnetise, **how)
    library.set_cores(2)
    library.set_function_slots(2)  # calls at once
    manager.install_library(library)  # each worker that comes gets one
    found: dict[float, list[float]] = {1.5 + step / 12: [] for step in range(20)}
    asked = {}
    for number, temperature in enumerate(4 * list(found)):
        call = vine.FunctionCall("ising", "magnetise", temperature, 600, number)
        asked[manager.submit(call)] = temperature
    while not manager.empty():
        call = manager.wait(5)
        if call is None:  # none has ended for 5 s; the factory knows why
            now = workers.status()
            print("waiting:", now.message, *(problem.explanation for problem in now.problems))
            continue
        if not call.successful():
            raise SystemExit(f"a call failed ({call.result}): {call.std_output}")
        found[asked[call.id]].append(call.output)  # what the function returned
        if len(found[asked[call.id]]) == 4:
            way = "the shared port" if manager.shared_port.accepted(call.addrport) else "TCP"
            print(f"{asked[call.id]:.3f} done, lastly by {call.addrport}, a worker by {way}")
    return found


def show(found: dict[float, list[float]]) -> None:
    print("temperature  magnetisation  exact")
    for temperature, values in found.items():
        mean = sum(values) / len(values)
        exact = max(0, 1 - math.sinh(2 / temperature) ** -4) ** 0.125  # an endless lattice's
        print(f"{temperature:11.3f}  {mean:13.3f}  {exact:5.3f}  {'#' * round(40 * mean)}")
    print("An endless lattice loses its magnetism at 2.269 all at once, a small one softly.")


if __name__ == "__main__":
    try:
        main()
    except vine.SharedPortError as error:  # it says what to do
        raise SystemExit(f"serverless: {error}") from None
