"""What came of an attempt to get in, for people and for programs; nothing is dialled."""

from __future__ import annotations

import json

import pytest

from vine_sharedport.dialing.candidates import plan
from vine_sharedport.dialing.explain import Attempted
from vine_sharedport.dialing.race import DialEvent
from vine_sharedport.errors import (
    DialAttempt,
    DialError,
    ExitStatus,
    Verdict,
    WrongSecretError,
)
from vine_sharedport.wire.sinful import Sinful

ADDRESS = Sinful.parse(
    "<192.0.2.7:9618?addrs=192.0.2.7-9618+[2001-db8--7]-9618&alias=ap.example.org&sock=vine_1>"
)


def attempted(address: Sinful = ADDRESS, *, secret: bool = True) -> Attempted:
    return Attempted(address, None, plan(address), has_secret=secret)


def failed(*verdicts: Verdict) -> Attempted:
    """Return an attempt whose candidates each did one of these."""
    found = attempted()
    attempts = []
    for number, (candidate, verdict) in enumerate(zip(found.candidates, verdicts)):
        found.steps.append(
            DialEvent("failed", 0.1 * number, 0.05, candidate, candidate.host, "why", verdict)
        )
        attempts.append(DialAttempt(str(candidate), verdict, "why"))
    found.error = DialError("nothing worked", attempts=attempts)
    return found


def test_a_success_says_what_was_checked_and_what_was_not() -> None:
    found = attempted()
    found.steps.append(DialEvent("gate passed", 0.25, 0.01, found.candidates[0]))
    assert (found.works, found.exit_status, found.advice) == (True, ExitStatus.OK, [])
    assert "250.0 ms" in str(found)
    assert "secret" in found.checked
    assert "--secret-file" in attempted(secret=False).checked
    assert "no sock=" in attempted(Sinful.parse("<192.0.2.7:9618>")).checked


def test_once_the_access_point_was_reached_other_ways_do_not_matter() -> None:
    found = failed(Verdict.NETWORK_UNREACHABLE, Verdict.NOBODY_THERE)
    (advice,) = found.advice
    assert "sock=" in advice
    assert found.exit_status == ExitStatus.LATER


@pytest.mark.parametrize("verdict", [v for v in Verdict if v not in (
    Verdict.FAILED, Verdict.NOT_TRIED, Verdict.UNANSWERED)])  # fmt: skip
def test_each_verdict_has_its_advice(verdict: Verdict) -> None:
    found = failed(verdict)
    assert len(found.advice) == 1
    assert found.advice[0] in str(found)


def test_different_failures_have_an_advice_each() -> None:
    assert len(failed(Verdict.TIMED_OUT, Verdict.NETWORK_UNREACHABLE).advice) == 2


def test_a_wrong_secret_ends_with_a_status_of_its_own() -> None:
    found = attempted()
    found.error = WrongSecretError("another secret", step="copy it")
    assert found.exit_status == ExitStatus.WRONG_SECRET
    assert "another secret" in str(found)
    assert "copy it" not in str(found), "the next step depends on where we are"


def test_each_candidate_is_explained_with_its_source_and_what_it_did() -> None:
    found = failed(Verdict.TIMED_OUT)
    text = found.explained()
    assert max(map(len, text.splitlines())) <= 98 or str(ADDRESS) in text
    for candidate in found.candidates:
        assert str(candidate) in text
        assert candidate.source in text
    assert "failed after 50.0 ms: why" in text
    assert text.count("not tried") == len(found.candidates) - 1
    assert "Order: " in text


def test_programs_get_codes_and_milliseconds() -> None:
    found = json.loads(json.dumps(failed(Verdict.TIMED_OUT).as_dict()))
    assert (found["works"], found["verdict"], found["checked"]) == (False, "timed-out", None)
    assert found["address"] == str(ADDRESS)
    assert [c["number"] for c in found["candidates"]] == [*range(1, 1 + len(plan(ADDRESS)))]
    (step,) = found["candidates"][0]["steps"]
    assert (step["what"], step["took_ms"], step["verdict"]) == ("failed", 50.0, "timed-out")
