"""What the noun factory takes: without a verb, the options are those of run."""

from __future__ import annotations

import pytest

import vine_sharedport.factory.api  # noqa: F401  # what ctypes opens stays open, and is no test's
from vine_sharedport.cli.factory import with_verb


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("-M sweep -W 9", "run -M sweep -W 9"),
        ("--address <192.0.2.7:9618?sock=a>", "run --address <192.0.2.7:9618?sock=a>"),
        ("<192.0.2.7:9618?sock=a> --cores 2", "run <192.0.2.7:9618?sock=a> --cores 2"),
        ("host 9123 -T condor", "run host 9123 -T condor"),
        ("host:9123", "run host:9123"),
        ("[::1]:9123", "run [::1]:9123"),
        ("run -M sweep", "run -M sweep"),
        ("status 9123", "status 9123"),
        ("sweep", "sweep"),
        ("--help", "--help"),
        ("", ""),
    ],
)
def test_without_a_verb_a_factorys_options_are_those_of_run(words: str, completed: str) -> None:
    assert with_verb(words.split()) == completed.split()
