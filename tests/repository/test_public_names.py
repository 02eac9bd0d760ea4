"""What a public signature or docstring names, a user can name: ``vine_sharedport.NAME``."""

from __future__ import annotations

import builtins
import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

import pytest

import vine_sharedport
from vine_sharedport import work_queue

# A class's methods that a user calls by an operator or a statement.
SPECIAL = {"__init__", "__enter__", "__iter__", "__next__", "__call__"}
# Classes whose instances are made by ours alone.
MADE = {"Link"}


def public_objects() -> dict[str, Any]:
    """Return what is public, by its full name; without TaskVine, what needs none."""
    found = {}
    for module in (vine_sharedport, work_queue):
        for name in module.__all__:
            if name in ("Manager", "WorkQueue", "StockFactory"):
                pytest.importorskip("ndcctools")
            found[f"{module.__name__}.{name}"] = getattr(module, name)
    return found


def ours_in(hint: Any) -> Iterator[type]:
    """Return the classes of this package in a type, however deep."""
    if isinstance(hint, type) and hint.__module__.startswith("vine_sharedport"):
        yield hint
    for part in hint if isinstance(hint, (list, tuple)) else typing.get_args(hint):
        yield from ours_in(part)


def parts_of(public: Any) -> Iterator[tuple[str, Any]]:
    """Return an object and, of a class of this package, its public attributes."""
    yield "", public
    for cls in inspect.getmro(public) if isinstance(public, type) else ():
        if cls.__module__.startswith("vine_sharedport"):
            for name, value in vars(cls).items():
                # A dataclass's own has the class's types, and another module's names.
                if name == "__init__" and (cls.__name__ in MADE or is_dataclass(cls)):
                    continue
                if name in SPECIAL or not name.startswith("_"):
                    yield f".{name}", getattr(value, "fget", getattr(value, "__func__", value))


def hints_of(part: Any) -> Iterator[Any]:
    """Return the types in a signature, or of a class's public attributes."""
    if isinstance(part, type) or inspect.isroutine(part):
        # Stock methods that we wrap have no types.
        for name, hint in typing.get_type_hints(part).items():
            if not name.startswith("_"):
                yield hint


def raised_by(part: Any) -> Iterator[str]:
    """Return the exceptions that a docstring says are raised."""
    text = (inspect.getdoc(part) or "") if isinstance(part, type) or callable(part) else ""
    section = re.search(r"^Raises:\n((?:[ ]+.*\n?|\n)+)", text, re.MULTILINE)
    if section is not None:
        yield from re.findall(r"^ {4}(\w+):", section[1], re.MULTILINE)


def test_every_class_in_a_public_signature_is_public() -> None:
    known = [each for each in public_objects().values() if isinstance(each, type)]
    hidden = {
        f"{name}{at}: {cls.__module__}.{cls.__qualname__}"
        for name, public in public_objects().items()
        for at, part in parts_of(public)
        for hint in hints_of(part)
        for cls in ours_in(hint)
        if not any(issubclass(each, cls) for each in known)
    }
    assert not hidden


def test_every_error_that_a_docstring_names_is_public() -> None:
    hidden = {
        f"{name}{at}: {error}"
        for name, public in public_objects().items()
        for at, part in parts_of(public)
        for error in raised_by(part)
        if error not in vine_sharedport.__all__ and not hasattr(builtins, error)
    }
    assert not hidden


def test_what_is_looked_at_is_what_a_user_sees() -> None:
    public = public_objects()
    connect = public["vine_sharedport.connect"]
    assert {"DialError", "DialTimeout", "SinfulError"} <= set(raised_by(connect))
    parts = dict(parts_of(public["vine_sharedport.work_queue.WorkQueue"]))
    assert public["vine_sharedport.Link"] in set(ours_in(list(hints_of(parts[".shared_port"]))))
