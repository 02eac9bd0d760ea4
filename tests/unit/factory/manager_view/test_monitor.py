"""When nobody serves a manager's address any more, and when it is only busy."""

from __future__ import annotations

import pytest

from vine_sharedport.errors import DialError, Verdict
from vine_sharedport.factory.manager_view.monitor import says_nobody_there
from vine_sharedport.registry.reference import Reference
from vine_sharedport.wire.sinful import Sinful

ADDRESS = "<192.0.2.7:9618?sock=vine_42>"


@pytest.mark.parametrize(
    ("verdict", "address", "nobody"),
    [
        (Verdict.NOBODY_THERE, ADDRESS, True),
        (Verdict.UNANSWERED, ADDRESS, True),
        (Verdict.CONNECTION_REFUSED, ADDRESS, False),
        (Verdict.TIMED_OUT, ADDRESS, False),
        (Verdict.CONNECTION_REFUSED, None, True),
        (Verdict.UNANSWERED, None, False),
    ],
)
def test_a_busy_manager_or_a_restart_of_htcondor_is_no_end(
    verdict: Verdict, address: str | None, nobody: bool
) -> None:
    place = Reference(Sinful.parse(address or "<192.0.2.7:1>"))
    assert says_nobody_there(DialError("x", verdict), place) is nobody
