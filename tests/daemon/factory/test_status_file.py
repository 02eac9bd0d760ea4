"""A real factory's status: stale where it cannot be written, small however many jobs wait."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.daemon.factory_helpers import SWIFT, drive
from vine_sharedport.errors import NoStatusError
from vine_sharedport.factory.report import paths, staleness

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")


def make_unwritable(place: Path) -> None:
    place.chmod(0o500)


def rename(place: Path) -> None:
    place.rename(f"{place}-2")


def replace_by_a_file(place: Path) -> None:
    rename(place)
    place.write_text("")


@pytest.mark.parametrize("how", [make_unwritable, rename, replace_by_a_file])
def test_a_reader_sees_that_the_status_is_stale(
    manager: Any, tmp_path: Path, how: Any, main: Any, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(staleness, "SLACK", 1.0)
    place = tmp_path / "factory"
    with vine.Factory("condor", manager=manager, directory=str(place), **SWIFT) as workers:
        drive(manager, lambda: workers.status().manager.reachable)

        def told() -> str:
            manager.wait(1)
            try:
                found = workers.status()
            except NoStatusError as error:
                return str(error)
            return found.message if found.phase == "stale" else ""

        how(place)
        try:
            said = helpers.wait_until(told, timeout=20)
            assert str(place) in said
            if how is make_unwritable:
                assert main("factory", "status", str(place)) == 0
                assert "Permission denied" in capsys.readouterr().out
        finally:
            if how is make_unwritable:
                place.chmod(0o700)
            else:
                place.unlink(missing_ok=True)
                os.rename(f"{place}-2", place)
        drive(manager, lambda: workers.status().phase != "stale")


@pytest.mark.parametrize("count", [40, 400])
def test_the_status_does_not_grow_with_the_jobs_that_wait(
    manager: Any, tmp_path: Path, count: int, main: Any, capsys: Any
) -> None:
    options = {**SWIFT, "min_workers": count, "max_workers": count}
    with vine.Factory(
        "condor", manager=manager, condor_requirements='Arch == "none"', **options
    ) as workers:
        drive(manager, lambda: workers.status().workers.idle == count)
        found = workers.status()
        assert len(found.jobs) + found.jobs_left_out == count
        assert os.path.getsize(os.path.join(workers.directory, paths.STATUS)) < 30_000
        assert main("factory", "status", workers.directory, "--json") == 0
        assert json.loads(capsys.readouterr().out)["workers"]["idle"] == count
