"""The working directory has a name also when it was removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vine_sharedport.working_directory import absolute, is_removed, working_directory


@pytest.mark.parametrize("name", ["plain", "two words", "x (deleted)", "it's"])
def test_a_directory_keeps_its_name_when_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    place = tmp_path / name
    place.mkdir()
    monkeypatch.chdir(place)
    assert (working_directory(), is_removed()) == (str(place), False)
    os.rmdir(place)
    assert (working_directory(), is_removed()) == (str(place), True)
    assert absolute("a/../b") == str(place / "b")
    assert absolute("/c/") == "/c"
