"""A status that is not written any more is seen by its reader, and so is the reason."""

from __future__ import annotations

import dataclasses
import errno
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from vine_sharedport.factory.report.snapshot import Snapshot
from vine_sharedport.factory.report.staleness import marked_if_stale, why_not_written

NOW = time.time()
SNAPSHOT = Snapshot(
    time=NOW - 40, factory="c" * 32, pid=1, state="running", message="well", directory="/d",
    phase="enough", due=NOW - 5,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        ({}, True),
        ({"due": NOW + 86400}, False),  # it may take minutes until this test's turn
        ({"due": 0.0}, False),
        ({"state": "ending"}, False),
        ({"state": "ended"}, False),
    ],
)
def test_a_status_is_stale_when_the_next_one_is_late(
    tmp_path: Path, changes: dict[str, Any], stale: bool
) -> None:
    given = dataclasses.replace(SNAPSHOT, **changes)
    found = marked_if_stale(given, str(tmp_path))
    assert (found.phase == "stale") is stale
    assert (found == given) is not stale
    if stale:
        assert str(tmp_path) in found.message


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_the_reason_is_what_a_trial_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    assert why_not_written(str(tmp_path)) is None

    def full(**_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    found = marked_if_stale(SNAPSHOT, str(tmp_path)).message
    assert os.strerror(number) in found
    assert str(tmp_path) in found


def test_a_directory_that_is_gone_is_the_reason(tmp_path: Path) -> None:
    assert os.strerror(errno.ENOENT) in marked_if_stale(SNAPSHOT, str(tmp_path / "no")).message
    assert os.listdir(tmp_path) == []
