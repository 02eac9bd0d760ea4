"""A factory's options as JSON: written for the owner alone, read with care."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vine_sharedport.errors import SettingError
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.options.stored import (
    format_config,
    parse_config,
    read_config,
    write_config,
)


def made(**values: Any) -> Options:
    return Options.make(values)


def test_a_configuration_of_vine_factory_is_read() -> None:
    """What Factory._write_config() of ndcctools writes, and older names."""
    text = json.dumps({
        "manager-name": "sweep", "max-workers": 20, "min-workers": 2, "timeout": 600,
        "workers-per-cycle": 0, "autosize": 1, "capacity": 0, "cores": 2, "memory": 1024,
        "disk": 2048.5, "tasks-per-worker": 4, "factory-timeout": 60,
        "condor-requirements": "(HasX)", "worker-extra-options": "--idle 3",
        "workers-blocked": "a b", "transfer-port": "1000",
    })  # fmt: skip
    options = parse_config(text)
    assert (options.max_workers, options.autosize, options.capacity) == (20, True, False)
    assert (options.disk, options.extra_options) == (2049, "--idle 3")
    assert parse_config('{"master-name": "old"}').manager_name == "old"


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "max_workers": st.integers(1, 1000),
        "cores": st.none() | st.integers(1, 64),
        "ssl": st.booleans(),
        "cycle": st.floats(0.1, 1000),
        "env": st.dictionaries(
            st.from_regex(r"[A-Z_]+", fullmatch=True),
            st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])),
        ),
        "commands": st.dictionaries(st.from_regex(r"[a-d]+", fullmatch=True), st.just("1")),
        "feature": st.lists(st.from_regex(r"[a-z]+", fullmatch=True)),
        "batch_options": st.from_regex(r"([a-h]+ = [a-z]*\\?\n)*", fullmatch=True).map(
            lambda text: text.replace("\\", "\\n")
        ),
        "condor_requirements": st.lists(st.just("A"), max_size=3),
        "wrapper": st.lists(st.sampled_from(["a", "b"]), max_size=3),
    },
)


@given(VALUES)
def test_what_is_written_is_what_is_read(values: dict[str, Any]) -> None:
    options = Options.make(values)
    assert parse_config(format_config(options)) == options
    assert Options.make(dataclasses.asdict(options)) == options


def test_a_file_is_for_its_owner_alone_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write_config(str(path), made(max_workers=7))
    write_config(str(path), made(max_workers=8, env={"TOKEN": "x"}))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_config(str(path)).max_workers == 8
    assert json.loads(path.read_text()) == {
        "schema": 1,
        "max-workers": 8,
        "env": {"TOKEN": "x"},
    }
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"{", "JSON"), (b"[]", " list.*JSON"), (b"[" * 100_000, "JSON"),
        (b'{"max-workers": 2*3}', "JSON.*JX"), (b"\xff", "can't decode"),
        (b" " * (2 << 20), str(1 << 20)), (b'{"max-wokers": 2}', "max-wokers.*max-workers"),
        (b'{"max-workers": {}}', "max_workers.*{}"), (b'{"foremen-name": "x"}', "foremen-name"),
    ],
)  # fmt: skip
def test_a_bad_file_is_named_with_the_reason(tmp_path: Path, data: bytes, found: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data)
    with pytest.raises(SettingError, match=rf"(?s)config\.json.*{found}"):
        read_config(str(path))


def test_a_file_that_is_not_there_or_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"nothing\.json.*No such file"):
        read_config(str(tmp_path / "nothing.json"))
    with pytest.raises(SettingError, match=r"none/a\.json: No such file"):
        write_config(str(tmp_path / "none" / "a.json"), Options())
