"""Which factory is meant, where there are several."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from tests.values import naming
from vine_sharedport.errors import NoStatusError, SettingError
from vine_sharedport.factory import find
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.record import ManagerReport
from vine_sharedport.factory.report.snapshot import Snapshot

RUN = "vine-run-info/2026-11-28T06000{}/vine-logs/vine-factory-vine_{}_ab"


@pytest.fixture
def several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Three that have ended, one that runs and one that was killed, and a stranger's file."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    now = time.time()

    def write(directory: str, letter: str, state: str, began: float, name: str | None) -> None:
        os.makedirs(directory)
        address = f"<127.0.0.1:9618?sock=sock_{letter}>"
        paths.write_status(directory, Snapshot(
            time=now - 3, factory=letter * 32, pid=7, state=state, message="",
            directory=directory, manager=ManagerReport(address=address, name=name),
            started=now - began,
        ))  # fmt: skip
        lock = paths.lock_directory(directory)
        assert lock is not None
        locks.append(lock)
        if letter != "c":
            os.close(locks.pop())

    locks: list[int] = []
    write(RUN.format(1, 1), "a", "ended", 9000, "sweep")
    write(RUN.format(2, 2), "b", "ended", 4000, "sweep")
    write(RUN.format(3, 3), "c", "running", 5000, "other")
    write("vine-factory-sweep", "d", "running", 7000, "sweep")
    write("some/where", "e", "ended", 10, None)
    (tmp_path / "status.json").write_text("[]")
    # TaskVine's link makes each file look like two.
    os.symlink("2026-11-28T060003", "vine-run-info/most-recent")
    yield tmp_path
    for lock in locks:
        os.close(lock)


def names(found: list[find.Found]) -> str:
    return "".join(one.name[0] for one in found)


def test_those_that_run_come_first_and_then_the_newest(several: Path) -> None:
    found = find.find_factories()
    assert names(found) == "cebda"
    assert [one.state for one in found] == ["running", "ended", "ended", "killed", "ended"]
    assert [one.manager for one in found] == ["other", "sock_e", "sweep", "sweep", "sweep"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        (None, "cebda"), ("sweep", "bda"), ("other", "c"), ("sock_e", "e"), ("aaaaaaaa", "a"),
        ("c" * 32, "c"), ("vine-factory-sweep", "d"), ("some/where", "e"),
        ("./vine-factory-sweep", "d"),
    ],
)  # fmt: skip
def test_a_factory_is_named_by_what_its_user_knows(
    several: Path, word: str | None, meant: str
) -> None:
    assert names(find.choose(word)) == meant


def test_a_name_that_is_none_gets_the_nearest_one(several: Path) -> None:
    with pytest.raises(NoStatusError, match=naming("'swep'", several, "sweep")):
        find.choose("swep")
    with pytest.raises(NoStatusError, match=r"'xyz' .*'.* factory list'"):
        find.choose("xyz")
    with pytest.raises(NoStatusError, match=naming(several)):
        find.choose("some")


def test_only_one_that_runs_is_ended(several: Path) -> None:
    assert find.choose_running(None).name == "c" * 8
    assert find.choose_running("sweep").running is False
    lock = paths.lock_directory("vine-factory-sweep")
    assert lock is not None
    try:
        with pytest.raises(SettingError, match=r"2 .* factory stop (c{8}|d{8})"):
            find.choose_running(None)
        assert find.choose_running("sweep").name == "d" * 8
    finally:
        os.close(lock)


def test_the_status_is_the_newest_ones_and_names_the_others(
    several: Path, main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("factory", "status") == 0
    out, err = capsys.readouterr()
    assert out.startswith("factory cccccccc running")
    assert "manager    other at <127.0.0.1:9618?sock=sock_c>" in out
    assert "as of      3 s ago" in out
    (line,) = err.splitlines()
    assert line.startswith("Others are here: eeeeeeee of sock_e (ended, 10s old), bbbbbbbb of ")
    assert line.endswith(", and 1 more. See: vine_sharedport factory list")
    assert main("factory", "status", "sweep") == 1
    out, err = capsys.readouterr()
    assert out.startswith("factory bbbbbbbb ended")
    assert "dddddddd of sweep (killed, " in err
    assert main("factory", "status", "sweep", "--json") == 1
    assert json.loads(capsys.readouterr().out)["factory"] == "b" * 32
    assert main("factory", "status", "vine-factory-sweep") == 1
    out, err = capsys.readouterr()
    assert "gone" in out.splitlines()[-1]
    assert err == ""


def test_the_list_has_name_manager_state_and_age(
    several: Path, main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("factory", "list") == 0
    heading, first, second, *_ = capsys.readouterr().out.splitlines()
    assert heading.split() == ["NAME", "MANAGER", "STATE", "AGE", "WORKERS", "DIRECTORY"]
    assert first.split()[:4] == ["cccccccc", "other", "running", "1h23m"]
    assert first.endswith(RUN.format(3, 3))
    assert second.split()[:4] == ["eeeeeeee", "sock_e", "ended", "10s"]
    assert main("factory", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(one["name"][0], one["state"], one["is_running"]) for one in listed] == [
        ("c", "running", True), ("e", "ended", False), ("b", "ended", False),
        ("d", "killed", False), ("a", "ended", False),
    ]  # fmt: skip
    assert listed[0]["manager"]["name"] == "other"
    assert 5000 <= listed[0]["age"] < 5060


def test_a_status_of_an_earlier_version_has_an_age_too() -> None:
    snapshot = Snapshot(1000.0, "a" * 32, 7, "ended", "", "/x")
    old = {k: v for k, v in snapshot.as_dict().items() if k not in ("started", "each")}
    found = find.Found("/x", Snapshot.from_dict(old), False)
    assert found.began == 1000.0
    assert dataclasses.replace(found, running=None).state == "ended"
