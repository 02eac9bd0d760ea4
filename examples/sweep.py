"""Which support vector machine reads handwritten digits best? A sweep that ends in a picture.

Cross-validates 54 settings of scikit-learn's SVC on its 1797 digits of 8 x 8 pixels, as
TaskVine PythonTasks on HTCondor workers, and draws the accuracies as a heat map.
Needs scikit-learn, matplotlib and cloudpickle; the workers the first and the last.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings

import vine_sharedport as vine

try:
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from sklearn.datasets import load_digits
except ImportError as error:
    raise SystemExit(f"sweep: {error}; in the checkout, pip install '.[examples]'") from None

warnings.filterwarnings("ignore", message="DaskVine not available")  # not needed here

PENALTIES = [10.0**power for power in range(-2, 4)]  # C: what a wrong digit costs
GAMMAS = [10.0 ** (power / 2) for power in range(-10, -1)]  # how near neighbours have to be


def try_gamma(gamma: float, penalties: list[float]) -> list[float]:
    """Return the accuracy for each penalty. Runs at a worker, in a Python of its own."""
    # Import inside: what travels is this function, not this file. Python's start and the
    # imports take a second, so one task tries a row of settings; or see serverless.py.
    import numpy as np
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import SVC

    x, y = np.load("digits.npz").values()
    return [cross_val_score(SVC(C=c, gamma=gamma), x, y, cv=2).mean() for c in penalties]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=4, help="at most so many (default: 4)")
    parser.add_argument("--picture", default="sweep.png", help="default: sweep.png")
    parser.add_argument("--python-env", metavar="TARBALL", help="Python for the workers")
    options = parser.parse_args()
    if options.workers < 1:
        parser.error(f"--workers is {options.workers}; give 1 or more")
    with use_pool(), vine.Manager(0, shared_port=True) as manager:
        workers = vine.Factory("condor", manager=manager)
        workers.min_workers = 0
        workers.max_workers = options.workers
        workers.cores = 1
        if options.python_env:  # made by conda-pack or poncho_package_create; travels along
            workers.python_env = options.python_env
        else:  # the machines of a personal pool are this one, and its Python will do
            workers.env = {"PATH": f"{os.path.dirname(sys.executable)}:/usr/bin:/bin"}
        with workers:  # it submits jobs as tasks wait, and removes them at the end
            accuracy = sweep(manager, workers)
    row, column = draw(accuracy, options.picture)
    print(f"Best: C={PENALTIES[column]:g}, gamma={GAMMAS[row]:.2g}: {accuracy.max():.1%}")
    print(f"Worst: {accuracy.min():.1%}; all {accuracy.size} are drawn in {options.picture}")


def use_pool() -> contextlib.AbstractContextManager:
    """Return this machine's HTCondor, or else a personal pool for as long as this runs."""
    try:
        print(f"Using HTCondor: {vine.discover().address}")
        return contextlib.nullcontext()
    except vine.SharedPortError:
        print("No HTCondor can be used here: starting a personal pool")
        return vine.PersonalPool()


def sweep(manager: vine.Manager, workers: vine.Factory) -> np.ndarray:
    """Run one task for each gamma; return accuracy[gamma, C]."""
    path = os.path.join(manager.staging_directory, "digits.npz")
    np.savez(path, *load_digits(return_X_y=True))
    digits = manager.declare_file(path, cache=True)  # goes to each worker once, for all tasks
    rows = {}
    for row, gamma in enumerate(GAMMAS):
        task = vine.PythonTask(try_gamma, gamma, PENALTIES)  # arguments go with each task
        task.add_input(digits, "digits.npz")
        task.set_cores(1)
        rows[manager.submit(task)] = row
    accuracy = np.zeros((len(GAMMAS), len(PENALTIES)))
    while not manager.empty():
        task = manager.wait(5)
        if task is None:  # none has ended for 5 s; the factory knows why
            now = workers.status()
            print("waiting:", now.message, *(problem.explanation for problem in now.problems))
            continue
        if not task.successful():
            raise SystemExit(f"a task failed ({task.result}): {task.std_output}")
        row = rows[task.id]
        accuracy[row] = task.output  # what the function returned
        way = "the shared port" if manager.shared_port.accepted(task.addrport) else "TCP"
        result = f"gamma={GAMMAS[row]:<8.2g} best {accuracy[row].max():6.1%}"
        print(f"{result}  from {task.addrport}, a worker by {way}")
    return accuracy


def draw(accuracy: np.ndarray, path: str) -> tuple[int, int]:
    """Draw the heat map, one cell for each setting; frame the best one and return it."""
    axes = (figure := Figure(figsize=(7.5, 6), layout="constrained")).subplots()
    image = axes.imshow(100 * accuracy, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(accuracy):
        style = {"color": "black" if value > 0.6 else "white", "ha": "center"}
        axes.text(column, row, f"{value:.1%}", va="center", **style)
    row, column = np.unravel_index(accuracy.argmax(), accuracy.shape)
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="crimson", lw=3))
    axes.set_xticks(range(len(PENALTIES)), [f"{penalty:g}" for penalty in PENALTIES])
    axes.set_yticks(range(len(GAMMAS)), [f"{gamma:.2g}" for gamma in GAMMAS])
    axes.set(xlabel="penalty C", ylabel="gamma", title="Handwritten digits read by an SVC")
    figure.colorbar(image, label="cross-validated accuracy (%)")
    figure.savefig(path, dpi=120)
    return row, column


if __name__ == "__main__":
    try:
        main()
    except vine.SharedPortError as error:  # it says what to do
        raise SystemExit(f"sweep: {error}") from None
