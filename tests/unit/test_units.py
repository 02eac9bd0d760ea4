"""Lengths of time and sizes, which a user writes alike everywhere."""

from __future__ import annotations

import argparse

import pytest

from tests.values import naming
from vine_sharedport.cli.common import duration, size
from vine_sharedport.units import parse_megabytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("90s", 90), ("10m", 600), (" +2 H ", 7200), ("1d", 86400), ("0.5", 0.5),
     ("1.5m", 90), ("0", 0), ("9" * 400, 99_999_999), ("99999d", 99_999_999)],
)  # fmt: skip
def test_a_length_of_time_has_a_unit_or_is_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "megabytes"),
    [("2048", 2048), ("800MB", 800), ("2GB", 2048), ("2g", 2048), ("1.5 GiB", 1536),
     ("1T", 1 << 20), ("0.1GB", 102.4)],
)  # fmt: skip
def test_a_size_has_a_unit_or_is_megabytes(text: str, megabytes: float) -> None:
    assert parse_megabytes(text) == pytest.approx(megabytes)
    assert megabytes <= size(text) < megabytes + 1


@pytest.mark.parametrize("text", ["", "x", "-1", "1 2", "1e3", "nan", "inf", "\u0661", "1w"])
def test_what_is_neither_is_refused_with_what_is_wanted(text: str) -> None:
    with pytest.raises(ValueError, match=naming(repr(text), "90s")):
        parse_seconds(text)
    with pytest.raises(ValueError, match=naming(repr(text), "800MB")):
        parse_megabytes(text)
    for convert in (duration, size):
        with pytest.raises(argparse.ArgumentTypeError, match=naming(repr(text))):
            convert(text)


def test_a_part_of_a_megabyte_is_meant_in_gigabytes() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=naming("'0.8'", "800MB")):
        size("0.8")
