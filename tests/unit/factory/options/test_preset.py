"""Presets: those that come along, the user's own, and wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport.errors import SettingError
from vine_sharedport.factory.jobs.description import destination_of
from vine_sharedport.factory.options import preset
from vine_sharedport.factory.options.preset import load_preset, preset_names, user_directory
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.submission.destination import Destination


def test_each_preset_is_one_that_the_factory_takes() -> None:
    assert preset_names() == ["ce", "ospool", "personal", "pool"]
    for name in preset_names():
        loaded = load_preset(name)
        Options.make(loaded.factory)
        assert loaded.commands({"+ProjectName": '"P"'})["+ProjectName"] == '"P"'


def test_the_ospool_preset_asks_for_what_the_ospool_wants(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path), {})
    monkeypatch.setattr(preset, "find_project", lambda: "Mine")
    loaded = load_preset("ospool")
    assert loaded.commands() == {
        "+ProjectName": '"Mine"',
        "+JobDurationCategory": '"Medium"',
    }
    assert loaded.commands({"My.JobDurationCategory": '"Long"'}) == {
        "+ProjectName": '"Mine"',
        "My.JobDurationCategory": '"Long"',
    }
    assert Options.make(loaded.factory).max_idle
    assert loaded.base_directory == f"{tmp_path}/vine_sharedport"


@pytest.fixture
def own_presets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path), {})
    directory = user_directory()
    directory.mkdir(parents=True)
    return directory


def test_a_preset_of_the_users_own_wins_by_its_name(own_presets: Path) -> None:
    (own_presets / "pool.ini").write_text("[where]\nschedd = mine\nspool = yes\n")
    (own_presets / "site.ini").write_text("[factory]\nmax-workers = 7\n")
    assert load_preset("pool").where == Destination(schedd="mine", spool=True)
    assert load_preset("site").factory == {"max_workers": "7"}
    assert "site" in preset_names()
    path = own_presets.parent / "x.ini"
    path.write_text('[submit]\n+Department = "A # B"\nrequirements = (A == 1) && B\n')
    assert load_preset(str(path)).commands({"Requirements": "C"}) == {
        "+Department": '"A # B"',
        "Requirements": "C",
    }


def test_what_the_user_names_comes_instead_of_the_presets_place(own_presets: Path) -> None:
    (own_presets / "site.ini").write_text("[where]\nschedd = s\npool = c\n")
    site = load_preset("site")
    assert destination_of(Options(), site) == Destination(schedd="s", pool="c")
    assert destination_of(Options(schedd="t", spool=True), site) == Destination(
        "t", "c", spool=True
    )
    assert destination_of(Options(schedd="t")) == Destination("t")
    with pytest.raises(SettingError, match=naming("'batch slurm'")):
        destination_of(Options(grid="batch slurm", spool=True), site)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[where]\n\ngrid = arc x\n", ("line 1", "[where]", "'arc x'")),
        ("[where]\nspool = perhaps\n", ("[where]", "spool", "'perhaps'")),
        ("[where]\n\nhost = x\n", ("line 3", "[where] host")),
        ("[manager]\ntcp = off\n", ("line 1", "[manager]")),
        ("[factory]\nmax-worker = 7\n", ("line 2", "[factory] max-worker")),
        ("[factory]\n\n\nmax-workers = many\n", ("line 4", "[factory] max-workers", "'many'")),
        ("\n[jobs]\na = 1\n", ("line 2", "[jobs]")),
        ("a = 1\n", ("INI",)),
        ("[submit]\na\n", ("INI",)),
        ("[submit]\na = 1\na = 2\n", ("INI",)),
        ("[submit]\na = 1\n  more\n", ("line 2", "[submit] a")),
    ],
)
def test_a_wrong_preset_is_named_with_its_line(
    own_presets: Path, text: str, values: tuple[str, ...]
) -> None:
    path = own_presets / "wrong.ini"
    path.write_text(text)
    with pytest.raises(SettingError) as raised:
        load_preset("wrong")
    for value in (str(path), *values):
        assert value in str(raised.value)


def test_a_preset_that_is_not_there_is_named_with_those_that_are(own_presets: Path) -> None:
    with pytest.raises(SettingError, match=r"'osgpool'.*ce, ospool, personal, pool"):
        load_preset("osgpool")
    with pytest.raises(SettingError, match=naming("nowhere.ini")):
        load_preset("./nowhere.ini")
    (own_presets / "binary.ini").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingError, match=naming(own_presets / "binary.ini")):
        load_preset("binary")
