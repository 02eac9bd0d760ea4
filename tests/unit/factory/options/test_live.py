"""Options that change while the factory runs: those that may, and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport.errors import OptionError
from vine_sharedport.factory.options.config_file import check_free, in_force
from vine_sharedport.factory.options.live import LiveOptions
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.options.stored import write_config
from vine_sharedport.factory.report.paths import CONFIG

GIVEN = {"max_workers": 3, "schedd": "here", "env": {"A": "1"}}


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"cores": 2}))
    return path


def write(directory: Path, **values: object) -> None:
    write_config(str(directory / CONFIG), Options.make({**GIVEN, **values}))


def test_what_may_change_changes_and_the_rest_stays_as_it_began(tmp_path: Path) -> None:
    write(tmp_path)
    live = LiveOptions(str(tmp_path))
    assert not live.follow()
    write(tmp_path, max_workers=9, schedd="there", env={"A": "2"})
    assert live.follow()
    assert live.now == Options.make({**GIVEN, "max_workers": 9})
    assert not live.follow()


def test_a_file_that_changes_what_is_fixed_is_told_and_changes_nothing(
    tmp_path: Path, user_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, config_file=str(user_file))
    live = LiveOptions(str(tmp_path))
    before = live.now
    assert (before.cores, live.error) == (2, None)

    def change(**values: object) -> None:
        user_file.write_text(json.dumps({**values, "cores": 7}))
        assert live.follow()

    change(schedd="there")
    assert live.now == before
    assert re.search(naming("schedd", "'here'", "'there'"), live.error or "")
    assert "mine.json" in caplog.text
    change(schedd="here")
    assert (live.now.cores, live.now.schedd, live.error) == (7, "here", None)


@pytest.mark.parametrize("text", ["{", '{"max-workers": 0}', '{"max-wokers": 2}'])
def test_a_file_that_cannot_be_used_is_told_until_it_is_mended(
    tmp_path: Path, user_file: Path, text: str
) -> None:
    write(tmp_path, config_file=str(user_file))
    live = LiveOptions(str(tmp_path))
    before = live.now
    user_file.write_text(text)
    assert live.follow()
    assert live.now == before
    assert "mine.json" in (live.error or "")
    user_file.write_text(json.dumps({"max-workers": 8}))
    assert live.follow()
    assert (live.now.max_workers, live.error) == (8, None)


@pytest.mark.parametrize("broken", ["{x", '{"schedd": "there"}', None])
def test_while_a_file_cannot_be_used_what_held_before_is_told_and_nothing_is_taken(
    tmp_path: Path, user_file: Path, broken: str | None
) -> None:
    given = Options.make({**GIVEN, "config_file": str(user_file), "directory": str(tmp_path)})
    write_config(str(tmp_path / CONFIG), given)
    live = LiveOptions(str(tmp_path))
    user_file.rename(tmp_path / "away")
    assert in_force(given, running=True) == live.now
    user_file.write_text(json.dumps({"max-workers": 77}))  # another length: a change
    assert live.follow()
    if broken is None:
        user_file.unlink()
    else:
        user_file.write_text(broken)
    assert live.follow()
    assert live.now.max_workers == 77
    assert in_force(given, running=True) == live.now
    with pytest.raises(OptionError, match=naming("cores", user_file)):
        check_free(given, "cores", 5, running=True)
    check_free(given, "cores", 5)  # start() tells of the file
    user_file.write_text("{}")
    check_free(given, "cores", 5, running=True)
