"""The file by which a factory finds a manager of its host."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vine_sharedport.registry.reference import Reference
from vine_sharedport.registry.run_file import (
    LOG_FILE,
    RUN_FILE,
    called,
    read_run_file,
    running_managers,
    write_run_file,
)
from vine_sharedport.wire.sinful import Sinful

ADDRESS = Sinful.parse("<192.0.2.7:9618?sock=vine_42>")
MANAGER = Reference(
    ADDRESS, "/home/ann/vine_42.secret", "work_queue", tls=True, password_file="/p",
    name="my sweep", socket="/run/condor/vine_42",
)  # fmt: skip


def test_what_is_written_is_read(tmp_path: Path) -> None:
    for manager in (MANAGER, Reference(ADDRESS), Reference(ADDRESS, system=None)):
        manager = replace(manager, directory=str(tmp_path))
        write_run_file(manager)
        assert read_run_file(str(tmp_path / RUN_FILE)) == manager
    assert [path.name for path in tmp_path.iterdir()] == [RUN_FILE]


@pytest.mark.parametrize(
    "values",
    [
        None, [], "x", {}, {"name": "a"},
        {"address": str(ADDRESS), "name": 3},
        {"address": None},
        {"address": "<192.0.2.7:9618>"},
        {"address": "nonsense"},
        {"address": str(ADDRESS), "tls": "no"},
        {"address": str(ADDRESS), "system": "another"},
        {"address": str(ADDRESS), "socket": "\ud800"},
    ],
)  # fmt: skip
def test_what_is_something_else_is_no_run(values: Any, tmp_path: Path) -> None:
    path = tmp_path / RUN_FILE
    path.write_text(json.dumps(values))
    assert read_run_file(str(path)) is None
    path.write_bytes(b"\xff{[")
    assert read_run_file(str(path)) is None
    assert read_run_file(str(tmp_path / "none")) is None


def test_another_users_file_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run_file(Reference(ADDRESS, directory=str(tmp_path)))
    path = str(tmp_path / RUN_FILE)
    assert read_run_file(path) is not None
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert read_run_file(path) is None


def test_managers_that_run_are_found_by_the_log_that_is_open(tmp_path: Path) -> None:
    names = ("one", "two", "two-more")
    for number, name in enumerate(names):
        (tmp_path / name).mkdir()
        manager = replace(MANAGER, name=name, directory=str(tmp_path / name))
        write_run_file(manager)
        os.utime(tmp_path / name / RUN_FILE, (number, number))
    with contextlib.ExitStack() as logs:
        for name in names:
            logs.enter_context(open(tmp_path / name / LOG_FILE, "w"))
        found = [x.name for x in running_managers("work_queue", str(tmp_path))]
        assert found == ["two-more", "two", "one"], "the last one first"
        assert [x.name for x in running_managers(below=str(tmp_path / "two"))] == ["two"]
        assert running_managers("taskvine", str(tmp_path)) == []
        # Beside those of whatever else this user runs.
        places = {str(tmp_path / name) for name in names}
        assert places < {x.directory for x in running_managers()} | {None}
        assert [x.name for x in called("two", running_managers())] == ["two"]
        assert len(called("vine_42", running_managers(below=str(tmp_path)))) == 3
    assert running_managers(below=str(tmp_path)) == []
