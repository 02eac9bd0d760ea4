"""The file by which a factory finds a manager of its host."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from vine_sharedport.link.run_file import RUN_FILE, Run, read_run_file, write_run_file

RUN = Run("my sweep", "vine_42", "/run/condor/vine_42", "/home/ann/vine_42.secret", ssl=True)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    for run in (RUN, Run(None, "vine_42", "/s")):
        write_run_file(str(tmp_path), run)
        assert read_run_file(str(tmp_path / RUN_FILE)) == run
    assert [path.name for path in tmp_path.iterdir()] == [RUN_FILE]


@pytest.mark.parametrize(
    "values",
    [
        None, [], "x", {}, {"name": "a"},
        {"name": 3, "sock_id": "a", "socket": "/s", "secret_file": None, "ssl": False},
        {"name": "a", "sock_id": None, "socket": "/s", "secret_file": None, "ssl": False},
        {"name": "a", "sock_id": "a", "socket": "/s", "secret_file": None, "ssl": "no"},
        {"name": "a", "sock_id": "a", "socket": "\ud800", "secret_file": None, "ssl": False},
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
    write_run_file(str(tmp_path), Run("sweep", "vine_1", "/tmp/vine_1"))
    path = str(tmp_path / RUN_FILE)
    assert read_run_file(path) is not None
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert read_run_file(path) is None
