"""How many workers the manager's tasks need, and how many to submit now."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vine_sharedport.factory.jobs.counts import Counts
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.report.phase import Activity, Phase

__all__ = ["limit_reached", "plan", "within_limits", "workers_needed"]

# What options and manager both count.
_RESOURCES = ("cores", "memory", "disk", "gpus")

_LARGEST = 1 << 53


def workers_needed(status: Sequence[Mapping[str, Any]], options: Options) -> int:
    """Return the number of workers that all tasks of the managers could use at once.

    Counts tasks that wait, are with workers, or are announced (``tasks_left``), by as many
    as a worker runs at once; never fewer than the resources that they declare require, in
    workers of the options' size; and with ``capacity`` no more than the manager says that
    it can keep busy. Limits are not applied yet.

    Args:
        status: One entry for each manager, as it describes itself; what is missing in it
            or is no number counts 0.
        options: The factory's.

    Source: ``count_workers_needed`` in ``vine_factory.c``, which divides the capacity by
    the tasks of a worker twice; here it is divided once.
    """
    return sum(_needed_by(entry, options) for entry in status)


def _needed_by(entry: Mapping[str, Any], options: Options) -> int:
    # tasks_on_workers has those that have ended and wait to be fetched as well.
    on_workers = max(_number(entry, "tasks_on_workers"), _number(entry, "tasks_running"))
    tasks = _number(entry, "tasks_waiting") + _number(entry, "tasks_left") + on_workers
    needed = _divide(tasks, options.tasks_at_once)
    for name, size in _sizes(options):
        needed = max(needed, _divide(_number(entry, f"tasks_total_{name}"), size))
    if options.capacity:
        capacity = _divide(_number(entry, "capacity_weighted"), options.tasks_at_once)
        for name, size in _sizes(options):
            total = _number(entry, f"capacity_{name}")
            if total:
                capacity = min(capacity, _divide(total, size))
        # 0 means that the manager has not measured any task yet.
        if capacity > 0:
            needed = min(needed, capacity)
    return needed


def within_limits(needed: int, options: Options) -> int:
    """Return the number of workers to have, of all factories together."""
    return min(max(needed, options.least_workers), options.max_workers)


def plan(needed: int, options: Options, counts: Counts) -> int:
    """Return how many workers to submit in this cycle; never fewer than 0.

    Held jobs count as workers: a job that would be held again is no help, and what has
    been held for the same reason would be submitted for ever.

    Args:
        needed: What ``workers_needed`` says.
        options: The factory's.
        counts: What there is already.

    Returns:
        So many that the workers of all factories do not exceed ``max_workers``, those of
        this one on their way ``workers_per_cycle``, and those waiting for a machine
        ``max_idle``. Jobs that do not count as workers any more are replaced once.

    Source: ``mainloop`` in ``vine_factory.c`` for ``workers_per_cycle``.
    """
    new = within_limits(needed, options) - counts.own - counts.others
    if options.workers_per_cycle > 0:
        new = min(new, options.workers_per_cycle - counts.on_their_way)
    if options.max_idle is not None:
        new = min(new, options.max_idle - counts.idle)
    return max(0, min(new, _room(options, counts)))


def _room(options: Options, counts: Counts) -> int:
    """Return how many more jobs there may be, those included that do not count as workers.

    Each of those is replaced, and one that came to the same end would be, without end.
    """
    return 2 * options.max_workers - counts.own - counts.useless


def limit_reached(needed: int, options: Options, counts: Counts) -> Activity:
    """Return why ``plan`` with these arguments is 0."""
    wanted = within_limits(needed, options)
    have = counts.own + counts.others
    if have >= wanted:
        if counts.held and have - counts.held < wanted:
            return Activity(
                Phase.JOBS_HELD, f"{counts.held} held jobs stand for workers that are needed"
            )
        if needed > options.max_workers:
            if counts.others:
                return Activity(
                    Phase.MAX_WORKERS,
                    f"max_workers is reached, with {counts.others} workers of others",
                )
            return Activity(Phase.MAX_WORKERS)
        return Activity(Phase.ENOUGH)
    if options.max_idle is not None and counts.idle >= options.max_idle:
        return Activity(
            Phase.MAX_IDLE, f"max_idle={options.max_idle} jobs wait for a machine already"
        )
    if _room(options, counts) <= 0:
        return Activity(
            Phase.MAX_WORKERS,
            f"{counts.useless} suspended or lost jobs have been replaced already: with their "
            "replacements they are twice max_workers",
        )
    return Activity(
        Phase.WORKERS_PER_CYCLE,
        f"workers_per_cycle={options.workers_per_cycle} are on their way already",
    )


def _sizes(options: Options) -> list[tuple[str, int]]:
    """Return each resource whose size for a worker is known."""
    sizes = ((name, getattr(options, name)) for name in _RESOURCES)
    return [(name, size) for name, size in sizes if size]


def _number(entry: Mapping[str, Any], name: str) -> int:
    value = entry.get(name)
    if not isinstance(value, (int, float)) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        return 0
    return min(max(0, math.ceil(value)), _LARGEST)


def _divide(total: int, size: int) -> int:
    """Return the quotient, rounded up."""
    return -(-total // size)
