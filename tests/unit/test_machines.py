"""Which machines of a pool have a glibc that is too old."""

from __future__ import annotations

from typing import Any

import pytest

from vine_sharedport.pool.machines import glibc_of, older_systems


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
