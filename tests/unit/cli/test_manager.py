"""What the noun manager takes, and what it says of a program before it is submitted."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from vine_sharedport.cli.common import Parser
from vine_sharedport.cli.manager import add_manager
from vine_sharedport.condor.manager_job.description import ManagerProgram, describe_manager


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a directory with a program, and in a small environment."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.py").write_text("")
    return tmp_path


def parse(*arguments: str) -> argparse.Namespace:
    parser = Parser()
    add_manager(parser.add_names("NOUN"))
    return parser.parse_args(["manager", *arguments])


def test_dry_run_prints_the_description(capsys: pytest.CaptureFixture[str]) -> None:
    options = parse("submit", "--dry-run", "--name", "x", "sweep.py", "--name", "its own")
    assert options.run(options) == 0
    assert (
        capsys.readouterr().out
        == describe_manager(
            ManagerProgram("sweep.py", ["--name", "its own"], name="x")
        ).format()
    )


@pytest.mark.parametrize(
    ("words", "step"),
    [
        ("python sweep.py", "sweep.py"),
        ("--name x --once /bin/python3 -u sweep.py --n 9", "--name x --once sweep.py --n 9"),
        ("python -m a.b c", "-m a.b c"),
        ("python3", "PROGRAM.py"),
    ],
)  # fmt: skip
def test_the_interpreter_is_left_out(
    words: str, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = parse("submit", *words.split())
    with pytest.raises(SystemExit) as stop:
        options.run(options)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.endswith(f" out:\n  vine_sharedport manager submit {step}\n")


@pytest.mark.parametrize(
    ("text", "words", "step"),
    [
        ("import ndcctools.taskvine", "--dry-run sweep.py 9", "--run --dry-run sweep.py 9"),
        ("import ndcctools.taskvine; shared_port=True", "--dry-run sweep.py", None),
        ("WorkQueueExecutor()", "--dry-run sweep.py", "--run --dry-run sweep.py"),
        ("print(1)", "--dry-run sweep.py", None),
        ("from vine_sharedport import Manager", "--dry-run sweep.py", None),
        ("ndcctools \0", "--dry-run sweep.py", None),
        ("import ndcctools.taskvine", "--run --dry-run sweep.py", None),
        ("import ndcctools.taskvine", "--dry-run -m sweep", None),
    ],
)
def test_a_program_without_a_shared_port_is_told_of_run(
    here: Path, text: str, words: str, step: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    (here / "sweep.py").write_text(text)
    options = parse("submit", *words.split())
    with caplog.at_level("WARNING"):
        assert options.run(options) == 0
    said = [record.getMessage() for record in caplog.records]
    steps = [line.rpartition("vine_sharedport manager submit ")[2] for line in said]
    assert steps == ([] if step is None else [step])


def test_run_options_need_run(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--no-gate"], ["--shared-port-name", "x"]):
        options = parse("submit", *wrong, "--dry-run", "sweep.py")
        with pytest.raises(SystemExit) as stop:
            options.run(options)
        assert stop.value.code == 2
    assert "--run" in capsys.readouterr().err
