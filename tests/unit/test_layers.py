"""Imports go downwards only, and the public names are those that are documented."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vine_sharedport

PACKAGE = Path(vine_sharedport.__file__).parent

# Every part may import these.
GROUND_FLOOR = {
    *("atomic_file", "environment", "errors", "events", "installing", "records"),
    *("supervision", "units"),
}
# What each part may import of the others; a part may always import itself.
ALLOWED = {
    **{part: set() for part in GROUND_FLOOR},
    "wire": set(),
    "link": {"wire"},
    "hook": {"wire", "link"},
    "worker": {"wire", "link"},
    "htcondor_shared_link": {"wire", "link", "hook"},
    "pool": {"wire", "link", "worker"},
    "factory": {"wire", "link", "worker", "pool"},
    "manager": {"wire", "link", "hook", "htcondor_shared_link", "worker", "pool", "factory"},
    "work_queue": {"manager"},
}
CLI = {"__init__", "__main__", "cli"}
FOREIGN = {"ndcctools": "manager", "htcondor2": "pool", "classad2": "pool"}
# What computes; nothing that opens, waits or logs.
PURE = {
    "__future__", "builtins", "collections", "dataclasses", "enum", "functools", "hashlib",
    "hmac", "ipaddress", "re", "string", "struct", "typing", "urllib",
}  # fmt: skip


def _imports(path: Path) -> set[str]:
    """Return the full names that a module imports, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _modules() -> list[tuple[str, Path]]:
    return [
        (path.relative_to(PACKAGE).with_suffix("").parts[0], path)
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def test_every_part_has_its_place() -> None:
    parts = {part for part, _ in _modules()}
    # Or asking for one of them would look it up in TaskVine.
    assert parts - {"__init__", "__main__"} == vine_sharedport._SUBMODULES
    assert parts - set(CLI) <= set(ALLOWED)


@pytest.mark.parametrize(("part", "path"), _modules(), ids=lambda value: str(value)[-40:])
def test_imports_go_downwards_only(part: str, path: Path) -> None:
    for name in _imports(path):
        if not name.startswith("vine_sharedport."):
            continue
        target = name.split(".")[1]
        if part in ALLOWED and target not in {part, *GROUND_FLOOR}:
            at_root = name == "vine_sharedport.__file__"
            assert at_root or target in ALLOWED[part], f"{path} imports {name}"


@pytest.mark.parametrize(("part", "path"), _modules(), ids=lambda value: str(value)[-40:])
def test_foreign_libraries_have_one_place(part: str, path: Path) -> None:
    for name in _imports(path):
        home = FOREIGN.get(name.split(".")[0])
        assert home in (None, part), f"{path} imports {name}"


def test_a_stock_managers_private_attributes_are_known_to_one_part() -> None:
    for part, path in _modules():
        found = re.findall(r"\b_(?:using_ssl|work_queue|taskvine)\b", path.read_text())
        assert part == "manager" or not found, f"{path}: {found}"


def test_wire_computes_only() -> None:
    for part, path in _modules():
        if part == "wire":
            top = {name.split(".")[0] for name in _imports(path)} - {"vine_sharedport"}
            assert top <= PURE, f"{path} imports {top - PURE}"


def test_importing_the_package_imports_nothing_else() -> None:
    program = (
        "import sys; before = set(sys.modules); import vine_sharedport; "
        "new = {m.split('.')[0] for m in set(sys.modules) - before}; "
        "assert not new & {'htcondor2', 'classad2', 'ndcctools', 'socket', 'subprocess'}, new"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PACKAGE.parent)


def test_every_public_name_is_found_where_its_libraries_are() -> None:
    assert sorted(vine_sharedport.__all__) == sorted(vine_sharedport._HOME)
    for name in vine_sharedport.__all__:
        if name not in ("Manager", "StockFactory"):  # they need TaskVine
            assert getattr(vine_sharedport, name).__name__ == name


def test_the_public_names_are_the_documented_ones() -> None:
    table = (PACKAGE.parent / "docs" / "api.md").read_text()
    first_cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    documented = re.findall(r"`(\w+)`", " ".join(first_cells))
    assert sorted(documented) == sorted(vine_sharedport.__all__)
