"""The submit description of a factory's workers, from its options."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from vine_sharedport.bundle.package import LAUNCHER, launcher_path
from vine_sharedport.condor.bindings import periodic_interval
from vine_sharedport.condor.submit_description import (
    Commands,
    SubmitDescription,
    Verbatim,
    quote_path,
)
from vine_sharedport.condor.worker_job.description import describe_workers
from vine_sharedport.factory.options.preset import Preset, load_preset
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.submission.destination import Destination

__all__ = [
    "FACTORY_ATTRIBUTE",
    "LEASE_ATTRIBUTE",
    "MANAGER_ATTRIBUTE",
    "UNATTENDED",
    "WRAPPED",
    "Description",
    "DescriptionCache",
    "describe",
    "destination_of",
    "lease_time",
    "preset_of",
]

MANAGER_ATTRIBUTE = "VineSharedPort"
"""Attribute of each worker's job with its manager's sock id."""

FACTORY_ATTRIBUTE = "VineSharedPortFactory"
"""Attribute with the id of the factory that submitted it."""

LEASE_ATTRIBUTE = "VineSharedPortLease"
"""Attribute with the time, in seconds since 1970, up to which a factory has seen to it."""

UNATTENDED = "(JobStatus == 1 || JobStatus == 5)"
"""The jobs that a lease is for: those that wait, or are held.

A worker at work, suspended or on its way out ends by itself, and its shadow judges by a copy
of the ad in which no lease is renewed.
"""

_LEASE_LOOKS = 5
_LEAST_LEASE = 30
# A lease that has run out for so long all at once is one by a clock that is off by an hour,
# the schedd's or ours: it is renewed soon. After a day there is nobody who would.
_CLOCK_JUMP, _DAY = 2400, 86400

WRAPPED = "vine_sharedport_wrapped.sh"
"""File in the factory's directory that starts the wrapper, which starts the launcher."""


@dataclass(frozen=True)
class Description:
    """What is submitted.

    Attributes:
        job: The submit description.
        files: Files that it needs in the factory's directory: name and content.
        lease: Seconds for which a job that does not run stays without a factory.
        where: The place that it is for.
    """

    job: SubmitDescription
    files: Mapping[str, str]
    lease: int
    where: Destination

    @property
    def log(self) -> str | None:
        """The jobs' event log; None where the description says to have none."""
        log = self.job.commands.get("log")
        return log.replace("$(DOLLAR)", "$") if log else None

    @property
    def recipe(self) -> SubmitDescription:
        """The job without the lease, which is another one each time."""
        return self.job.without(f"My.{LEASE_ATTRIBUTE}")


def lease_time() -> int:
    """Return the seconds for which a job that does not run stays without a factory.

    The last resort, for when every process of ours was killed at once, as with the cgroup
    that they are in. Five times as long as the schedd takes between two looks at such
    conditions (PERIODIC_EXPR_INTERVAL, 60 s by default): then one that is slow to answer
    does not lose its jobs.
    """
    return max(_LEAST_LEASE, _LEASE_LOOKS * periodic_interval())


def preset_of(options: Options) -> Preset | None:
    """Return the preset that the options name."""
    return None if options.preset is None else load_preset(options.preset)


def destination_of(options: Options, preset: Preset | None = None) -> Destination:
    """Return the preset's place, with what the options name instead.

    Raises:
        SettingError: The two do not go together.
    """
    named = {name: getattr(options, name) for name in ("schedd", "pool", "spool", "grid")}
    return replace(
        preset.where if preset is not None else Destination(),
        **{name: value for name, value in named.items() if value},
    )


