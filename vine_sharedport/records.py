"""Records as JSON: what was written by one process of ours is checked before another uses it.

A record is a dataclass. Its annotations say what its JSON may be: ``str``, ``int``, ``float``,
``bool``, ``X | None``, lists, tuples, dicts, enums by value, other records, and as text what
has ``parse()``.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import math
import os
import sys
import typing
from typing import Any, NoReturn, TypeVar

from vine_sharedport.errors import SettingError, SharedPortError

__all__ = ["SCHEMA", "as_dict", "decode", "encode", "read", "read_values"]

SCHEMA = 1
"""What ``schema`` is in every JSON object that we write; events have it, too."""

_T = TypeVar("_T")


def encode(record: Any) -> str:
    """Return a record as JSON text, with its schema."""
    return json.dumps(as_dict(record), indent=1) + "\n"


def as_dict(record: Any) -> dict[str, Any]:
    """Return a record, or an object's values, for ``json.dumps``, with the schema."""
    return {"schema": SCHEMA, **_plain(record)}


def _plain(value: Any) -> Any:
    if hasattr(type(value), "parse"):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {
            item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)
        }
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value.value if isinstance(value, enum.Enum) else value


def decode(
    kind: type[_T],
    values: Any,
    *,
    error: type[SharedPortError] = SettingError,
    refuse_unknown: bool = False,
) -> _T:
    """Return the record that parsed JSON stands for.

    Args:
        kind: The record's class.
        values: What ``json.loads`` returned.
        error: What to raise.
        refuse_unknown: Keys that the class does not have are an error; else passed over.

    Raises:
        error: The values are something else; the message names the field and its value.
    """
    try:
        if isinstance(values, dict) and values.get("schema", SCHEMA) is not SCHEMA:
            later = "; a later version of vine_sharedport has written it, use that"
            _refuse("schema", values["schema"], f"{SCHEMA}{later}")
        found: _T = _record(kind, values, "", refuse_unknown)
        return found
    except _Mismatch as mismatch:
        raise error(str(mismatch)) from mismatch


def read(
    kind: type[_T],
    path: str,
    *,
    limit: int = 64 << 10,
    private: bool = False,
    error: type[SharedPortError] = SettingError,
) -> _T:
    """Return the record in a file; for errors see ``read_values`` and ``decode``."""
    return decode(
        kind, read_values(path, limit=limit, private=private, error=error), error=error
    )


def read_values(
    path: str,
    *,
    limit: int,
    private: bool = False,
    error: type[SharedPortError] = SettingError,
) -> Any:
    """Return the JSON in a file.

    Args:
        path: The file.
        limit: Bytes that it may have.
        private: It has to be this user's own.
        error: What to raise for its content.

    Raises:
        OSError: It cannot be read.
        error: It is no JSON, too long, or another user's.
    """
    # Not to wait for a writer, should it be a pipe.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        if private and os.fstat(fd).st_uid != os.getuid():
            raise error("it is another user's")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise error(f"it has more than {limit} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise error(f"it is no JSON: {problem}") from problem


class _Mismatch(Exception):
    """A value is not what the annotation says."""


def _refuse(place: str, value: Any, wanted: str) -> NoReturn:
    found = repr(value)
    if len(found) > 60:
        found = f"{found[:57]}..."
    raise _Mismatch(f"{place or 'it'} is {found}; wanted is {wanted}")


def _record(kind: Any, values: Any, place: str, refuse_unknown: bool) -> Any:
    if not isinstance(values, dict):
        _refuse(place, values, "an object")
    within = f"{place}." if place else ""
    hints, found = _hints(kind), {}
    for item in dataclasses.fields(kind):
        name = f"{within}{item.name}"
        if item.name in values:
            found[item.name] = _value(hints[item.name], values[item.name], name, refuse_unknown)
        elif item.default is item.default_factory is dataclasses.MISSING:
            raise _Mismatch(f"{name} is missing")
    unknown = sorted(values.keys() - found.keys() - {"schema"})
    if refuse_unknown and unknown:
        _refuse(place, unknown[0], f"one of {', '.join(hints)}")
    try:
        return kind(**found)
    except (SharedPortError, ValueError, TypeError) as error:  # by its __post_init__
        raise _Mismatch(f"{place or 'it'}: {error}") from error


def _value(hint: Any, value: Any, place: str, refuse_unknown: bool) -> Any:
    """Return what a value stands for."""
    kind, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is typing.Union:
        if value is None and type(None) in parts:
            return None
        return _value(parts[0], value, place, refuse_unknown)
    if kind in (tuple, list):
        if not isinstance(value, (list, tuple)):
            _refuse(place, value, "a list")
        if kind is list or parts[1] is ...:
            parts = (parts[0],) * len(value)
        if len(parts) != len(value):
            _refuse(place, value, f"a list of {len(parts)}")
        each = enumerate(zip(parts, value))
        return kind([_value(h, v, f"{place}[{n}]", refuse_unknown) for n, (h, v) in each])
    if kind is dict:
        if not isinstance(value, dict):
            _refuse(place, value, "an object")
        return {
            _value(str, name, place, refuse_unknown): _value(parts[1], v, place, refuse_unknown)
            for name, v in value.items()
        }
    if hasattr(kind, "parse"):
        text = _value(str, value, place, refuse_unknown)
        try:
            return kind.parse(text)
        except ValueError as error:
            raise _Mismatch(f"{place}: {error}") from error
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, place, refuse_unknown)
    if issubclass(kind, enum.Enum):
        known = [item for item in kind if item.value == value]
        return known[0] if known else _refuse(place, value, f"one of {[x.value for x in kind]}")
    if type(value) is int and kind is float:
        value = float(value) if abs(value) < 1 << 1000 else math.inf
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        _refuse(place, value, _WANTED.get(kind, "null"))
    if kind is str and any("\ud800" <= letter <= "\udfff" for letter in value):
        _refuse(place, value, "a text without halves of letters")
    return value


_WANTED = {
    float: "a finite number",
    int: "a whole number",
    bool: "true or false",
    str: "a text",
}


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """Return the types of a class's fields; before Python 3.10 ``X | None`` is none."""
    texts = {item.name: str(item.type) for item in dataclasses.fields(kind)}
    texts = {n: t if " | None" not in t else f"Optional[{t[:-7]}]" for n, t in texts.items()}
    names: dict[str, Any] = {}
    for base in reversed(kind.__mro__):  # its own module's names win
        names.update(vars(sys.modules[base.__module__]))
    names["Optional"] = typing.Optional
    return typing.get_type_hints(type("", (), {"__annotations__": texts}), names)
