"""Compare the ways from a manager to its worker: plain TCP, the shim, the relay.

Everything is real: a personal HTCondor pool with its condor_shared_port, TaskVine
managers, vine_worker. Run it as

    ./sandbox/run python benchmarks/datapath.py [--rounds N] [--json FILE] [--write]

In each round every route gets a fresh worker. All are connected at once and take turns
in short blocks, in changing order, so that whatever else the machine does meets all of
them alike. docs/performance.md, which ``--write`` updates, tells how to
read the result. The last lines are the medians of the ratios to TCP, a line for each route.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from _datapath import report  # noqa: E402
from _datapath.measure import MIB, Bench, Sample  # noqa: E402
from _datapath.routes import IDLE, ROUTES, STOCK, Kit, Worker  # noqa: E402

import vine_sharedport as vine  # noqa: E402

_PAGE = ROOT / "docs" / "performance.md"
_CONNECT_TIMEOUT = 60.0
_BLOCK = 100  # tasks: short enough that the routes take turns several times a second


def main() -> int:
    options = _options()
    begun = time.monotonic()
    routes = [route for route in ROUTES if route in options.routes]
    everyone = [*routes, STOCK] if options.control else routes
    what = report.setting(
        {
            "rounds": options.rounds, "tasks": options.tasks, "files": options.files,
            "size_mb": options.size_mb, "routes": routes, "pin": options.pin,
        }
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(dir=options.directory))
        )
        _check_space(directory, options.size_mb, len(everyone))
        _say("starting a personal pool and the managers")
        stack.enter_context(vine.PersonalPool())
        rounds = _run(stack, directory, everyone, options)
    text = f"{report.setting_line(what)}\n\n{report.format_table(rounds, everyone)}"
    lines = report.final_lines(rounds, routes)
    said, well = report.verdict(rounds, routes)
    what["seconds"] = round(time.monotonic() - begun, 1)
    if options.json:
        content = {
            "setting": what, "verdict": said, "medians": lines,
            "ratios": {
                route: {metric: report.ratios(rounds, route, metric) for metric in report.METRICS}
                for route in everyone
            },
            "rounds": report.raw(rounds),
        }  # fmt: skip
        Path(options.json).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.write:
        report.write(_PAGE, text)
    _say(f"{what['seconds']:.0f} s")
    print(text, "", said, *lines, sep="\n")
    return 0 if well else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="exit status: 0; 1 if the shim is below the floor; 2 for wrong usage",
    )
    parser.add_argument("--rounds", metavar="N", type=int, default=7,
                        help="times that each route is measured (default: 7; "
                        f"fewer than {report.VALID_ROUNDS} are no valid report)")  # fmt: skip
    parser.add_argument("--tasks", metavar="N", type=int, default=1200,
                        help="tasks in a round, for each route (default: 1200)")  # fmt: skip
    parser.add_argument("--files", metavar="N", type=int, default=6,
                        help="files each way in a round, for each route (default: 6)")  # fmt: skip
    parser.add_argument("--size-mb", metavar="N", type=int, default=256,
                        help="size of a file in MiB (default: 256)")  # fmt: skip
    parser.add_argument("--routes", metavar="NAME[,NAME...]", default=",".join(ROUTES),
                        help=f"which to compare (default: {','.join(ROUTES)}); "
                        "tcp is always among them")  # fmt: skip
    parser.add_argument("--pin", action="store_true",
                        help="the manager on one processor, workers on the others")  # fmt: skip
    parser.add_argument("--no-control", dest="control", action="store_false",
                        help="leave out the manager without a shared port")  # fmt: skip
    parser.add_argument("--directory", metavar="DIR",
                        help="where temporary files go (default: TMPDIR or /tmp)")  # fmt: skip
    parser.add_argument("--quick", action="store_true",
                        help="one round of little, to see that it works")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write all that was measured")
    parser.add_argument("--write", action="store_true", help=f"update {_PAGE.name}")
    options = parser.parse_args()
    options.routes = {"tcp", *options.routes.split(",")}
    if unknown := options.routes - set(ROUTES):
        parser.error(f"no such route: {', '.join(unknown)}; there are {', '.join(ROUTES)}")
    if options.quick:
        options.rounds, options.tasks, options.files, options.size_mb = 1, 60, 2, 16
    if min(options.rounds, options.tasks, options.files, options.size_mb) < 1:
        parser.error("--rounds, --tasks, --files and --size-mb must be 1 at least")
    if options.write and (options.rounds < report.VALID_ROUNDS or len(options.routes) < 3):
        parser.error(f"--write needs all routes and {report.VALID_ROUNDS} rounds at least")
    if options.json and not os.access(Path(options.json).absolute().parent, os.W_OK):
        parser.error(f"--json {options.json}: its directory is not there or not writable")
    if options.pin and len(os.sched_getaffinity(0)) < 2:
        parser.error("--pin needs two processors, and there is one; leave it out")
    return options


def _check_space(directory: Path, size_mb: int, workers: int) -> None:
    """Leave with an explanation if the files have no room."""
    # The input, the output, and at each worker one that is not yet removed and the next.
    wanted = (2 + 2 * workers) * size_mb * MIB + 500 * MIB
    free = shutil.disk_usage(directory).free
    if free < wanted:
        raise SystemExit(
            f"{directory} has {free // MIB} MiB free, {wanted // MIB} are needed; give "
            "another place with --directory, or smaller files with --size-mb"
        )


def _run(
    stack: contextlib.ExitStack,
    directory: Path,
    routes: Sequence[str],
    options: argparse.Namespace,
) -> list[dict[str, dict[str, Sample]]]:
    """Measure all rounds."""
    input_file = directory / "input"
    with open(input_file, "wb") as file:
        for _ in range(options.size_mb):
            file.write(os.urandom(MIB))
    processors = sorted(os.sched_getaffinity(0))
    kit = Kit(directory, routes, cores=set(processors[1:]) if options.pin else None)
    benches = {}
    for name, shared_port in (("served", True), (STOCK, False)):
        if not shared_port and STOCK not in routes:
            continue
        place = directory / name
        place.mkdir()
        manager = vine.Manager(0, shared_port=shared_port, run_info_path=str(place))
        stack.callback(manager._free)
        benches[name] = Bench(manager, place, input_file, options.size_mb * MIB)
    if options.pin:  # this process, in which the managers are
        os.sched_setaffinity(0, {processors[0]})
        stack.callback(os.sched_setaffinity, 0, processors)
    rounds = []
    for number in range(options.rounds):
        order = [*routes[number % len(routes) :], *routes[: number % len(routes)]]
        begun = time.monotonic()
        rounds.append(_round(number, kit, benches, order, options))
        _say(
            f"round {number + 1} of {options.rounds}, {time.monotonic() - begun:.0f} s: "
            + "; ".join(report.final_lines(rounds[-1:], [r for r in routes if r != "tcp"]))
        )
    return rounds


def _round(
    number: int,
    kit: Kit,
    benches: dict[str, Bench],
    order: Sequence[str],
    options: argparse.Namespace,
) -> dict[str, dict[str, Sample]]:
    """Start a worker for each route and let them take turns."""
    # Not in a circle: a block may leave something to the next one, such as a cold cache.
    dice = random.Random(number)

    def turns() -> list[str]:
        return dice.sample(order, len(order))

    found = {route: {metric: Sample() for metric in report.METRICS} for route in order}
    bench = {route: benches[STOCK if route == STOCK else "served"] for route in order}
    with contextlib.ExitStack() as stack:
        workers = {}
        groups = _by_manager(bench)
        crowd = max(len(names) for _, names in groups)
        for manager, names in groups:
            present: list[Worker] = []
            # A manager's work grows with its workers: each has equally many.
            for name in [*names, *[IDLE] * (crowd - len(names))]:
                worker = kit.worker(name, manager, disk_mb=4 * options.size_mb + 100)
                present.append(stack.enter_context(worker))
                workers[name] = present[-1]
                # One after the other: of two at once vine_worker may lose one, over a port.
                _wait_for_workers(manager, present)
        pids = {route: {"manager": os.getpid(), **workers[route].pids()} for route in order}
        for route in order:  # the first of everything is slower, whatever the route
            bench[route].tasks(route, 5, Sample())
            for _ in range(2):
                bench[route].put(route, Sample())
            bench[route].get(route, Sample())
        left = options.tasks
        while left:
            count = min(left, _BLOCK)
            left -= count
            for route in turns():
                sample = found[route]["tasks_per_s"]
                with sample.count_cpu(pids[route]):
                    bench[route].tasks(route, count, sample)
        for metric in ("put", "get"):
            for _ in range(options.files):
                for route in turns():
                    sample = found[route][metric]
                    with sample.count_cpu(pids[route]):
                        getattr(bench[route], metric)(route, sample)
        for route in order:
            if workers[route].process.poll() is not None:
                raise SystemExit(workers[route].explain())
    for manager, _ in _by_manager(bench):
        _wait_until(manager, 0, "the workers of the last round to be gone")
    return found


def _by_manager(bench: dict[str, Bench]) -> list[tuple[Any, list[str]]]:
    grouped: dict[int, tuple[Any, list[str]]] = {}
    for route, one in bench.items():
        grouped.setdefault(id(one), (one.manager, []))[1].append(route)
    return list(grouped.values())


def _wait_for_workers(manager: Any, workers: list[Worker]) -> None:
    try:
        _wait_until(manager, len(workers), "the workers", workers)
    except RuntimeError as error:
        raise SystemExit(
            "\n".join([str(error), *(worker.explain() for worker in workers)])
        ) from error


def _wait_until(manager: Any, count: int, what: str, workers: Sequence[Worker] = ()) -> None:
    until = time.monotonic() + _CONNECT_TIMEOUT
    while manager.stats.workers_connected != count:
        ended = any(worker.process.poll() is not None for worker in workers)
        if ended or time.monotonic() > until:
            raise RuntimeError(
                f"waited for {what}, at most {_CONNECT_TIMEOUT:g} s: the manager has "
                f"{manager.stats.workers_connected}, not {count}"
            )
        manager.wait(1)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
