"""Why a schedd does not take jobs: the bindings' texts become a cause and a next step."""

from __future__ import annotations

import pytest

from vine_sharedport.condor.refusals import explain_refusal


@pytest.mark.parametrize(
    ("text", "room", "cause", "step"),
    [
        ("expected next ProcId to be 3, but Schedd says -3", 3, "MAX_JOBS_PER_OWNER", "max_w"),
        ("expected next ProcId to be 0, but Schedd says -2", 0, "MAX_JOBS_SUBMITTED", "admin"),
        ("expected next ProcId to be 7, but Schedd says -4", 7, "PER_SUBMISSION", "higher"),
        ("Failed to create new cluster.SCHEDD:22:MAX_JOBS_SUBMITTED exceeded. Current=3",
         0, "MAX_JOBS_SUBMITTED", "condor_q"),
        ("Unable to commit transaction, SCHEDD:2:logs must be in /home", None,
         "logs must be in /home", "directory="),
        ("Unable to commit transaction, SCHEDD:2:Submit requirement Home not met", None,
         "requirement Home", "-S"),
        ("Failed to connect to schedd, errmsg=AUTHENTICATE:1003:Failed to authenticate", None,
         "AUTHENTICATE", "token"),
        ("credential for user expired", None, "expired", "kinit"),
        ('SECMAN:2010:Received "DENIED" from server for user a@b', None, "DENIED", "ALLOW"),
        ("write to /x/y failed: No space left on device", None, "No space", "room"),
        ("cannot open /x/y: Permission denied", None, "/x/y", "--log-dir"),
    ],
)  # fmt: skip
def test_a_known_refusal_has_its_cause_and_a_step(
    text: str, room: int | None, cause: str, step: str
) -> None:
    found = explain_refusal(text)
    assert found is not None
    assert found.room == room
    assert cause in found.cause
    assert step in found.step


@pytest.mark.parametrize(
    "text",
    ["", "Connection refused", "expected next ProcId to be 3, but Schedd says 5", "a timeout"],
)
def test_another_text_is_left_as_it_is(text: str) -> None:
    assert explain_refusal(text) is None
