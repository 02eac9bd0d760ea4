"""Where jobs go, and where nothing can go; nothing is submitted."""

from __future__ import annotations

import pytest

from vine_sharedport.errors import SettingError
from vine_sharedport.factory.submission.destination import Destination


@pytest.mark.parametrize(
    ("arguments", "kind", "resource"),
    [
        ({}, "local", None),
        ({"schedd": "ap1.example.org"}, "schedd", None),
        ({"schedd": "ap1.example.org", "pool": "cm.example.org:9620"}, "schedd", None),
        ({"schedd": "ap1.example.org", "spool": True}, "spool", None),
        ({"spool": True}, "spool", None),
        ({"grid": "ce ce.example.org"}, "ce", "condor ce.example.org ce.example.org:9619"),
        ({"grid": "CE ce.example.org:9"}, "ce", "condor ce.example.org ce.example.org:9"),
        ({"grid": "ce [2001:db8::1]"}, "ce", "condor [2001:db8::1] [2001:db8::1]:9619"),
        ({"grid": "condor-c  s@h  c:1"}, "condor", "condor s@h c:1"),
        ({"grid": "batch Slurm"}, "batch", "batch slurm"),
    ],
)
def test_places(arguments: dict[str, object], kind: str, resource: str | None) -> None:
    where = Destination(**arguments)  # type: ignore[arg-type]
    assert (where.kind, where.grid_resource) == (kind, resource)
    assert where.has_log == (kind in ("local", "ce", "condor", "batch"))
    assert where.knows_host == (resource is None)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"pool": "cm"}, "'condor_status -schedd -pool POOL'"),
        ({"schedd": "two words"}, "schedd is 'two words'"),
        ({"grid": ""}, "ce HOST, condor SCHEDD COLLECTOR, or batch"),
        ({"grid": "arc host"}, "ce HOST"),
        ({"grid": "condor schedd"}, "condor SCHEDD COLLECTOR"),
        ({"grid": "batch loadleveler"}, "slurm|pbs|sge|condor"),
        ({"grid": "batch slurm me@login"}, "'batch slurm me@login'"),
        ({"grid": "ce host:port"}, "HOST:PORT"),
        ({"grid": "batch slurm", "spool": True}, "'batch slurm'"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, object], found: str) -> None:
    with pytest.raises(SettingError, match=r".") as raised:
        Destination(**arguments)  # type: ignore[arg-type]
    assert found in str(raised.value)


@pytest.mark.parametrize(
    ("grid", "ad", "trouble"),
    [
        (None, {}, None),
        ("condor s c", {}, "not yet handed over to 'condor s c'"),
        ("condor s c", {"GridJobId": "condor s c 1.0"}, None),
        ("condor s c", {"GridResourceUnavailableTime": 1}, "cannot reach 'condor s c'"),
    ],
)
def test_what_a_job_waits_for(
    grid: str | None, ad: dict[str, object], trouble: str | None
) -> None:
    found = Destination(grid=grid).trouble(ad)
    assert found is None if trouble is None else trouble in str(found)
