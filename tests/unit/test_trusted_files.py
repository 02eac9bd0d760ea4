"""Files that a user has named: what is wrong with them comes first, in one line."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Callable

import pytest

from tests.values import naming
from vine_sharedport.trusted_files import absolute, is_removed, working_directory

ADDRESS = "<127.0.0.1:1?sock=vine_1>"
TO = ["--address", ADDRESS]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with files of each kind, on a machine without HTCondor."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONDOR_CONFIG", "/none")
    monkeypatch.setattr(sys, "path", sys.path[:])  # run changes it
    (tmp_path / "directory").mkdir()
    (tmp_path / "closed").touch(mode=0)
    (tmp_path / "short").write_text("short")
    (tmp_path / "good").write_bytes(os.urandom(32))
    (tmp_path / "good").chmod(0o600)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["run", "FILE"], 2),
        (["manager", "submit", "FILE"], 2),
        (["manager", "submit", "--name", "x", "--run", "FILE", "more"], 2),
        (["worker", *TO, "--worker", "none", "--secret-file", "FILE"], 78),
        (["worker", *TO, "--bundle", "new", "--secret-file", "FILE"], 2),
        (["connect", ADDRESS, "--secret-file", "FILE"], 2),
        (["factory", *TO, "--secret-file", "FILE"], 2),
        (["factory", "-M", "sweep", "--secret-file", "FILE"], 2),
        (["factory", "-M", "sweep", "--config-file", "FILE"], 2),
        (["factory", "-M", "sweep", "--password", "FILE"], 2),
        (["factory", "-M", "sweep", "--wrapper", "x", "--wrapper-input", "FILE"], 2),
        (["factory", "-M", "sweep", "--python-env", "FILE"], 2),
        (["factory", *TO, "--preset", "./FILE"], 2),
    ],
)
@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("nofile.py", ["there is no such file", "No such file or directory"]),
        ("directory", ["is a directory", "Is a directory"]),
        ("closed", ["may not be read", "Permission denied"]),
    ],
)
def test_the_file_is_named_with_the_reason_before_anything_else_is_tried(
    here: Path,
    main: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    status: int,
    name: str,
    reasons: list[str],
) -> None:
    if name == "closed" and os.access(name, os.R_OK):
        pytest.skip("root may read anything")
    assert main(*(word.replace("FILE", name) for word in command)) == status
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    what, _, next_step = line.partition("; ")
    assert name in what
    assert any(reason in line for reason in reasons)
    assert line.count(name) <= 2, "the path is said once, and in a command"
    assert next_step
    assert "[Errno" not in line
    assert sorted(path.name for path in here.iterdir()) == [
        "closed", "directory", "good", "short",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        ["worker", *TO, "--worker", "none", "--secret-file"],
        ["factory", *TO, "--secret-file"],
        ["expose", "--port", "9", "--secret-file"],
    ],
)
def test_a_secret_file_that_is_none_is_told_at_once(
    here: Path,
    main: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    (here / "short").chmod(0o600)
    assert main(*command, "short") == (78 if command[0] == "worker" else 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(naming("short", 5, 32), line)


def test_a_secret_is_exposed_in_a_directory_that_is_there(
    here: Path, main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("expose", "--port", "9", "--secret-file", "new/secret") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(naming(f"{here}/new/secret"), line)
    assert line.endswith(f" {here}/new; mkdir -p {here}/new")


def test_a_factory_of_no_directory_says_so_once(
    here: Path, main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("factory", "run", "directory") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(naming("directory", "config.json", "vine_sharedport factory list"), line)
    assert list((here / "directory").iterdir()) == []


def test_a_module_that_is_not_there_is_told_with_where_it_was_looked_for(
    here: Path, main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("run", "-m", "nomodule_of_ours") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(naming("nomodule_of_ours", here, "-m"), line)


@pytest.mark.parametrize("name", ["plain", "two words", "x (deleted)", "it's"])
def test_a_directory_keeps_its_name_when_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    place = tmp_path / name
    place.mkdir()
    monkeypatch.chdir(place)
    assert (working_directory(), is_removed()) == (str(place), False)
    os.rmdir(place)
    assert (working_directory(), is_removed()) == (str(place), True)
    assert absolute("a/../b") == str(place / "b")
    assert absolute("/c/") == "/c"
