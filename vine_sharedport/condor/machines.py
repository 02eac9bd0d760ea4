"""What a pool's machines tell of themselves: their size, and the age of their C library.

No machine tells its glibc's version: not HTCondor's own attributes (23 to 25), and not what
the OSPool's glideins add. What they tell is the distribution, whose glibc is known.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vine_sharedport.condor import bindings
from vine_sharedport.condor.submit_description import Commands

__all__ = [
    "TooLarge",
    "glibc_of",
    "older_systems",
    "query_older_systems",
    "query_too_large",
    "too_large",
]

log = logging.getLogger(__name__)

# The OSPool's glideins tell the system that a job sees, inside the default container; the
# startd's own attributes are of the system that the startd runs in.
_ATTRIBUTES = (("OSGVO_OS_NAME", "OSGVO_OS_VERSION"), ("OpSysName", "OpSysMajorVer"))

# Distribution, by HTCondor's or the OSPool's name in lower case, and major version.
_ENTERPRISE = {7: (2, 17), 8: (2, 28), 9: (2, 34), 10: (2, 39)}
_GLIBC: dict[str, dict[int, tuple[int, int]]] = {
    **dict.fromkeys(
        ("redhat", "rhel", "centos", "almalinux", "rocky", "sl", "slcern", "slfermi"),
        _ENTERPRISE,
    ),
    "amazonlinux": {2: (2, 26), 2023: (2, 34)},
    "debian": {10: (2, 28), 11: (2, 31), 12: (2, 36), 13: (2, 41)},
    "ubuntu": {18: (2, 27), 20: (2, 31), 22: (2, 35), 24: (2, 39)},
}


def glibc_of(name: str, version: str | int) -> tuple[int, int] | None:
    """Return the glibc of a distribution; None if it is not known.

    Args:
        name: As a machine's ``OpSysName`` or ``OSGVO_OS_NAME`` has it.
        version: As its ``OpSysMajorVer`` or ``OSGVO_OS_VERSION`` has it.
    """
    major = str(version).partition(".")[0]
    if not major.isdecimal():
        return None
    return _GLIBC.get(name.lower().replace(" ", ""), {}).get(int(major))


def older_systems(
    ads: Iterable[Mapping[str, Any]], needed: tuple[int, int]
) -> dict[str, tuple[int, tuple[int, int]]]:
    """Return the systems whose glibc is older: how many slots have each, and its glibc.

    Args:
        ads: Slots' ads. Those that tell no system, or one not known, count as new enough.
        needed: Oldest glibc that will do.
    """
    slots: Counter[str] = Counter()
    versions: dict[str, tuple[int, int]] = {}
    for ad in ads:
        for name, version in _ATTRIBUTES:
            if ad.get(name) is None or ad.get(version) is None:
                continue
            glibc = glibc_of(str(ad[name]), str(ad[version]))
            if glibc is not None and glibc < needed:
                system = f"{ad[name]} {str(ad[version]).partition('.')[0]}"
                slots[system] += 1
                versions[system] = glibc
            break
    return {system: (count, versions[system]) for system, count in slots.most_common()}


def query_older_systems(
    htcondor2: Any, needed: tuple[int, int]
) -> tuple[int, dict[str, tuple[int, tuple[int, int]]]]:
    """Ask the pool: how many slots it has, and ``older_systems`` of them.

    A collector that does not answer says nothing, and is no error here.
    """
    try:
        ads = htcondor2.Collector().query(
            htcondor2.AdType.Startd,
            constraint='SlotType =!= "Dynamic"',
            projection=[name for names in _ATTRIBUTES for name in names],
        )
    except bindings.failures(htcondor2) as error:
        log.debug("the collector does not tell the pool's machines: %s", error)
        return 0, {}
    return len(ads), older_systems(ads, needed)


# What a submit description asks for, the option that says so, what a slot has of it when
# nothing runs there, how that is called, and how many make one of the option's.
_SIZES = (
    ("request_cpus", "cores", "TotalSlotCpus", "cores", 1),
    ("request_memory", "memory", "TotalSlotMemory", "MB of memory", 1),
    ("request_disk", "disk", "TotalSlotDisk", "MB of disk", 1024),
    ("request_gpus", "gpus", "TotalSlotGPUs", "GPUs", 1),
)


@dataclass(frozen=True)
class TooLarge:
    """What a job asks for and no machine has.

    Attributes:
        explanation: In words.
        option: What asks for it: cores, memory, disk or gpus.
        most: What to ask for at most.
    """

    explanation: str
    option: str
    most: int


def query_too_large(
    htcondor2: Any, commands: Commands, pool: str | None = None
) -> TooLarge | None:
    """Ask the pool whether a machine is large enough for a job, were it free.

    Args:
        htcondor2: The bindings.
        commands: The job's. Only what they ask for by numbers counts.
        pool: The collector; this host's by default.

    Returns:
        None if one is, or nobody can tell: the collector does not answer, or knows no slot.
    """
    try:
        ads = htcondor2.Collector(pool).query(
            htcondor2.AdType.Startd,
            constraint='SlotType =!= "Dynamic"',
            projection=[has for _, _, has, _, _ in _SIZES],
        )
    except bindings.failures(htcondor2) as error:
        log.debug("the collector does not tell the pool's machines: %s", error)
        return None
    return too_large(ads, commands)


def too_large(ads: Iterable[Mapping[str, Any]], commands: Commands) -> TooLarge | None:
    """Return what no slot of these has, as ``query_too_large``."""
    slots = list(ads)
    for command, option, has, words, unit in _SIZES:
        asked = commands.get(command, "").strip()
        wanted = int(asked) if asked.isdecimal() else 0
        # Machines without GPUs do not speak of them; of the rest all have something.
        none = 0 if option == "gpus" else wanted
        most = max((int(ad.get(has, none)) for ad in slots), default=wanted)
        if wanted > most:
            return TooLarge(
                f"no machine of the pool has {-(-wanted // unit)} {words}, which each worker "
                f"asks for; the largest has {most // unit}",
                option,
                most // unit,
            )
    return None
