"""The owner's name, as HTCondor has it."""

from __future__ import annotations

import os
import pwd
from types import SimpleNamespace

import pytest

from vine_sharedport.condor.manager_job import job as manager_job
from vine_sharedport.condor.personal_pool.user import login_name, owner
from vine_sharedport.errors import SettingError


@pytest.mark.parametrize(
    ("login", "cut", "constraint"),
    [
        ("ann", "ann", 'Owner is "ann"'),
        ("ann@site.org", "ann", 'Owner is "ann"'),
        ("ann lee", "ann lee", 'Owner is "ann lee"'),
        ("SITE\\ann", "SITE\\ann", 'Owner is "SITE\\ann"'),
        ("o'neil", "o'neil", 'Owner is "o\'neil"'),
    ],
)
def test_the_owner_of_jobs_follows_from_the_login_name(
    monkeypatch: pytest.MonkeyPatch, login: str, cut: str, constraint: str
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda _: SimpleNamespace(pw_name=login))
    assert (login_name(), owner()) == (login, cut)
    assert manager_job._mine() == constraint


def test_a_user_id_without_a_name_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 3999999999)
    for what in (login_name, owner, manager_job._mine):
        with pytest.raises(SettingError, match="3999999999"):
            what()
