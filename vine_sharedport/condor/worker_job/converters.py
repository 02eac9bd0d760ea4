"""What users may give as an option's value, and what becomes of it.

Each converter takes the option's name, for messages, and the value, and returns it as
``Options`` keeps it; ``SettingError`` says what is wanted instead.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from vine_sharedport.condor.worker_job.expressions import is_expression
from vine_sharedport.errors import SettingError
from vine_sharedport.units import SIZE, TIME, parse_megabytes, parse_seconds

__all__ = [
    "Convert",
    "batch_lines",
    "to_batch_options",
    "to_choice",
    "to_command_line",
    "to_commands",
    "to_environment",
    "to_flag",
    "to_host_port",
    "to_integer",
    "to_lines",
    "to_megabytes",
    "to_pairs",
    "to_port_range",
    "to_requirements",
    "to_seconds",
    "to_size",
    "to_text",
    "to_texts",
    "to_whole_seconds",
    "to_words",
    "to_wrapper",
]

Convert = Callable[[str, Any], Any]

# First words of what condor_submit takes for a statement, mostly also with "=" behind it.
# Source: ``Parse_macros`` in src/condor_utils/config.cpp; ``is_queue_statement`` in
# src/condor_utils/submit_utils.cpp.
_STATEMENTS = {"queue", "include", "if", "elif", "else", "endif"}


def _bad(name: str, value: object, wanted: str) -> SettingError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return SettingError(f"the option {name} is {shown}; wanted is {wanted}")


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


def to_megabytes(name: str, value: Any) -> int | None:
    """Return megabytes of each worker, None below 1 as for vine_factory.

    A part of one is refused: it is meant in gigabytes.
    """
    number = value
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            number = parse_megabytes(value)
    whole: int | None = to_integer(1, SIZE, none_below=1)(name, number)
    if whole == 1 and float(number) < 1:
        raise _bad(name, value, f"{SIZE}; at least 1 MB")
    return whole


def to_seconds(name: str, value: Any, *, least: float = 0.1) -> float:
    """Return seconds."""
    wanted = f"{TIME}; at least {least:g}"
    try:
        if isinstance(value, bool):
            raise ValueError
        seconds = parse_seconds(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise _bad(name, value, wanted) from None
    if not least <= seconds < 1 << 53:
        raise _bad(name, value, wanted)
    return seconds


def to_whole_seconds(least: int) -> Convert:
    """Return a converter to seconds; fractions are rounded up, as vine_factory does."""
    return lambda name, value: math.ceil(to_seconds(name, value, least=least))


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
    if not _is_plain(text) or (not lines and re.search(r"[\r\n]", text)):
        wanted = "UTF-8 text without NUL" + ("" if lines else ", in one line")
        raise _bad(name, value, wanted)
    return text or None


def _is_plain(text: str) -> bool:
    """Whether a text can stand in a file and in a submit description."""
    # Bytes of an argument or path that are no UTF-8 come as surrogates.
    return not re.search("[\0\ud800-\udfff]", text)


def to_lines(name: str, value: Any) -> str | None:
    """Return text, of several lines maybe."""
    return to_text(name, value, lines=True)


def to_command_line(name: str, value: Any) -> str | None:
    """Return words, or text that is quoted as for a shell, as such text."""
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)):
        return shlex.join(to_text(name, word) or "" for word in value) or None
    return to_text(name, value)


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
        if re.search(r"[\r\n=]", key) or not _is_plain(key + text):
            raise _bad(name, item, f"{wanted}, in UTF-8 without NUL")
        found[key.strip()] = text
    return tuple(found.items())


def to_environment(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    """Return variables as pairs; what HTCondor takes for none is refused."""
    found = to_pairs(name, value)
    for variable, text in found:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            raise _bad(
                name, f"{variable}={text}",
                "NAME=VALUE with a name of letters, digits and '_', the first no digit",
            )  # fmt: skip
    return found


def to_commands(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    """Return submit commands as pairs; what cannot be one is refused."""
    found = tuple((command, text.strip()) for command, text in to_pairs(name, value))
    for command, text in found:
        _check_command(name, f"{command} = {text}")
    return found


def to_batch_options(name: str, value: Any) -> str | None:
    """Return lines of submit commands; what cannot be one is refused."""
    found = to_lines(name, value)
    for line in batch_lines(found or ""):
        _check_command(name, line)
    return found


def batch_lines(text: str) -> list[str]:
    r"""Return the lines of ``batch_options``, in which ``\n`` may stand for a break.

    Source: ``string_replace_backslash_codes`` is applied to them by ``vine_factory``.
    """
    codes = {"n": "\n", "t": "\t", "r": "", "\\": "\\"}
    text = re.sub(r"\\(.)", lambda m: codes.get(m[1], m[0]), text, flags=re.DOTALL)
    return [line.strip() for line in text.splitlines() if line.strip()]


def _check_command(name: str, line: str) -> None:
    """Refuse what the schedd would not take, or take for something else."""
    command, equals, text = (part.strip() for part in line.partition("="))
    if {*command.lower().split()[:1]} & _STATEMENTS:
        raise SettingError(
            f"{name} has {line!r}, which is no submit command but a statement; leave it out: "
            "how many jobs there are, the factory decides"
        )
    if not equals or not re.fullmatch(r"\+?\s*[\w.]+", command, re.ASCII):
        raise SettingError(
            f"{name} has the line {line!r}; wanted are submit commands, NAME = VALUE, one in "
            "each line"
        )
    if text.endswith("\\"):
        raise SettingError(
            f"{name} has {line!r}, with which the next line would go on; write it in one line, "
            "without the backslash"
        )
    is_attribute = command.lower().startswith(("+", "my."))
    if is_attribute or command.lower() in ("rank", "requirements"):
        _check_expression(f"{name}: {command}", text)


def _check_expression(name: str, text: str) -> None:
    if text and not is_expression(text):
        raise SettingError(
            f"{name} is {text[:200]!r}, which is no ClassAd expression; look at its "
            "parentheses, and put texts in double quotes"
        )


def to_requirements(name: str, value: Any) -> str | None:
    """Return one expression; several must all hold, as with vine_factory."""
    found = to_texts(name, value)
    for text in found:
        _check_expression(name, text)
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
            raise SettingError(f"the {name} {value!r} is refused: {reason}")
        raise _bad(name, value, "one of " + ", ".join(choices))

    return convert
