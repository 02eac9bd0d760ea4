"""A user's own file of options: what it says holds, and a broken one changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport.errors import OptionError, SettingError
from vine_sharedport.factory.options.config_file import check_free, in_force, keep
from vine_sharedport.factory.options.schema import Options


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"max-workers": 7}))
    return path


def options(file: Path, **values: object) -> Options:
    return Options.make(
        {"config_file": str(file), "directory": str(file.parent), "cores": 2, **values}
    )


def test_without_a_file_what_is_given_holds() -> None:
    given = Options(cores=2)
    assert in_force(given) == given
    check_free(given, "cores", 3)


def test_what_the_file_says_wins_and_the_rest_stays(file: Path) -> None:
    found = in_force(options(file, max_workers=3))
    assert (found.max_workers, found.cores) == (7, 2)


@pytest.mark.parametrize("text", ["{", '{"max-wokers": 2}', None])
def test_a_file_that_cannot_be_used_changes_nothing(file: Path, text: str | None) -> None:
    given = options(file, max_workers=3)
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    assert in_force(given) == given
    keep(Options.make({"max_workers": 9}, base=given), str(file.parent))
    assert in_force(given) == given, "nothing runs"
    assert in_force(given, running=True).max_workers == 9, "what held before"


def test_where_nothing_was_kept_what_is_given_holds(file: Path) -> None:
    given = options(file)
    keep(Options(cores=5), str(file.parent))  # of a factory without a file
    file.write_text("{")
    assert in_force(given, running=True) == given


def test_an_option_that_the_file_has_cannot_be_set_beside_it(file: Path) -> None:
    given = options(file)
    check_free(given, "cores", 3)
    check_free(given, "max_workers", 7)
    with pytest.raises(OptionError, match=naming("max_workers", 7, 8, file)):
        check_free(given, "max_workers", 8)
    with pytest.raises(SettingError, match=naming("'many'")):
        check_free(given, "max_workers", "many")


def test_while_it_is_broken_nothing_is_set_in_a_factory_that_runs(file: Path) -> None:
    given = options(file)
    file.write_text("{")
    check_free(given, "max_workers", 8)  # start() tells
    with pytest.raises(OptionError, match=naming("max_workers", file)):
        check_free(given, "max_workers", 8, running=True)
    check_free(given, "schedd", "s", running=True)  # which cannot change anyway
