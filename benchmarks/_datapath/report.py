"""Ratios to TCP, their table, the verdict and the page that shows them."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from _datapath.measure import MIB, Sample
from _datapath.routes import ROUTES, STOCK

METRICS = ("tasks_per_s", "put", "get")
GOAL, FLOOR = 0.97, 0.93
VALID_ROUNDS = 5

Round = Mapping[str, Mapping[str, Sample]]
"""By route, then by metric."""

_BEGIN = "<!-- begin: written by benchmarks/datapath.py --write -->"
_END = "<!-- end -->"
_TITLES = {
    "tcp": "TCP to the manager's port",
    "shim": "shared port, shim",
    "relay": "shared port, relay",
    STOCK: "control: TCP, manager without a shared port",
}


def ratios(rounds: Sequence[Round], route: str, metric: str) -> list[float]:
    """Return a route's rates by those of TCP in the same round."""
    return [one[route][metric].rate / one[ROUTES[0]][metric].rate for one in rounds]


def final_lines(rounds: Sequence[Round], routes: Sequence[str]) -> list[str]:
    """Return a line for each route with the medians of its ratios."""
    return [
        f"{route} "
        + " ".join(
            f"{metric}={statistics.median(ratios(rounds, route, metric)):.2f}"
            for metric in METRICS
        )
        for route in routes
    ]


def verdict(rounds: Sequence[Round], routes: Sequence[str]) -> tuple[str, bool]:
    """Return what the numbers say about the shim, and whether it is above the floor."""
    if len(rounds) < VALID_ROUNDS:
        return (
            f"verdict: none, {len(rounds)} rounds are too few; a report needs {VALID_ROUNDS}",
            True,
        )
    if "shim" not in routes:
        return "verdict: none, the shim was not measured", True
    medians = {metric: statistics.median(ratios(rounds, "shim", metric)) for metric in METRICS}
    # What is printed decides: 0.966 is printed, and passes, as 0.97.
    below = {name: value for name, value in medians.items() if round(value, 2) < GOAL}
    if not below:
        return f"verdict: the shim reaches the goal of {GOAL} in all three", True
    named = ", ".join(f"{name} {value:.3f}" for name, value in below.items())
    if any(round(value, 2) < FLOOR for value in below.values()):
        return f"verdict: the shim is BELOW THE FLOOR of {FLOOR}: {named}", False
    return (
        f"verdict: the shim is above the floor of {FLOOR}, below the goal of {GOAL}: {named}",
        True,
    )


def format_table(rounds: Sequence[Round], routes: Sequence[str]) -> str:
    """Return the table of ratios and costs, as Markdown."""
    lines = [
        "| way | tasks/s | put | get | CPU ms per task | CPU s/GiB, put | CPU s/GiB, get |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for route in routes:
        cells = [_TITLES[route]]
        cells += [_ratio_cell(ratios(rounds, route, metric)) for metric in METRICS]
        cells.append(_cost(rounds, route, "tasks_per_s", 1e3, "{:.2f}"))
        cells += [_cost(rounds, route, metric, 2**30, "{:.2f}") for metric in METRICS[1:]]
        lines.append(f"| {' | '.join(cells)} |")
    rate = {
        metric: statistics.median(one[ROUTES[0]][metric].rate for one in rounds)
        for metric in METRICS
    }
    lines += [
        "",
        f"{len(rounds)} rounds. By TCP: {rate['tasks_per_s']:.0f} tasks/s, put "
        f"{rate['put'] / MIB:.0f} MiB/s, get {rate['get'] / MIB:.0f} MiB/s (medians).",
    ]
    return "\n".join(lines)


def _ratio_cell(values: Sequence[float]) -> str:
    """Return the median and, if there are several, the middle half and the range."""
    median = f"{statistics.median(values):.2f}"
    if len(values) < 4:
        return median
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{median} ({low:.2f}-{high:.2f}; {min(values):.2f}-{max(values):.2f})"


def _cost(rounds: Sequence[Round], route: str, metric: str, unit: float, shape: str) -> str:
    """Return processor time by what was done, the worker's and the relay's apart."""
    samples = [one[route][metric] for one in rounds]
    work = sum(sample.work for sample in samples)
    if metric == "tasks_per_s":
        work *= 1_000_000  # per task, in ms: unit is 1e3 of a second
        unit = 1e9
    spent = {
        name: shape.format(sum(sample.cpu[name] for sample in samples) / work * unit)
        for name in sorted(samples[0].cpu)
    }
    text = f"manager {spent['manager']}, worker {spent['worker']}"
    return text + (f", relay {spent['relay']}" if "relay" in spent else "")


def setting(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ran where."""
    condor = _first_line("condor_version").replace("$CondorVersion: ", "").split()[0]
    cctools = _first_line("vine_worker", "--version").split("version ")[-1].split()[0]
    return {
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "htcondor": condor,
        "cctools": cctools,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "options": dict(options),
    }


def setting_line(what: Mapping[str, Any]) -> str:
    """Return the same as a sentence."""
    options = what["options"]
    return (
        f"{what['date'].split()[0]}: HTCondor {what['htcondor']}, TaskVine of cctools "
        f"{what['cctools']}, Python {what['python']}, Linux {what['kernel'].split('-')[0]} "
        f"{what['machine']}, {what['cores']} cores shared by everything here, "
        f"{what['memory_gib']} GiB; {options['tasks']} tasks and {options['files']} files of "
        f"{options['size_mb']} MiB each way in each round"
        + (", manager and worker pinned to processors of their own" if options["pin"] else "")
        + f"; load {what['load_before'][0]} before it began."
    )


def write(page: Path, text: str) -> None:
    """Put the text between the marks in the page."""
    old = page.read_text(encoding="utf-8")
    content = f"{_BEGIN}\n\n{text}\n\n{_END}"
    new, count = re.subn(
        f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", lambda _: content, old, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(
            f"{page} has {count} places between {_BEGIN} and {_END}, not one; put the marks back"
        )
    page.write_text(new, encoding="utf-8")


def raw(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """Return every number, for a file of JSON."""
    return [
        {
            route: {
                metric: {
                    "blocks": sample.blocks,
                    "rate": sample.rate,
                    "cpu_seconds": sample.cpu,
                }
                for metric, sample in samples.items()
            }
            for route, samples in one.items()
        }
        for one in rounds
    ]


def _first_line(*command: str) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=30
    ).stdout.splitlines()[0]
