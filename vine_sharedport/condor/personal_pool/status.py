"""What runs of a personal pool, and what its daemons say."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vine_sharedport.condor.personal_pool import guardian
from vine_sharedport.condor.personal_pool.directory import default_directory
from vine_sharedport.errors import SinfulError
from vine_sharedport.trusted_files import absolute
from vine_sharedport.wire.shared_port_ad import parse_my_address

__all__ = [
    "PoolStatus",
    "clean_environment",
    "count_ads",
    "count_jobs",
    "log_tails",
    "pool_status",
]

_LOGS = ("GuardianLog", "MasterLog", "SharedPortLog", "CollectorLog", "SchedLog", "StartLog")
_LOG_LINES = 8


@dataclass(frozen=True)
class PoolStatus:
    """What there is of a personal pool.

    Attributes:
        running: Whether its master runs.
        directory: Where it is, or would be.
        config_file: Its configuration, for ``CONDOR_CONFIG``; None if not running.
        address: The shared port's address; None if not running.
        owner: Process id of the program it ends with; None if it stands alone.
        processes: Its processes, as ``(pid, name)``.
        ads: How many ads of each type its collector has.
    """

    running: bool
    directory: str
    config_file: str | None = None
    address: str | None = None
    owner: int | None = None
    processes: tuple[tuple[int, str], ...] = ()
    ads: Mapping[str, int] | None = None

    def __str__(self) -> str:
        """Return it in a few lines, for a terminal."""
        if not self.running:
            return f"No pool runs in {self.directory}."
        ads = self.ads or {}
        end = "until it is stopped" if self.owner is None else f"with process {self.owner}"
        return (
            f"A pool runs in {self.directory} ({end}).\n"
            f"configuration: {self.config_file}\n"
            f"shared port:   {self.address or 'restarting'}\n"
            f"daemons:       {', '.join(sorted(ads)) or 'the collector does not answer'}\n"
            f"processes:     {len(self.processes)}, running jobs: {_jobs(self.processes)}"
        )


def pool_status(directory: str | os.PathLike[str] | None = None) -> PoolStatus:
    """Return what there is of the pool in a directory; never raises for its absence."""
    place = default_directory() if directory is None else absolute(directory)
    state = guardian.read_state(place)
    if not state or guardian.noted_process(state, "master") is None:
        return PoolStatus(running=False, directory=place)
    config_file = os.path.join(place, "condor_config")
    address = None
    with contextlib.suppress(OSError, SinfulError):
        text = Path(state["lock_dir"], "shared_port_ad").read_text(errors="replace")
        address = str(parse_my_address(text))
    return PoolStatus(
        running=True,
        directory=place,
        config_file=config_file,
        address=address,
        owner=state["owner"],
        processes=_processes(state),
        ads=count_ads(state["status"], config_file),
    )


def count_jobs(directory: str) -> int:
    """Return how many jobs run in the pool of a directory."""
    return _jobs(_processes(guardian.read_state(directory)))


def _processes(state: Mapping[str, Any]) -> tuple[tuple[int, str], ...]:
    found = []
    for process in guardian.pool_processes(state["token"]) if "token" in state else ():
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{process.pid}/comm").read_text(errors="replace").strip()
            found.append((process.pid, name))
    return tuple(found)


def _jobs(processes: tuple[tuple[int, str], ...]) -> int:
    return sum(name == "condor_starter" for _, name in processes)


def clean_environment() -> dict[str, str]:
    """Return the environment without what would change HTCondor's configuration.

    Also without what a daemon hands to its children, should this run in a job.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("_CONDOR_", "CONDOR_"))
    }


def count_ads(program: str, config_file: str) -> dict[str, int]:
    """Return how many ads of each type the pool's collector has; none if unreachable."""
    environment = {**clean_environment(), "CONDOR_CONFIG": config_file}
    try:
        said = subprocess.run(
            [program, "-any", "-af", "MyType"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    kinds = said.stdout.split() if said.returncode == 0 else []
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def log_tails(directory: str) -> str:
    """Return the end of each daemon's log, for a message."""
    parts = []
    for name in _LOGS:
        with contextlib.suppress(OSError):
            text = Path(directory, "log", name).read_text(errors="replace")
            lines = text.splitlines()[-_LOG_LINES:]
            if lines:
                parts.append("\n".join([f"--- {name}", *lines]))
    return "\n".join(parts) or "(nothing)"
