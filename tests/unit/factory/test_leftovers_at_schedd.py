"""Jobs at a schedd that the options no longer name, or name otherwise."""

from __future__ import annotations

import pytest

from vine_sharedport.condor.schedd import Schedd
from vine_sharedport.factory.leftovers import leftovers_location, remove_at_other_schedd
from vine_sharedport.factory.submission.destination import Destination
from vine_sharedport.factory.submission.location import JobLocation

KEPT = JobLocation("vine_1", Destination(), None, 300)
NOW = JobLocation("vine_1", Destination(schedd="vine@localhost"), None, 300)


@pytest.mark.parametrize(
    ("there", "here", "removed"),
    [
        ([], [], False),
        (["vine@localhost#1.0#7"], ["vine@localhost#1.0#7"], False),
        (["vine@localhost#1.0#7"], [], True),
        (["vine@localhost#1.0#7"], ["other@localhost#1.0#9"], True),
    ],
    ids=["none", "the same schedd in other words", "there alone", "others here"],
)
def test_they_are_removed_unless_it_is_the_same_schedd(
    monkeypatch: pytest.MonkeyPatch, there: list[str], here: list[str], removed: bool
) -> None:
    def query(schedd: Schedd, *_: object) -> list[dict[str, str]]:
        return [{"GlobalJobId": name} for name in (here if schedd.name else there)]

    done: list[str | None] = []
    monkeypatch.setattr(Schedd, "query", query)
    monkeypatch.setattr(Schedd, "act", lambda schedd, *_: done.append(schedd.name))
    assert leftovers_location(KEPT, KEPT.where) is None
    assert leftovers_location(None, NOW.where) is None
    place = leftovers_location(KEPT, NOW.where)
    assert place == KEPT
    assert remove_at_other_schedd("/nowhere", "id", KEPT, NOW) is None
    assert done == ([None] if removed else [])
