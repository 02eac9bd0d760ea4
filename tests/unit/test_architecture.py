"""The pages that say where things are name what is there, and every room."""

from __future__ import annotations

import re

import pytest

from tests.unit.test_layers import FLOORS, PACKAGE

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
