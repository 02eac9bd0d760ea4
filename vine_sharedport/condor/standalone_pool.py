"""Personal pools that run until they are stopped, for all of a user's shells."""

from __future__ import annotations

import os
import re
import shlex
import time
from typing import Any

from vine_sharedport.condor.personal import POLL_INTERVAL, START_TIMEOUT, PersonalPool
from vine_sharedport.condor.personal_pool import guardian
from vine_sharedport.condor.personal_pool.directory import (
    TakenError,
    command,
    default_directory,
    record,
)
from vine_sharedport.errors import PoolError
from vine_sharedport.trusted_files import absolute

__all__ = ["shell_text", "start_pool", "stop_pool", "usage_text"]


def start_pool(
    directory: str | os.PathLike[str] | None = None,
    *,
    cpus: int | None = None,
    memory: int | None = None,
) -> PersonalPool:
    """Start a pool that stands alone, or find it running: it runs until ``stop_pool``.

    Args:
        directory: By default ``default_directory()``.
        cpus: See ``PersonalPool``.
        memory: See ``PersonalPool``.

    Raises:
        PoolError: It does not start, a program's own pool runs there, or one with other
            ``cpus`` or ``memory`` than are asked for.
    """
    place = default_directory() if directory is None else absolute(directory)
    wanted = PersonalPool(place, cpus=cpus, memory=memory, detach=True)
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            return wanted.start()
        except TakenError:
            state = guardian.read_state(place)
            if state.get("owner") is not None or time.monotonic() > deadline:
                raise
            if guardian.noted_process(state, "master") is None:
                time.sleep(POLL_INTERVAL)  # it is just starting, or ending
                continue
        running = PersonalPool.find(place)
        _check_same(place, state, cpus=cpus, memory=memory)
        running.wait_until_ready(max(0.0, deadline - time.monotonic()))
        record(place)
        return running


def _check_same(place: str, state: dict[str, Any], **wanted: int | None) -> None:
    """Refuse a running pool that is not as it is asked for."""
    for name, value in wanted.items():
        if value is not None and state.get(name, value) != value:
            options = "".join(f" --{n} {v}" for n, v in wanted.items() if v is not None)
            has = "all there is" if state[name] is None else state[name]
            raise PoolError(
                f"the pool that runs in {place} was started with {name} {has}, wanted is "
                f"{value}; for another one: {command('stop', place)} && "
                f"{command('start', place)}{options}"
            )


def stop_pool(directory: str | os.PathLike[str] | None = None) -> bool:
    """Stop the pool in a directory, whoever started it, and wait for its end.

    Returns:
        Whether there was one.

    Raises:
        PoolError: A process of it could not be killed.
    """
    place = default_directory() if directory is None else absolute(directory)
    state = guardian.read_state(place)
    if not state:
        return False
    guardian.stop_processes(place, state)
    return True


def usage_text(pool: PersonalPool) -> str:
    """Return what to tell the user of a pool that stands alone."""
    said = [f"A personal HTCondor pool runs in {pool.directory}, until it is stopped."]
    other = os.environ.get("CONDOR_CONFIG", pool.config_file)
    if other == pool.config_file:
        said.append("Every vine_sharedport command finds it. For condor_q and the like:")
    else:
        said.append(f"In this shell CONDOR_CONFIG={other} wins. To use the pool here:")
    said.append(f'  eval "$({command("env", pool.directory)})"')
    said.append(f"See it:   {command('status', pool.directory)}")
    said.append(f"Stop it:  {command('stop', pool.directory)}")
    return "\n".join(said)


def shell_text(pool: PersonalPool) -> str:
    """Return commands for a POSIX shell, in which HTCondor's tools then use this pool."""
    lines = [f"export {name}={shlex.quote(path)}" for name, path in pool.environment.items()]
    # They would win over the pool's own settings.
    names = [name for name in os.environ if re.fullmatch(r"_CONDOR_\w+", name, re.I | re.A)]
    if names:
        lines.append(f"unset {' '.join(names)}")
    known = os.environ.get("PATH", "").split(os.pathsep)
    missing = [d for d in dict.fromkeys(pool.programs) if d not in known]
    if missing:
        lines.append(f'export PATH="${{PATH:+$PATH:}}"{shlex.quote(os.pathsep.join(missing))}')
    return "\n".join(lines)
