"""Jobs at a schedd that the options no longer name, or name otherwise."""

from __future__ import annotations

import pytest

from vine_sharedport.condor.schedd import Schedd
from vine_sharedport.factory.other_manager import place_elsewhere, remove_elsewhere
from vine_sharedport.factory.submission.destination import Where
from vine_sharedport.factory.submission.location import Place

KEPT = Place("vine_1", Where(), None, 300)
NOW = Place("vine_1", Where(schedd="vine@localhost"), None, 300)


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
    assert place_elsewhere(KEPT, KEPT.where) is None
    assert place_elsewhere(None, NOW.where) is None
    place = place_elsewhere(KEPT, NOW.where)
    assert place == KEPT
    assert remove_elsewhere("/nowhere", "id", KEPT, NOW) is None
    assert done == ([None] if removed else [])
