"""The pages that say where things are name what is there, every room and every module."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from .test_layers import FLOORS, PACKAGE

ROOT = PACKAGE.parent
DOCS = ROOT / "docs"
# `folder/`, `module.py`, `folder/header.h`; a bare `link.c` is another project's.
NAMED = re.compile(r"`([\w./-]+(?:/|\.py|\.sh|\.ini|\.md|/[\w.-]+\.[ch]))`")
LINKED = re.compile(r"\]\(([\w./-]+)(?:#[\w-]+)?\)")


@pytest.mark.parametrize("page", ["architecture.md", "design.md"])
def test_every_path_that_a_page_names_is_there(page: str) -> None:
    text = (DOCS / page).read_text()
    named, linked = NAMED.findall(text), LINKED.findall(text)
    assert len(named) > 5
    assert linked
    places = [(named, (PACKAGE, ROOT)), (linked, (DOCS,))]
    assert [
        name
        for names, roots in places
        for name in names
        if not any((root / name).exists() for root in roots)
    ] == []


def test_every_room_is_in_the_table_of_rooms() -> None:
    text = (DOCS / "architecture.md").read_text()
    table = text.partition("\n## The rooms\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([^|]+) \|", table, re.M)
    named = [re.sub(r"/$|\.py$", "", name) for name in NAMED.findall(" ".join(cells))]
    assert sorted(named) == sorted(["__init__", "shim", *" ".join(FLOORS).split()])


ROOMS = sorted(path.parent for path in PACKAGE.glob("*/**/__init__.py"))


@pytest.mark.parametrize("room", ROOMS, ids=[str(room.relative_to(PACKAGE)) for room in ROOMS])
def test_each_package_introduces_its_modules(room: Path) -> None:
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    own = {path.stem for path in room.glob("*.py")} - {"__init__", "__main__"}
    if room.name == "cli":  # the others are the nouns
        own = {"common", "factory_options", "factory_view", "main"}
    assert {name for name in own if f"``{name}``" not in text} == set()
    assert len(text.splitlines()) <= 20
