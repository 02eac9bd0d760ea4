"""The troubleshooting page has a heading for each code, and each heading has its codes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from vine_sharedport.errors import Verdict
from vine_sharedport.factory.report.phase import Phase
from vine_sharedport.serving.counters import Refusal

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "vine_sharedport"
HEADING = re.compile(r"^### ((?:`[a-z_-]+`, )*`[a-z_-]+`: )?(.*)$", re.MULTILINE)


def sections() -> list[str]:
    return (ROOT / "docs" / "troubleshooting.md").read_text().split("\n## ")


def headings(text: str) -> list[tuple[list[str], str]]:
    """Return the codes and the text of each heading."""
    found = HEADING.finditer(text)
    return [(re.findall("`(.+?)`", match[1] or ""), match[2]) for match in found]


def nodes() -> Iterator[ast.AST]:
    for path in PACKAGE.rglob("*.py"):
        yield from ast.walk(ast.parse(path.read_text()))


def constants(values: Iterable[ast.AST | None]) -> set[str]:
    found = (value.value for value in values if isinstance(value, ast.Constant))
    return {value for value in found if isinstance(value, str)}


def classes_codes() -> set[str]:
    """Return ``code`` of each class: of errors and of events."""
    classes = [node for node in nodes() if isinstance(node, ast.ClassDef)]
    lines = [line for each in classes for line in each.body]
    return constants(
        [
            *(word.value for each in classes for word in each.keywords if word.arg == "code"),
            *(
                line.value
                for line in lines
                if isinstance(line, (ast.Assign, ast.AnnAssign))
                and ast.unparse(line).partition(" ")[0].rstrip(":") == "code"
            ),
        ]
    )


def causes() -> set[str]:
    """Return the causes of problems in a factory's status."""
    calls = (
        node
        for node in nodes()
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("Cause", "Problem", "_plain")
    )
    return constants(call.args[0] for call in calls)


def codes() -> set[str]:
    """Return every code that a program may get from us."""
    members = {str(member.value) for each in (Verdict, Refusal, Phase) for member in each}
    return {*classes_codes(), *members, *causes()}


def test_each_code_has_a_heading_and_each_heading_a_code() -> None:
    found = [heading for section in sections() for heading in headings(section)]
    assert [text for named, text in found if not named] == []
    known = codes()
    assert len(known) > 80
    told = {code for named, _ in found for code in named}
    assert sorted(told - known) == [], "headings with codes that there are not"
    assert sorted(known - told) == [], "codes without a heading"
