"""The porter's numbers: one page that another process reads, and that outlives both."""

from __future__ import annotations

import os

import pytest

from vine_sharedport.serving.counters import Counters, Gauge, Refusal, describe_refused


def test_what_one_process_counts_the_other_reads() -> None:
    ours = Counters()
    theirs = Counters(os.dup(ours.fileno()))
    ours[Gauge.HANDED_OVER] += 3
    ours[Refusal.SILENT] = 2**63
    assert (theirs[Gauge.HANDED_OVER], theirs[Refusal.SILENT]) == (3, 2**63)
    ours.close()
    theirs[Gauge.HANDED_OVER] += 1
    successor = Counters(os.dup(theirs.fileno()))
    theirs.close()
    assert successor[Gauge.HANDED_OVER] == 4
    successor.close()


def test_each_number_has_a_place_of_its_own() -> None:
    counters = Counters()
    names = [*Gauge, *Refusal]
    for number, name in enumerate(names, 1):
        counters[name] = number
    assert [counters[name] for name in names] == [*range(1, len(names) + 1)]
    counters.close()


def test_after_the_end_all_are_zero_and_closing_again_is_nothing() -> None:
    counters = Counters()
    counters[Gauge.STARTS] = 1
    counters.close()
    counters.close()
    assert counters[Gauge.STARTS] == 0
    assert counters.refused() == {}


def test_a_descriptor_that_is_no_page_is_closed() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with pytest.raises(OSError):
        Counters(reader)
    with pytest.raises(OSError):
        os.fstat(reader)


def test_refusals_are_told_by_code_and_in_words() -> None:
    counters = Counters()
    counters[Refusal.WRONG_SECRET] = 2
    counters[Refusal.TOO_MANY] = 1
    found = counters.refused()
    counters.close()
    assert found == {"wrong-secret": 2, "too-many": 1}
    text = describe_refused(found)
    assert f"2 ({Refusal.WRONG_SECRET.text})" in text
    assert f"1 ({Refusal.TOO_MANY.text})" in text
    assert describe_refused({}) == "none"
