"""Lengths of time and sizes as users write them: on a command line, in a file, in Python."""

from __future__ import annotations

import re

__all__ = ["SIZE", "TIME", "parse_megabytes", "parse_seconds"]

TIME = "seconds, or such as 90s, 10m, 2h or 1d"
SIZE = "megabytes, or such as 800MB or 2GB"

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_MEGABYTES = {"": 1, "M": 1, "G": 1 << 10, "T": 1 << 20}

# No length of time is longer, none that the launcher and the shim know.
_LONGEST_TIME = 99_999_999


def parse_seconds(text: str) -> float:
    """Return a length of time in seconds; more than three years are taken for that.

    Raises:
        ValueError: It is none.

    Source: ``string_time_parse`` in cctools' ``stringtools.c``, which takes no fractions.
    """
    match = re.fullmatch(r"\s*\+?(\d+(?:\.\d+)?)\s*([smhd]?)\s*", text, re.ASCII | re.I)
    if match is None:
        raise ValueError(f"{text!r} is no length of time; write {TIME}")
    return min(float(match[1]) * _SECONDS[match[2].lower()], _LONGEST_TIME)


def parse_megabytes(text: str) -> float:
    """Return a size in megabytes of 2**20 bytes, as HTCondor and cctools count them.

    Raises:
        ValueError: It is none.
    """
    match = re.fullmatch(
        r"\s*\+?(\d{1,15}(?:\.\d+)?)\s*(?:([MGT])i?B?)?\s*", text, re.ASCII | re.I
    )
    if match is None:
        raise ValueError(f"{text!r} is no size; write {SIZE}")
    return float(match[1]) * _MEGABYTES[(match[2] or "").upper()]
