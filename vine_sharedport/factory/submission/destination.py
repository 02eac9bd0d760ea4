"""Where worker jobs go: the schedd that takes them, and the grid resource it hands them to.

The description of a worker's job is made for the local pool (``describe_workers``).
``Destination.adapt`` changes it for another place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vine_sharedport.condor.submit_description import SubmitDescription
from vine_sharedport.errors import SettingError
from vine_sharedport.factory.submission.remote_description import (
    adapt_to_batch,
    adapt_to_ce,
    adapt_to_schedd,
    take_container,
)

__all__ = ["BATCH_SYSTEMS", "CE_PORT", "Destination"]

BATCH_SYSTEMS = ("slurm", "pbs", "sge", "condor")
"""What ``grid = batch SYSTEM`` can name; HTCondor's blahp knows a few more."""

CE_PORT = 9619
"""Port of an HTCondor-CE's collector, which its shared port serves."""

# What the schedd is asked for besides, for each job.
_GRID_ATTRIBUTES = ("GridJobId", "GridResourceUnavailableTime")


@dataclass(frozen=True)
class Destination:
    """One place for worker jobs.

    Attributes:
        schedd: Name of the schedd; None for this machine's own.
        pool: Collector that knows the schedd, as ``HOST`` or ``HOST:PORT``; None for this
            pool's own.
        spool: The jobs' files are copied to the schedd, which shares no file system.
        grid: What the schedd does with the jobs: None: they run in its pool;
            ``ce HOST[:PORT]``: an HTCondor-CE runs them; ``condor SCHEDD COLLECTOR``:
            another schedd; ``batch slurm|pbs|sge|condor``: a batch system, whose commands
            work on the schedd's machine and whose nodes share the home directories.

    Raises:
        SettingError: These do not go together, or ``grid`` is none of the above.
    """

    schedd: str | None = None
    pool: str | None = None
    spool: bool = False
    grid: str | None = None

    def __post_init__(self) -> None:
        for name in ("schedd", "pool"):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(r"[^\s\"',]+", value):
                raise SettingError(f"{name} is {value!r}; wanted is one name without blanks")
        if self.pool is not None and self.schedd is None:
            raise SettingError(
                f"pool is {self.pool!r}, but no schedd is named; name the one to submit to "
                "('condor_status -schedd -pool POOL' lists them)"
            )
        if self.grid is not None:
            if self.spool:
                raise SettingError(
                    f"grid is {self.grid!r} and spool is on; the schedd hands such jobs on, so "
                    "submit to a schedd on this machine, without spool"
                )
            object.__setattr__(self, "grid", " ".join(_check_grid(self.grid)))

    @property
    def kind(self) -> str:
        """``local``, ``schedd``, ``spool``, ``ce``, ``condor`` or ``batch``."""
        if self.grid is not None:
            return self.grid.split()[0]
        return "spool" if self.spool else "local" if self.schedd is None else "schedd"

    @property
    def grid_resource(self) -> str | None:
        """The submit command of that name; None for jobs of the schedd's own pool."""
        if self.grid is None or self.kind != "ce":
            return self.grid
        place = self.grid.split()[1]
        # The CE's schedd has its host's name (source: HTCondor-CE's documentation).
        host, port = _split_port(place)
        return f"condor {host} {host}:{port or CE_PORT}"

    @property
    def has_log(self) -> bool:
        """Whether the jobs' event log is written on this machine.

        Otherwise the schedd must be asked: with spool the log is in its spool directory,
        and another schedd may be on another machine.
        """
        return self.schedd is None and not self.spool

    @property
    def knows_host(self) -> bool:
        """Whether log and schedd name the machine that a job runs on."""
        # A grid job's "execute" event and ad name the resource alone.
        return self.grid is None

    @property
    def attributes(self) -> tuple[str, ...]:
        """Attributes of a job's ad that ``trouble`` needs."""
        return _GRID_ATTRIBUTES if self.grid is not None else ()

    def trouble(self, ad: Mapping[str, Any]) -> str | None:
        """Return what keeps an idle grid job from getting further, if its ad tells."""
        if self.grid is None:
            return None
        if _number(ad, "GridResourceUnavailableTime"):
            return (
                f"the schedd's gridmanager cannot reach {self.grid_resource!r}; its log says "
                "why ('condor_config_val GRIDMANAGER_LOG'), names and access are the usual "
                "causes"
            )
        if not isinstance(ad.get("GridJobId"), str):
            return f"not yet handed over to {self.grid_resource!r}"
        return None

    def adapt(
        self, job: SubmitDescription, directory: str, files: dict[str, str]
    ) -> SubmitDescription:
        """Return a worker's submit description for this place.

        Args:
            job: What ``describe_workers`` made, for the local pool.
            directory: The jobs' own; nothing is written there.
            files: Gets those that have to be there, too: name and content.

        Raises:
            SettingError: A command in it cannot be had there; the message tells what can.
        """
        if self.grid is None:
            return job
        job, image = take_container(job)
        if self.kind == "batch":
            if image is not None:
                raise SettingError(
                    f"container_image is {image!r}, but {self.grid!r} starts no containers; "
                    "start it with wrapper, or do without"
                )
            job = adapt_to_batch(job, self.grid, directory, files)
        else:
            if self.kind == "ce":
                job = adapt_to_ce(job, self.grid, directory, files)
            job = adapt_to_schedd(job, image, ce=self.kind == "ce")
        return job.with_defaults({"grid_resource": self.grid_resource or ""})


def _check_grid(grid: str) -> list[str]:
    """Return the words of a grid resource."""
    words = grid.split()
    kind = words[0].lower() if words else ""
    kind = {"condor-c": "condor"}.get(kind, kind)
    wanted = "ce HOST, condor SCHEDD COLLECTOR, or batch " + "|".join(BATCH_SYSTEMS)
    if kind == "ce" and len(words) == 2:
        _split_port(words[1])
    elif kind == "batch" and len(words) > 2:
        raise SettingError(
            f"grid is {grid!r}; batch systems behind ssh are not supported: run the schedd "
            "where the batch system's commands work"
        )
    elif kind == "batch" and len(words) == 2 and words[1].lower() in BATCH_SYSTEMS:
        words[1] = words[1].lower()
    elif kind != "condor" or len(words) != 3:
        raise SettingError(f"grid is {grid!r}; wanted is {wanted}")
    return [kind, *words[1:]]


def _split_port(place: str) -> tuple[str, str | None]:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(\d{1,5}))?", place)
    if match is None:
        raise SettingError(f"the CE is {place!r}; wanted is HOST or HOST:PORT")
    return match[1], match[2]


def _number(ad: Mapping[str, Any], name: str) -> int:
    """Return an attribute as a number; 0 where it has none, or is ClassAd's "undefined"."""
    try:
        return int(ad[name])
    except (KeyError, TypeError, ValueError):
        return 0