def describe(options: Options, directory: str, *, factory: str, now: float) -> Description:
    """Return what the factory would submit; writes and submits nothing.

    Args:
        options: Whose ``address`` says where the manager is.
        directory: The factory's, absolute.
        factory: The factory's id.
        now: Present time, in seconds since 1970; the lease begins then.

    Raises:
        SettingError: An option cannot be had, or a file is missing.
    """
    manager = options.reference
    preset = preset_of(options)
    where = destination_of(options, preset)
    given = _user_commands(options, preset)
    required = given.pop("requirements", None)
    job = describe_workers(
        manager,
        directory,
        options,
        more=_worker_options(options),
        inputs=options.wrapper_input,
        commands=given,
    )
    asked = _ask_for_slots(job.commands) if options.autosize else {}
    changes = {name: value for name, value in asked.items() if name not in given}
    needs = [required, options.condor_requirements, job.commands.get("requirements")]
    needs += [f'TARGET.Machine =!= "{name}"' for name in options.workers_blocked]
    found = [text for text in dict.fromkeys(needs) if text]
    if found:
        changes["requirements"] = " && ".join(
            text if text.startswith("(") and len(found) == 1 else f"({text})" for text in found
        )
    files: dict[str, str] = {}
    if options.wrapper is not None:
        # It is the job's program that HTCondor sends; the launcher goes with the inputs.
        files[WRAPPED] = f'#!/bin/sh\nexec {options.wrapper} /bin/sh ./{LAUNCHER} "$@"\n'
        changes["executable"] = quote_path(os.path.join(directory, WRAPPED))
        job = replace(job, inputs=(*job.inputs, launcher_path()))
    if options.debug_workers:
        changes["transfer_output_files"] = "worker.debug"
        place = os.path.join(quote_path(directory), "$(Cluster).$(Process).debug")
        changes["transfer_output_remaps"] = f'"worker.debug={place}"'
    changes[f"My.{FACTORY_ATTRIBUTE}"] = f'"{factory}"'
    lease = lease_time()
    changes[f"My.{LEASE_ATTRIBUTE}"] = str(int(now) + lease)
    over = f"(time() - {LEASE_ATTRIBUTE})"
    unseen = (
        f"{UNATTENDED} && {over} > 0 && ({over} < {_CLOCK_JUMP} || {over} > {_DAY}) && "
        f"time() - EnteredCurrentStatus > {lease}"
    )
    if where.grid is None:
        # The gridmanager judges by a copy of the ad, and hears of a renewed lease only if
        # that is sent as "dirty": then it asks for it in an endless loop (seen with 23.9).
        own = given.get("periodic_remove")
        changes["periodic_remove"] = f"({own}) || ({unseen})" if own else unseen
    job = where.adapt(job.with_commands(changes), directory, files)
    return Description(job, files, lease, where)


def _user_commands(options: Options, preset: Preset | None) -> Commands:
    """Return the preset's submit commands and the user's, which win."""
    lines = (line.split("=", 1) for line in options.batch_lines())
    found = Commands((name.strip(), value.strip()) for name, value in lines)
    found.update(options.commands)
    return found if preset is None else preset.commands(found)


def _worker_options(options: Options) -> list[str]:
    """Return the worker's options that ``describe_workers`` does not know."""
    found = []
    if options.autosize:
        # What the slot has, filled in by HTCondor when it is matched; the last one counts.
        found += ["--cores", Verbatim("$$(Cpus)"), "--memory", Verbatim("$$(Memory)")]
    if options.single_shot:
        found.append("--single-shot")
    if options.transfer_port:
        found += ["--transfer-port", options.transfer_port]
    if options.task_wrapper:
        found += ["--task-wrapper", options.task_wrapper]
    if options.factory_name:
        found += ["--from-factory", options.factory_name]
    for feature in options.feature:
        found += ["--feature", feature]
    if options.debug_workers:
        found += ["-d", "all", "-o", "worker.debug"]
    return found


def _ask_for_slots(commands: Commands) -> dict[str, str]:
    """Ask for whole slots, as batch_queue_condor.c does."""
    found = {}
    for name, total in (
        ("request_cpus", "TotalSlotCpus"),
        ("request_memory", "TotalSlotMemory"),
        ("request_disk", "TotalSlotDisk"),
    ):
        least = commands.get(name, "1")
        found[name] = f"ifThenElse({least} > {total}, {least}, {total})"
    return found


class DescriptionCache:
    """What would be submitted now; made anew when options change, and for the lease's sake.

    Args:
        directory: The factory's.
        factory: Its id.

    Attributes:
        last: What was returned last.
    """

    def __init__(self, directory: str, factory: str) -> None:
        self.last: Description | None = None
        self._directory = directory
        self._factory = factory
        self._made: tuple[Options, float] | None = None

    def get(self, options: Options) -> Description:
        """Return the description.

        Raises:
            SettingError: The workers cannot be described.
        """
        now = time.monotonic()
        if (
            self.last is None
            or self._made is None
            or self._made[0] is not options
            or now - self._made[1] > self.last.lease / 3
        ):
            self.last = describe(
                options, self._directory, factory=self._factory, now=time.time()
            )
            self._made = (options, now)
        return self.last
