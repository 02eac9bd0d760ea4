"""What a factory's directory keeps of where its jobs are."""

from __future__ import annotations

from pathlib import Path

import pytest

from vine_sharedport.errors import SettingError
from vine_sharedport.factory.submission.destination import Destination
from vine_sharedport.factory.submission.location import JobLocation


@pytest.mark.parametrize(
    "place",
    [
        JobLocation("m", Destination(), "workers.log", 300),
        JobLocation("m", Destination(schedd="ap7", pool="cm", spool=True), None, 30),
        JobLocation("m", Destination(grid="batch slurm"), "workers.log", 30),
    ],
)
def test_what_is_kept_is_found(place: JobLocation, tmp_path: Path) -> None:
    assert JobLocation.read(str(tmp_path)) is None
    place.write(str(tmp_path))
    assert JobLocation.read(str(tmp_path)) == place


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '{"manager": "m", "where": {"grid": "x"}, "log": null, "lease": 1}'],
)
def test_what_is_something_else_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "place.json").write_text(text)
    with pytest.raises(SettingError, match=r"place\.json.* condor_rm"):
        JobLocation.read(str(tmp_path))
