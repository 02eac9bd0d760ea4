"""``vine_sharedport run``: the program's own status and errors, and what is no program."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Callable

import pytest

from vine_sharedport import environment
from vine_sharedport.cli import run as module
from vine_sharedport.errors import SettingError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("path", "argv", "meta_path"):
        monkeypatch.setattr(sys, name, getattr(sys, name)[:])
    for name in (environment.RUN, "PYTHONPATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setattr(module.common, "choose_pool", lambda options: None)
    return tmp_path


def test_the_program_gets_its_arguments_and_ends_the_command(
    here: Path, main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "program.py").write_text("import sys\nprint(sys.argv[1:])\n")
    assert main("run", "program.py", "--size", "9") == 0
    assert capsys.readouterr().out == "['--size', '9']\n"
    (here / "program.py").write_text("raise SystemExit(5)\n")
    with pytest.raises(SystemExit) as end:
        main("run", "-m", "program")
    assert end.value.code == 5


def test_an_error_of_the_program_is_told_as_python_tells_it(
    here: Path, main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "program.py").write_text("print(undefined)\n")
    assert main("run", "program.py") == 1
    said = capsys.readouterr().err
    assert 'program.py", line 1' in said
    assert "NameError" in said
    assert "vine_sharedport" not in said


def test_an_error_of_ours_names_the_line_of_the_program(
    here: Path, main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "program.py").write_text(
        "from vine_sharedport import SharedPort\n\nSharedPort(tcp='none')\n"
    )
    assert main("run", "program.py") == 1
    said = capsys.readouterr().err
    assert "program.py, line 3: " in said
    assert "Traceback" not in said


def test_the_interpreter_is_left_out(
    main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main("run", "--no-gate", "--shared-port-name", "x", "python3", "-u", "a.py", "1 2")
    assert end.value.code == 2
    step = "vine_sharedport run --shared-port-name x --no-gate a.py '1 2'\n"
    assert capsys.readouterr().err.endswith(f"\n  {step}")


def test_settings_of_the_shared_port_are_checked_first(main: Callable[..., int]) -> None:
    assert issubclass(SettingError, ValueError)
    assert main("run", "--shared-port-name", "../x", "none.py") == 2
