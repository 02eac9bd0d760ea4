"""What a factory does has a code and a text, and a text of the moment goes before."""

from __future__ import annotations

import re

from vine_sharedport.factory.report.phase import Activity, Phase


def test_each_phase_has_a_code_and_a_text_of_its_own() -> None:
    codes, texts = [phase.value for phase in Phase], [phase.text for phase in Phase]
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)
    assert len({*codes}) == len({*texts}) == len(codes)


def test_what_there_is_to_say_goes_before_the_phases_text() -> None:
    assert Activity(Phase.STARTING).message == Phase.STARTING.text
    assert Activity(Phase.SUBMITTED, "2 workers").message == "2 workers"
    assert Activity(Phase.STARTING) == Activity(Phase.STARTING, Phase.STARTING.text)
