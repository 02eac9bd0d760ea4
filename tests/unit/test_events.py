"""Every event is a line of a log, a line of JSON and a number, and no flood fills the log."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest

from vine_sharedport import events
from vine_sharedport.events import Event, Journal, JsonFormatter, Refused, Slug
from vine_sharedport.factory.report.phase import Phase
from vine_sharedport.serving.counters import Gauge, Refusal

EVENTS = Event.__subclasses__()
SLUGS = [member for kind in (Refusal, Gauge, Phase) for member in kind]


def _sample(kind: type[Event]) -> Event:
    samples: dict[str, Any] = {
        "str": "word",
        "str | None": "word",
        "int": 3,
        "float": 0.5,
        "Slug": Refusal.SILENT,
    }
    return kind(*(samples[hint] for hint in kind.__annotations__.values()))


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.objects: list[dict[str, Any]] = []
        self.levels: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.objects.append(json.loads(JsonFormatter().format(record)))
        self.levels.append(record.levelno)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def log(heard: Heard) -> logging.Logger:
    log = logging.Logger("test")
    log.addHandler(heard)
    return log


def test_every_slug_is_one_word_for_programs_with_a_text_for_people() -> None:
    assert set(Slug.__subclasses__()) == {Refusal, Gauge, Phase}
    for member in SLUGS:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", member.value), member
        assert " " in member.text, member
        assert type(member)(member.value) is member


def test_codes_of_events_differ() -> None:
    codes = [kind.code for kind in EVENTS]
    assert len(set(codes)) == len(codes) > 10
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)
    assert sorted(kind.__name__ for kind in EVENTS) == [
        name for name in sorted(events.__all__) if isinstance(getattr(events, name), type)
        and issubclass(getattr(events, name), Event) and name != "Event"
    ]  # fmt: skip


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.code)
def test_every_event_is_a_line_an_object_and_a_number(
    kind: type[Event], log: logging.Logger, heard: Heard
) -> None:
    event, journal = _sample(kind), Journal(log)
    journal.record(event)
    (line,), (found,) = heard.lines, heard.objects
    assert "{" not in line
    assert "\n" not in line
    assert heard.levels == [kind.level]
    assert (found["schema"], found["event"], found["message"]) == (1, kind.code, line)
    assert set(kind.__annotations__) <= set(found)
    with pytest.raises(AttributeError):
        event.why = "other"  # type: ignore[attr-defined]
    assert journal.counts == {event.key: event.times}


@pytest.mark.parametrize("kind", [kind for kind in EVENTS if kind.every])
def test_flood_is_one_line_a_minute_for_each_reason(
    kind: type[Event], log: logging.Logger, heard: Heard
) -> None:
    now = 1000.0
    journal, event = Journal(log, clock=lambda: now), _sample(kind)
    count, minute = 38_400, 3840
    for _ in range(count):  # ten minutes
        journal.record(event)
        now += 2**-6
    assert len(heard.lines) == 10
    assert heard.lines[0] == str(event)
    told = sum(found["more"] for found in heard.objects) + 10 * event.times
    left = (minute - 1) * event.times  # since the last line
    assert told + left == journal.counts[event.key] == count * event.times
    assert re.search(r" \(\d+ more since the line before\)$", heard.lines[1])


def test_reasons_do_not_hide_each_other(log: logging.Logger, heard: Heard) -> None:
    journal = Journal(log, clock=lambda: 0.0)
    for reason in (*Refusal, *Refusal):
        journal.record(Refused(reason, 1))
    assert heard.lines == [f"refused 1: {reason.text}" for reason in Refusal]
    assert journal.counts == {f"refused.{reason.value}": 2 for reason in Refusal}


def test_other_lines_of_a_log_are_objects_too(log: logging.Logger, heard: Heard) -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        log.exception("it %s", "failed")
    (found,) = heard.objects
    assert (found["event"], found["level"], found["message"]) == (None, "error", "it failed")
    assert "ValueError: wrong" in found["traceback"]
