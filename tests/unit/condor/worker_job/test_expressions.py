"""What HTCondor can read as an expression; what cannot be judged passes."""

from __future__ import annotations

import sys

import pytest

from vine_sharedport.condor.worker_job.expressions import is_expression


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ('TARGET.Memory >= 1024 && Arch == "X86_64"', True),
        (r'regexp("^node\d+", Machine)', True),
        ("a; b = 1", False),
        ("a) || (b", False),
        ("Memory >", False),
        ("", False),
        ("$(REQUIREMENTS) && Memory >", True),  # a macro: condor_submit fills it in
        ("$ENV(HOME) ==", True),
    ],
)
def test_one_whole_expression_is_wanted(text: str, readable: bool) -> None:
    pytest.importorskip("classad2")
    assert is_expression(text) is readable


def test_what_would_exhaust_the_readers_stack_is_not_read() -> None:
    assert is_expression("a || " * 100_000 + "(")


def test_without_htcondor_everything_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "classad2", None)
    assert is_expression("a) || (b")
