"""A factory's status for people: in lines and in HTML, and nothing that breaks them."""

from __future__ import annotations

import dataclasses
import random
from html.parser import HTMLParser

import pytest

from vine_sharedport.errors import DialAttempt, DialError, Verdict
from vine_sharedport.factory.report.text import format_age, format_html, format_text

from .samples import NASTY, SNAPSHOT


def test_text_says_what_is_wrong_and_what_to_do() -> None:
    text = format_text(SNAPSHOT, now=1000.0)
    assert text.startswith("factory ffffffff running: submitted 2 workers")
    assert "manager    sweep at <192.0.2.7:9618?sock=vine_42>" in text
    assert (
        "5 tasks waiting, 3 running, 12 done, 5 workers (3 by the shared port, 2 by TCP)"
        in text
    )
    assert "4, 3 of them connected" in text
    assert "problem (memory): say" in text
    assert "remedy: give more" in text
    assert "repaired: give more" in text
    assert "12.0 running for 1m, on node7: not connected after 60 s" in text
    assert "11.0 ended for 1m40s, status 75: not reached - x" in text
    assert "11.1" not in text, "nothing to say about it"
    assert "limits     1 to 9 workers, each 2 cores, 800 MB\n" in text


@pytest.mark.parametrize(
    ("now", "text"), [(999.0, "0 s ago"), (1000.5, "0 s ago"), (1059.0, "59 s ago"),
                      (1061.0, "1m1s ago"), (8200.0, "2h ago")],
)  # fmt: skip
def test_each_form_tells_its_own_age(now: float, text: str) -> None:
    for snapshot in (SNAPSHOT, dataclasses.replace(SNAPSHOT, state="ended")):
        assert f"  as of      {text}\n" in format_text(snapshot, now=now)
        assert f">{text}</td>" in format_html(snapshot, now=now)


def test_an_unreachable_manager_is_told_with_the_reason() -> None:
    manager = dataclasses.replace(SNAPSHOT.manager, reachable=False, error="it hangs")
    text = format_text(dataclasses.replace(SNAPSHOT, manager=manager), now=1000.0)
    assert "no answer: it hangs" in text
    refused = DialAttempt("192.0.2.7:9618", Verdict.CONNECTION_REFUSED, "Connection refused")
    error = str(DialError(f"cannot reach {manager.address}: {refused}", attempts=[refused]))
    manager = dataclasses.replace(manager, error=error, attempts=(refused,))
    told = format_text(dataclasses.replace(SNAPSHOT, manager=manager), now=1000.0)
    assert f"no answer: {refused}" in told
    assert told.count(str(manager.address)) == 1
    assert "5 tasks" not in text


class _Checker(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_well_formed_and_takes_nothing_for_a_tag() -> None:
    checker = _Checker()
    checker.feed(format_html(SNAPSHOT, now=1000.0))
    assert checker.open == []
    assert NASTY in checker.text
    assert "<192.0.2.7:9618?sock=vine_42>" in checker.text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (59, "59s"), (60, "1m"), (61, "1m1s"), (3600, "1h"), (3660, "1h1m"),
     (90061, "1d1h")],
)  # fmt: skip
def test_ages_are_short(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


@pytest.mark.parametrize("silent", [0, 1, pytest.param(random.randrange(2, 10**4), id="drawn")])
def test_workers_without_an_answer_are_told_where_there_are_any(silent: int) -> None:
    workers = dataclasses.replace(SNAPSHOT.workers, silent=silent)
    manager = dataclasses.replace(SNAPSHOT.manager, silent=silent, reachable=True)
    text = format_text(dataclasses.replace(SNAPSHOT, workers=workers, manager=manager))
    assert text.count("without an answer") == (2 if silent else 0)
    assert text.count(f"{silent} without an answer") == bool(silent)
    assert text.count(f"{silent} of those without an answer") == bool(silent)
