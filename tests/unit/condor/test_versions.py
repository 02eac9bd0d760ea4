"""Bindings that refuse older daemons are told from all else that a schedd may refuse."""

from __future__ import annotations

from typing import Any

import pytest

from vine_sharedport import installing
from vine_sharedport.condor import bindings, versions
from vine_sharedport.condor.schedd import Schedd
from vine_sharedport.errors import ScheddError

# What 25.14.1 says of 23.9.6, shortened.
REFUSAL = (
    "AUTHENTICATE:1003:Failed to authenticate with any method|AUTHENTICATE:1004:Failed to "
    "authenticate using FS|FS:1004:Directory name doesn't match server's network address."
)
WITHOUT_A_REASON = "Error when performing action on the schedd."
OTHER = "AUTHENTICATE:1004:Failed to authenticate using FS|FS:1004:Unable to lstat(/tmp/FS_X)"
OLD, NEW = "$CondorVersion: 23.9.6 2026-07-12 $", "$CondorVersion: 25.14.1 2026-09-24 $"
COMMAND = "take the others"


class Bindings:
    """Bindings of a version, and a schedd of another."""

    JobAction = type("JobAction", (), {"Remove": 1})
    DaemonType = type("DaemonType", (), {"Schedd": 1})
    __file__ = "/venv/lib/htcondor2/__init__.py"

    def __init__(self, error: str, reason: str = REFUSAL, daemons: str | None = OLD) -> None:
        self.error, self.reason, self.daemons = error, reason, daemons
        self.asked: list[str] = []

    def version(self) -> str:
        return NEW

    def Schedd(self, ad: Any = None) -> Bindings:
        return self

    def Collector(self, pool: str | None = None) -> Bindings:
        return self

    def locate(self, kind: int, name: str | None = None) -> dict[str, str]:
        if self.daemons is None:
            raise RuntimeError("Unable to locate local daemon")
        return {"CondorVersion": self.daemons}

    def query(self, constraint: str, **options: Any) -> list[Any]:
        self.asked.append(constraint)
        raise RuntimeError(self.reason)

    def act(self, *arguments: Any, **options: Any) -> None:
        raise RuntimeError(self.error)


def message(htcondor2: Bindings, monkeypatch: pytest.MonkeyPatch) -> ScheddError:
    monkeypatch.setattr(bindings, "load", lambda: htcondor2)
    monkeypatch.setattr(versions, "_command", lambda: COMMAND)
    with pytest.raises(ScheddError) as caught:
        Schedd().act("remove", "true", "over")
    return caught.value


@pytest.mark.parametrize(
    "error", [REFUSAL, REFUSAL.replace("FS:1004", "FS_REMOTE:1004"), WITHOUT_A_REASON]
)
def test_both_versions_and_both_remedies_are_named(
    error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    htcondor2 = Bindings(error)
    found = message(htcondor2, monkeypatch)
    assert "23.9.6" in found.cause
    assert "25.14.1" in found.cause
    assert "/venv/lib/htcondor2" in found.cause
    assert found.step is not None
    assert f"'{COMMAND}'" in found.step
    assert f"'export {versions.SETTING}'" in found.step
    # Who has the reason is not asked for it.
    assert htcondor2.asked == (["false"] if error == WITHOUT_A_REASON else [])


@pytest.mark.parametrize(
    ("error", "reason", "daemons"),
    [
        (OTHER, OTHER, OLD),
        (WITHOUT_A_REASON, OTHER, OLD),
        (WITHOUT_A_REASON, REFUSAL, NEW),  # of one version: nobody asks
        (WITHOUT_A_REASON, REFUSAL, None),  # there is no schedd
    ],
)
def test_what_else_goes_wrong_keeps_its_own_advice(
    error: str, reason: str, daemons: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = message(Bindings(error, reason, daemons), monkeypatch)
    assert error.rstrip(".") in found.cause
    assert versions.SETTING not in str(found)
    assert ("condor_ping" if error == OTHER else "condor_q") in str(found)


def test_a_schedd_that_hangs_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    htcondor2 = Bindings(WITHOUT_A_REASON)
    error = RuntimeError(WITHOUT_A_REASON)
    assert not versions.is_refused(htcondor2, error, htcondor2, OLD, at_once=False)
    assert htcondor2.asked == []
    assert versions.is_refused(htcondor2, error, htcondor2, OLD, at_once=True)


def test_without_bindings_of_the_systems_those_of_the_daemons_series_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installing, "instead", lambda *_: None)
    versions._command.cache_clear()
    _, step = versions.refusal(Bindings(REFUSAL), OLD)
    versions._command.cache_clear()
    assert '"htcondor<24"' in step
    assert f"'export {versions.SETTING}'" in step


def test_bindings_of_the_same_version_are_not_exchanged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = message(Bindings(REFUSAL, daemons=NEW), monkeypatch)
    assert found.step is not None
    assert versions.SETTING in found.step
    assert COMMAND not in found.step
