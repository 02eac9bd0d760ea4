"""What users may give as an option's value, and what becomes of it.

Each converter takes the option's name, for messages, and the value, and returns it as
``Options`` keeps it; ``LaunchError`` says what is wanted instead.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from vine_sharedport.errors import LaunchError

__all__ = [
    "Convert",
    "to_choice",
    "to_flag",
    "to_host_port",
    "to_integer",
    "to_lines",
    "to_pairs",
    "to_port_range",
    "to_requirements",
    "to_seconds",
    "to_size",
    "to_text",
    "to_texts",
    "to_words",
    "to_wrapper",
]

Convert = Callable[[str, Any], Any]


def _bad(name: str, value: object, wanted: str) -> LaunchError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return LaunchError(f"the factory's option {name} is {shown}; wanted is {wanted}")


def to_integer(least: int, what: str, *, none_below: int | None = None) -> Convert:
    """Return a converter to int; fractions are rounded up, as vine_factory does."""
    # `none_below`: vine_factory's -1 for "not given".

    def convert(name: str, value: Any) -> int | None:
        whole: int
        wanted = f"{what}: a whole number of at least {least}"
        number = value
        if isinstance(value, str):
            # Not more digits than int() converts in a moment.
            if not re.fullmatch(r"\s*[-+]?\d{1,18}(\.\d{1,18})?\s*", value):
                raise _bad(name, value, wanted)
            number = float(value) if "." in value else int(value)
        if isinstance(number, bool) or not hasattr(number, "__ceil__"):
            raise _bad(name, value, wanted)
        try:
            whole = math.ceil(number)
        except (ValueError, OverflowError):
            raise _bad(name, value, wanted) from None
        if none_below is not None and whole < none_below:
            return None
        if not least <= whole < 1 << 53:
            raise _bad(name, value, wanted)
        return whole

    return convert


def to_seconds(name: str, value: Any) -> float:
    """Return seconds."""
    wanted = "seconds, at least 0.1"
    try:
        if isinstance(value, bool):
            raise ValueError
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        raise _bad(name, value, wanted) from None
    if not 0.1 <= seconds < 1e9:
        raise _bad(name, value, wanted)
    return seconds


def to_flag(name: str, value: Any) -> bool:
    """Return yes or no, for the words that people use for them."""
    words = {"1": True, "true": True, "yes": True, "on": True}
    words.update({"0": False, "false": False, "no": False, "off": False, "": False})
    plain = str(value).strip().lower() if isinstance(value, (bool, int, str)) else None
    found = words.get(plain) if plain is not None else None
    if found is None:
        raise _bad(name, value, "true or false (also yes or no, 1 or 0)")
    return found


def to_text(name: str, value: Any, *, lines: bool = False) -> str | None:
    """Return text or a path as text, in one line unless ``lines``; None for an empty one."""
    try:
        text = os.fspath(value)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise _bad(name, value, "text")
    if "\0" in text or (not lines and re.search(r"[\r\n]", text)):
        raise _bad(name, value, "text without NUL" + ("" if lines else ", in one line"))
    return text or None


def to_lines(name: str, value: Any) -> str | None:
    """Return text, of several lines maybe."""
    return to_text(name, value, lines=True)


def to_texts(name: str, value: Any) -> tuple[str, ...]:
    """Return one text or several as a tuple."""
    if isinstance(value, (str, os.PathLike)):
        value = [value]
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise _bad(name, value, "one text, or a list of them")
    found = tuple(to_text(name, item) for item in value)
    return tuple(item for item in found if item)


def to_words(name: str, value: Any) -> tuple[str, ...]:
    """Return the words of one text or several."""
    return tuple(word for text in to_texts(name, value) for word in text.split())


def to_pairs(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    """Return a mapping, ``"NAME=VALUE"`` or a list of such as pairs."""
    wanted = "NAME=VALUE, a list of such, or a dict"
    if isinstance(value, str):
        value = value.splitlines()
    found: dict[str, str] = {}
    if isinstance(value, Mapping):
        items: Iterable[Any] = value.items()
    elif isinstance(value, Iterable):
        items = value
    else:
        raise _bad(name, value, wanted)
    for item in items:
        # At the first "=", where the stock factory loses what follows a second one.
        pair = item.split("=", 1) if isinstance(item, str) else item
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise _bad(name, item, wanted)
        key, text = pair
        if isinstance(text, (bool, int, float)):
            text = str(text)
        if not isinstance(key, str) or not isinstance(text, str) or not key.strip():
            raise _bad(name, item, wanted)
        if re.search(r"[\0\r\n=]", key) or "\0" in text:
            raise _bad(name, item, wanted)
        if name != "env":  # a blank may belong to a variable's value
            text = text.strip()
        found[key.strip()] = text
    return tuple(found.items())


def to_requirements(name: str, value: Any) -> str | None:
    """Return one expression; several must all hold, as with vine_factory."""
    found = to_texts(name, value)
    if len(found) > 1:
        return " && ".join(f"({text})" for text in found)
    return found[0] if found else None


def to_wrapper(name: str, value: Any) -> str | None:
    """Return one command; a later one goes around the earlier, as with vine_factory."""
    return " ".join(reversed(to_texts(name, value))) or None


def to_port_range(name: str, value: Any) -> str | None:
    """Return a port or two, ``MIN:MAX``, as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    text = to_text(name, value)
    if text is None:
        return None
    wanted = "a port from 1 to 65535, or two as MIN:MAX"
    if not re.fullmatch(r"\d{1,5}(:\d{1,5})?", text):
        raise _bad(name, value, wanted)
    ports = [int(port) for port in text.split(":")]
    if not 1 <= ports[0] <= ports[-1] <= 65535:
        raise _bad(name, value, wanted)
    return text


def to_host_port(name: str, value: Any) -> str | None:
    """Return ``HOST:PORT``."""
    text = to_text(name, value)
    if text is None:
        return None
    match = re.fullmatch(r".+:(\d{1,5})", text)
    if match is None or not 1 <= int(match[1]) <= 65535:
        raise _bad(name, value, "HOST:PORT")
    return text


def to_size(name: str, value: Any) -> int:
    """Return bytes; "10M" is 10 MiB, as with vine_factory."""
    wanted = "a size in bytes, or with a unit as in 10M"
    match = re.fullmatch(r"\s*(\d{1,15})\s*([KMGTP]?)B?\s*", str(value).upper())
    if match is None or isinstance(value, bool):
        raise _bad(name, value, wanted)
    return int(match[1]) << 10 * " KMGTP".index(match[2] or " ")


def to_choice(*choices: str, refused: Mapping[str, str] | None = None) -> Convert:
    """Return a check for one of some words; ``refused`` has others, and why they are."""

    def convert(name: str, value: Any) -> str:
        if value in choices:
            return str(value)
        reason = (refused or {}).get(str(value))
        if reason:
            raise LaunchError(f"the factory's {name} {value!r} is refused: {reason}")
        raise _bad(name, value, "one of " + ", ".join(choices))

    return convert
