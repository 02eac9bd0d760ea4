"""The tiers that ``VINE_SHAREDPORT_REQUIRE`` names: what they need is there, and they run.

A test's marker says its tier. Where the variable names it, what is missing fails the test that
would be skipped, and the session fails if no test of the tier has run.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import NoReturn

import pytest

VARIABLE = "VINE_SHAREDPORT_REQUIRE"
TIERS = frozenset({"daemon", "shim", "container", "site"})
OUTSIDE = frozenset({"sandbox"})  # tests/sandbox/check_run.py
REQUIRED = frozenset(filter(None, os.environ.get(VARIABLE, "").split(",")))

_ran: set[str] = set()


def missing(tier: str, reason: str) -> NoReturn:
    """Skip for want of something, or fail where the tier is required."""
    if tier in REQUIRED:
        pytest.fail(f"{VARIABLE} names {tier}, but: {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_configure() -> None:
    """Refuse a word that names no tier."""
    unknown = sorted(REQUIRED - TIERS - OUTSIDE)
    if unknown:
        known = ", ".join(sorted(TIERS | OUTSIDE))
        raise pytest.UsageError(f"{VARIABLE} names {', '.join(unknown)}; tiers are {known}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the report say which tiers it is of; it may go to another process."""
    report = yield
    report.tiers = [tier for tier in TIERS if item.get_closest_marker(tier)]
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the tiers that run."""
    if report.when == "call" and not report.skipped:
        _ran.update(report.tiers)


def _not_run(config: pytest.Config) -> list[str]:
    if hasattr(config, "workerinput") or config.option.collectonly:
        return []
    if getattr(config.option, "lf", False):  # a part of what ran before
        return []
    return sorted(REQUIRED & TIERS - _ran)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if a required tier did not run."""
    if _not_run(session.config) and session.exitstatus in (
        pytest.ExitCode.OK,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say why."""
    for tier in _not_run(config):
        terminalreporter.write_line(f"{VARIABLE} names {tier}, but no test of it ran", red=True)
