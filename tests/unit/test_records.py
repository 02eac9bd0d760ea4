"""Records that one process of ours reads from another's JSON."""

from __future__ import annotations

import enum
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.values import naming
from vine_sharedport.condor.manager_job.status import ManagerJob
from vine_sharedport.condor.personal_pool import guardian
from vine_sharedport.condor.personal_pool.status import pool_status
from vine_sharedport.condor.shared_port_check import Checked
from vine_sharedport.errors import NoStatusError, SettingError, SharedPortError
from vine_sharedport.events import PorterEnded
from vine_sharedport.factory.find import Found
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.options.stored import format_config, parse_config
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.snapshot import Snapshot
from vine_sharedport.factory.submission.location import JobLocation
from vine_sharedport.records import SCHEMA, as_dict, decode, encode, read
from vine_sharedport.registry.reference import Reference
from vine_sharedport.registry.run_file import RUN_FILE, read_run_file


class Colour(enum.Enum):
    RED = "red"
    TWO = 2


@dataclass(frozen=True)
class Inner:
    size: int
    ok: bool = True


@dataclass(frozen=True)
class Record:
    name: str
    time: float = 0.0
    inner: Inner = field(default_factory=lambda: Inner(1))
    more: tuple[Inner, ...] = ()
    pair: tuple[int, str] | None = None
    texts: list[str] = field(default_factory=list)
    table: dict[str, int] = field(default_factory=dict)
    colour: Colour = Colour.RED
    maybe: Optional[int] = None  # noqa: UP045

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise SettingError(("name", "bad"))


FULL = {
    "name": "n", "time": 3, "inner": {"size": 2, "ok": False}, "more": [{"size": 3}],
    "pair": [1, "x"], "texts": ["a"], "table": {"k": 1}, "colour": 2, "maybe": None,
}  # fmt: skip


def test_each_kind_of_value_is_read() -> None:
    record = decode(Record, {**FULL, "schema": 1})
    assert record == Record(
        "n", 3.0, Inner(2, False), (Inner(3),), (1, "x"), ["a"], {"k": 1}, Colour.TWO, None
    )
    assert isinstance(record.time, float)
    assert decode(Record, {"name": "n"}) == Record("n")


@pytest.mark.parametrize(
    ("change", "values"),
    [
        ({"name": 1}, ("name", "1")),
        ({"name": "\ud800"}, ("name",)),
        ({"name": "bad"}, ("name", "bad")),
        ({"time": "x"}, ("time", "'x'")),
        ({"time": True}, ("time", "True")),
        ({"time": 10**400}, ("time", "inf")),
        ({"time": float("nan")}, ("time", "nan")),
        ({"inner": {}}, ("inner.size",)),
        ({"inner": {"size": 1.0}}, ("inner.size", "1.0")),
        ({"inner": None}, ("inner", "None")),
        ({"more": [{"size": 1}, 5]}, ("more[1]", "5")),
        ({"more": "12"}, ("more", "'12'")),
        ({"pair": [1]}, ("pair", "2")),
        ({"table": {"k": "v"}}, ("table", "'v'")),
        ({"colour": "blue"}, ("colour", "'blue'", "2")),
        ({"colour": []}, ("colour", "[]", "2")),
        ({"maybe": "1"}, ("maybe", "'1'")),
        ({"schema": 2}, ("2", "1")),
        ({"schema": True}, ("True", "1")),
    ],
)
def test_what_is_wrong_is_named_with_its_value(
    change: dict[str, Any], values: tuple[str, ...]
) -> None:
    for error in (SettingError, NoStatusError):
        with pytest.raises(error, match=naming(*values)) as caught:
            decode(Record, {**FULL, **change}, error=error)
        assert len(str(caught.value)) < 200


def test_unknown_keys_are_passed_over_or_refused() -> None:
    assert decode(Inner, {"size": 1, "new": 2}) == Inner(1)
    with pytest.raises(SettingError, match=naming("'new'", "size", "ok")):
        decode(Inner, {"size": 1, "new": 2}, refuse_unknown=True)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_text(encode(Inner(5)))
    assert json.loads(path.read_text()) == {"schema": 1, "size": 5, "ok": True}
    assert read(Inner, str(path)) == Inner(5)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b"\xff", b"9" * 5000, b"x" * 99]
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record"
    path.write_bytes(content)
    with pytest.raises(NoStatusError):
        read(Inner, str(path), limit=200_000, error=NoStatusError)


def test_a_file_that_is_too_long_or_anothers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record"
    path.write_text(encode(Inner(5)))
    with pytest.raises(SettingError, match=naming(10)):
        read(Inner, str(path), limit=10)
    monkeypatch.setattr(os, "getuid", lambda: -1)
    with pytest.raises(SettingError):
        read(Inner, str(path), private=True)
    assert read(Inner, str(path)) == Inner(5)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("kind", [Record, Reference, JobLocation, Snapshot])
@given(data=st.data())
def test_whatever_it_holds_only_the_documented_error_comes(
    kind: type, data: st.DataObject
) -> None:
    names = [*kind.__dataclass_fields__, "schema"]  # type: ignore[attr-defined]
    values = data.draw(_JSON | st.dictionaries(st.sampled_from(names), _JSON))
    try:
        made = decode(kind, values, error=NoStatusError)
    except NoStatusError:
        return
    assert isinstance(made, kind)
    assert decode(kind, json.loads(encode(made))) == made


def test_every_object_that_we_write_has_the_schema(tmp_path: Path) -> None:
    job = ManagerJob("m", 1, "idle", 0.0, 0.0, "p", "/", "/none", "/none", "/none")
    snapshot = Snapshot(1.0, "f" * 32, 7, "running", "", "/x")
    found = [
        snapshot.as_dict(),
        Found("/x", snapshot, running=True).as_dict(),
        job.as_dict(),
        Checked(None, "why").as_dict(),
        PorterEnded("vine_1").as_dict(),
        as_dict(pool_status(str(tmp_path))),
        json.loads(format_config(Options())),
    ]
    guardian.write_state(str(tmp_path), {"token": "t"})
    found.append(json.loads((tmp_path / guardian.STATE_FILE).read_text()))
    assert [each["schema"] for each in found] == [SCHEMA] * len(found)
    json.dumps(found)


def test_files_of_a_later_version_are_refused_in_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = str(tmp_path)
    wanted = naming(1, "vine_sharedport")
    values = {"schema": 2, "time": 1.0, "address": "<192.0.2.7:1?sock=a>", "token": "t"}
    for name in (paths.STATUS, "place.json", RUN_FILE, guardian.STATE_FILE):
        (tmp_path / name).write_text(json.dumps(values))
    with pytest.raises(SharedPortError, match=wanted):
        paths.read_status(directory)
    with pytest.raises(SharedPortError, match=wanted):
        JobLocation.read(directory)
    with pytest.raises(SharedPortError, match=wanted):
        parse_config('{"schema": 2, "max-workers": 3}')
    assert parse_config('{"max-workers": 3}').max_workers == 3, "vine_factory's have none"
    assert read_run_file(str(tmp_path / RUN_FILE)) is None
    assert guardian.read_state(directory) == {}
    assert [bool(re.search(wanted, record.message)) for record in caplog.records] == [True] * 2
