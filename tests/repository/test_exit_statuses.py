"""The exit statuses are those of one table, in Python, C, shell and the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vine_sharedport
from vine_sharedport import errors
from vine_sharedport.cli import main as cli
from vine_sharedport.errors import ExitStatus

WORKER = Path(vine_sharedport.__file__).parent / "worker"
DOCS = WORKER.parents[1] / "docs"


def test_the_shim_has_them_by_the_same_names() -> None:
    found = {
        name: int(number)
        for path in WORKER.with_name("shim").glob("*.c")
        for name, number in re.findall(r"^ +(\w+) = (7\d|12\d),", path.read_text(), re.M)
    }
    assert found == {
        name: ExitStatus[name].value for name in ("LATER", "WRONG_SECRET", "SETTING")
    }


def test_the_launcher_ends_with_no_others() -> None:
    text = (WORKER / "launcher.sh").read_text()
    ends = {int(number) for number in re.findall(r"\bfail (\d+)", text)}
    assert ends == {ExitStatus.SETTING, ExitStatus.NO_PROGRAM}
    (told,) = re.findall(r"ExitStatus in errors.py: ([\d, ]+)\.", text)
    assert set(map(int, told.split(","))) == ends | {ExitStatus.LATER, ExitStatus.WRONG_SECRET}


def test_the_documentation_has_all_of_them_with_their_meaning() -> None:
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", _read("troubleshooting.md"), re.M)
    assert {int(n): text for n, text in rows} == {s.value: s.meaning for s in ExitStatus}
    for name in ("factory.md", "workers.md"):
        found = re.findall(r"^\| (7\d|12\d) \|", _read(name), re.M)
        assert found
        assert {int(number) for number in found} <= set(ExitStatus)


def _read(name: str) -> str:
    return (DOCS / name).read_text()


def test_the_command_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for status in ExitStatus:
        assert f"{status.value} {status.meaning}" in said


def test_each_error_has_a_code_of_its_own_and_a_status() -> None:
    classes = [
        found
        for name in errors.__all__
        if isinstance(found := getattr(errors, name), type) and issubclass(found, Exception)
    ]
    assert len({found.code for found in classes}) == len(classes)
    assert {found.exit_status for found in classes} <= set(ExitStatus)
    assert not issubclass(errors.SettingError, errors.LaunchError)
    assert issubclass(errors.OptionError, errors.SettingError)
    assert issubclass(errors.OptionError, AttributeError)
