"""The troubleshooting page has headings for messages that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def said() -> str:
    """Return every text of the package, with what is filled in left open."""
    found = []
    for path in (ROOT / "vine_sharedport").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[sdg]", "…", node.value))
    return "\n".join(found)


def test_each_heading_of_the_factory_and_of_manager_jobs_is_a_message() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    sections = [
        s for s in page.split("\n## ") if s.startswith(("When a f", "While a f", "When a m"))
    ]
    assert len(sections) == 3
    texts = said()
    headings = [
        h for section in sections for h in re.findall(r"^### (.*)", section, re.MULTILINE)
    ]
    assert len(headings) > 25
    for heading in headings:
        for part in re.split(r"…|, ", heading):
            assert part.strip(" ,;:") in texts, heading
