"""Programs that ``run`` takes: found before anything else, and told as Python tells them."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport.errors import SettingError
from vine_sharedport.manager.run import (
    after_interpreter,
    check_program,
    is_interpreter,
    place_in_program,
    traceback_of_program,
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    return tmp_path


def test_imports_find_what_is_beside_the_program(here: Path) -> None:
    (here / "sub").mkdir()
    (here / "sub" / "program.py").write_text("this is no Python, and Python will say so\n")
    check_program("sub/program.py")
    assert sys.path[0] == str(here / "sub")
    check_program("json.tool", module=True)
    assert sys.path[0] == str(here)


def test_what_is_not_there_is_named(here: Path) -> None:
    with pytest.raises(SettingError, match=naming("none.py")):
        check_program("none.py")
    with pytest.raises(SettingError, match=naming("no_such_module.x", here)):
        check_program("no_such_module.x", module=True)


@pytest.mark.parametrize("text", ["#!/bin/sh\nexec python3 sweep.py\n", "a\0b"])
def test_a_file_that_is_no_python_is_refused_with_what_it_names(here: Path, text: str) -> None:
    (here / "start").write_text(text)
    (here / "sweep.py").touch()
    with pytest.raises(SettingError) as raised:
        check_program("start")
    assert ("sweep.py" in str(raised.value)) is ("sweep.py" in text)
    (here / "start").write_text("print(1)\n")
    check_program("start")


def test_an_archive_is_a_program_too(here: Path) -> None:
    with zipfile.ZipFile(here / "app", "w") as archive:
        archive.writestr("__main__.py", "print(1)")
    check_program("app")


@pytest.mark.parametrize(
    ("words", "rest"),
    [
        ("-u sweep.py --size 9", "sweep.py --size 9"),
        ("-m a.b -x", "-m a.b -x"),
        ("-u -I -m a.b", "-m a.b"),
        ("", "PROGRAM.py"),
    ],
)
def test_what_follows_pythons_own_options_is_the_program(words: str, rest: str) -> None:
    assert after_interpreter(words.split()) == rest.split()


def test_python_is_known_by_its_name_unless_that_is_a_script(here: Path) -> None:
    assert is_interpreter(sys.executable) or "python" not in sys.executable
    assert is_interpreter("python3.12")
    assert not is_interpreter("sweep.py")
    (here / "python").write_text("print(1)\n")
    assert not is_interpreter("./python")


def test_an_error_is_shown_from_the_program_on(here: Path) -> None:
    import runpy

    (here / "program.py").write_text("def f():\n    raise KeyError\n\nf()\n")
    with pytest.raises(KeyError) as raised:
        runpy.run_path("program.py", run_name="__main__")
    at = traceback_of_program(raised.value)
    assert at is not None
    assert at.tb_frame.f_code.co_filename == "program.py"
    assert place_in_program(raised.value) == "program.py, line 2"
    assert place_in_program(KeyError()) == ""
