"""A factory's directory and its manager's lock: one factory at a time."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

import pytest

from vine_sharedport.errors import SettingError
from vine_sharedport.factory.report import paths


def test_a_directory_has_one_factory_at_a_time_and_one_id(tmp_path: Path) -> None:
    directory = str(tmp_path)
    assert paths.is_running(directory) is None
    lock = paths.lock_directory(directory)
    assert lock is not None
    try:
        assert paths.is_running(directory) is True
        assert paths.lock_directory(directory) is None
    finally:
        os.close(lock)
    assert paths.is_running(directory) is False
    first = paths.factory_id(directory)
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert paths.factory_id(directory) == first
    (tmp_path / "factory.id").write_text('" || true')
    # With another id the jobs that are there would be others'.
    with pytest.raises(SettingError, match=r"factory\.id.* condor_rm"):
        paths.factory_id(directory)


@pytest.mark.true_uid
def test_only_one_factory_of_a_manager_submits_at_a_time() -> None:
    name = f"test_{uuid.uuid4().hex}"
    with paths.manager_lock(name) as first:
        assert first is True
        with paths.manager_lock(name) as second:
            assert second is False
        with paths.manager_lock(name + "x") as other:
            assert other is True
    with paths.manager_lock(name) as again:
        assert again is True
