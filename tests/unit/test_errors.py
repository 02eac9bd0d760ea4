"""Errors have codes of their own; of several attempts the one that got furthest counts."""

from __future__ import annotations

from collections.abc import Iterator

from vine_sharedport import errors
from vine_sharedport.errors import (
    DialAttempt,
    DialError,
    DialTimeout,
    ExitStatus,
    HandOffTimeout,
    SettingError,
    SharedPortError,
    SinfulError,
    Verdict,
)


def classes(base: type[SharedPortError] = SharedPortError) -> Iterator[type[SharedPortError]]:
    yield base
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from classes(kind)


def test_each_class_has_a_code_of_its_own_and_is_offered() -> None:
    found = {*classes()}
    codes = [kind.code for kind in found]
    assert len(set(codes)) == len(codes)
    assert {kind.__name__ for kind in found} <= {*errors.__all__}
    assert all("code" in vars(kind) for kind in found)


def test_each_exit_status_says_what_it_means() -> None:
    meanings = [status.meaning for status in ExitStatus]
    assert all(meanings)
    assert len(set(meanings)) == len(meanings)


def test_programs_can_catch_what_python_has_a_class_for() -> None:
    assert issubclass(SettingError, ValueError)
    assert issubclass(SinfulError, ValueError)
    for kind in (DialTimeout, HandOffTimeout):
        assert issubclass(kind, TimeoutError)


def test_the_cause_and_the_next_step_are_told_apart() -> None:
    error = SettingError("no such file", step="give another")
    assert (error.cause, error.step) == ("no such file", "give another")
    assert str(error) == "no such file; give another"
    assert str(SettingError("no such file")) == "no such file"


def test_the_attempt_that_got_furthest_counts() -> None:
    attempts = [
        DialAttempt("a port 1", Verdict.TIMED_OUT, "no answer"),
        DialAttempt("b port 1", Verdict.NOBODY_THERE, "closed"),
        DialAttempt("c port 1", Verdict.CONNECTION_REFUSED, "refused"),
    ]
    error = DialError("x", attempts=attempts)
    assert error.verdict is Verdict.NOBODY_THERE
    assert error.attempts == (*attempts,)
    assert str(attempts[0]) == "a port 1: no answer"
    assert DialError("x").verdict is Verdict.FAILED
    assert DialError("x", Verdict.GATE_SILENT, attempts).verdict is Verdict.GATE_SILENT
