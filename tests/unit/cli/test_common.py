"""The nearest name of a word, and options that stand behind a program."""

from __future__ import annotations

import pytest

import vine_sharedport.factory.api  # noqa: F401  # what ctypes opens stays open, and is no test's
from vine_sharedport.cli.common import Parser, nearest, warn_of_late_options


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [("--core", ["--cores", "--cycle"], "--cores"), ("--cores", ["--worker"], None),
     ("STATUS", ["status"], "status"), ("", ["a"], None)],
)  # fmt: skip
def test_the_nearest_name_is_near(word: str, known: list[str], meant: str | None) -> None:
    assert nearest(word, known) == meant


@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        ("prog.py --name x", "p --name x prog.py"),
        ("prog.py a --name=x b --flag", "p --name=x --flag prog.py a b"),
        ("prog.py --nam x", None),
        ("--name y prog.py --name x", None),
        ("--name y prog.py", None),
    ],
)
def test_an_option_behind_the_program_is_told_once_with_its_place(
    arguments: str, step: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    parser = Parser(prog="p")
    parser.add_argument("--name")
    parser.add_argument("--flag", action="store_true")
    parser.add_argument("program")
    parser.add_argument("arguments", nargs="...")
    found = parser.parse_args(arguments.split())
    with caplog.at_level("WARNING"):
        warn_of_late_options(parser, found.program, found.arguments)
    said = [record.getMessage() for record in caplog.records]
    assert [line.rpartition(": ")[2] for line in said] == ([] if step is None else [step])
