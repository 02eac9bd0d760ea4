"""Which machines of a pool have a glibc that is too old."""

from __future__ import annotations

from typing import Any

import pytest

from vine_sharedport.condor.machines import glibc_of, older_systems, too_large
from vine_sharedport.condor.submit_description import Commands


@pytest.mark.parametrize(
    ("name", "version", "glibc"),
    [
        ("AlmaLinux", 8, (2, 28)),
        ("RedHat", 9, (2, 34)),
        ("RHEL", "9", (2, 34)),  # the OSPool's word
        ("RHEL", "7.9", (2, 17)),
        ("UBUNTU", "22", (2, 35)),
        ("Debian", 13, (2, 41)),
        ("Debian", 99, None),
        ("Plan 9", 4, None),
        ("Debian", "sid", None),
    ],
)
def test_a_distribution_has_a_glibc(name: str, version: Any, glibc: Any) -> None:
    assert glibc_of(name, version) == glibc


def test_only_machines_that_tell_an_older_system_are_counted() -> None:
    ads = [
        {"OpSysName": "AlmaLinux", "OpSysMajorVer": 8},
        {"OpSysName": "AlmaLinux", "OpSysMajorVer": 8},
        {"OpSysName": "AlmaLinux", "OpSysMajorVer": 10},
        {"OpSysName": "Somewhat", "OpSysMajorVer": 1},
        {},
    ]
    assert older_systems(ads, (2, 38)) == {"AlmaLinux 8": (2, (2, 28))}
    assert older_systems(ads, (2, 28)) == {}


def test_the_system_that_the_job_sees_goes_before_the_startds() -> None:
    ads = [
        {
            "OpSysName": "AlmaLinux", "OpSysMajorVer": 8,
            "OSGVO_OS_NAME": "UBUNTU", "OSGVO_OS_VERSION": "24",
        },
        {
            "OpSysName": "Ubuntu", "OpSysMajorVer": 24,
            "OSGVO_OS_NAME": "RHEL", "OSGVO_OS_VERSION": "9",
        },
    ]  # fmt: skip
    assert older_systems(ads, (2, 38)) == {"RHEL 9": (1, (2, 34))}


SLOTS: list[dict[str, Any]] = [
    {"TotalSlotCpus": 2, "TotalSlotMemory": 3000, "TotalSlotDisk": 10 << 20},
    {"TotalSlotCpus": 8, "TotalSlotMemory": 1000, "TotalSlotDisk": 10 << 20},
]


@pytest.mark.parametrize(
    ("asked", "option", "most"),
    [
        ({"request_cpus": 64}, "cores", 8),
        ({"Request_Memory": 4000, "request_cpus": " 64 "}, "cores", 8),
        ({"request_cpus": 8, "request_memory": 3001}, "memory", 3000),
        ({"request_disk": 11 << 20}, "disk", 10 << 10),
        ({"request_gpus": 1}, "gpus", 0),
    ],
)
def test_what_no_slot_has_is_told_with_the_most_that_there_is(
    asked: dict[str, Any], option: str, most: int
) -> None:
    found = too_large(SLOTS, Commands(asked))
    assert found is not None
    assert (found.option, found.most) == (option, most)


@pytest.mark.parametrize(
    ("slots", "asked"),
    [
        (SLOTS, {"request_cpus": 8, "request_memory": 3000}),
        (SLOTS, {"request_cpus": "ifThenElse(1 > 64, 1, 64)", "request_memory": "4 GB"}),
        ([{}], {"request_cpus": 64}),
        ([], {"request_cpus": 64}),
    ],
)
def test_what_a_slot_may_have_is_not_told(
    slots: list[dict[str, Any]], asked: dict[str, Any]
) -> None:
    assert too_large(slots, Commands(asked)) is None
