"""Imports go downwards only, and the public names are those that are documented."""

from __future__ import annotations

import ast
import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vine_sharedport

PACKAGE = Path(vine_sharedport.__file__).parent

# The rooms, from the ground floor up; a room imports its own modules and what stands in the
# lines above it. Rooms in one line know nothing of each other.
FLOORS = [
    "environment errors units",
    "atomic_file installing keepalive trusted_files",
    "records supervision",
    "events fdpass wire",
    "secret_file",
    "dialing hook",
    "serving",
    "registry",
    "htcondor_shared_link worker",
    "condor/personal_pool",
    "condor",
    "bundle",
    "condor/worker_job condor/manager_job",
    "manager_protocol",
    "factory/report",
    "factory/submission",
    "factory/options",
    "factory/manager_view",
    "factory/jobs",
    "factory",
    "manager",
    "work_queue tcp_servers",
    "cli",
]
RANK = {room: rank for rank, floor in enumerate(FLOORS) for room in floor.split()}
# Folders of fewer than three modules, and why.
SMALL = {
    "manager/site": "one program, which Python finds by its name",
    "shim": "C alone",
    "manager_protocol": "as small as its subject",
    "tcp_servers": "as small as its subject",
    "worker": "the launcher beside them is most of it",
}
FOREIGN = {"ndcctools": "manager", "htcondor2": "condor", "classad2": "condor"}
# What computes; nothing that opens, waits or logs.
PURE = {
    "__future__", "builtins", "collections", "dataclasses", "enum", "functools", "hashlib",
    "hmac", "ipaddress", "re", "string", "struct", "typing", "urllib",
}  # fmt: skip


def _names(tree: ast.AST) -> set[str]:
    """Return the full names that a program imports, at its top or in a function."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.List):  # what another process runs: -m MODULE
            words = [getattr(word, "value", None) for word in node.elts]
            found |= {str(name) for option, name in zip(words, words[1:]) if option == "-m"}
        elif isinstance(node, ast.Constant) and re.search(
            r"(from|import) vine_sharedport", str(node.value)
        ):
            with contextlib.suppress(SyntaxError):  # -c PROGRAM
                found |= _names(ast.parse(str(node.value)))
    return found


def _imports(path: Path) -> set[str]:
    return _names(ast.parse(path.read_text()))


def _modules() -> list[tuple[str, Path]]:
    return [
        (path.relative_to(PACKAGE).with_suffix("").parts[0], path)
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def _module_of(name: str) -> Path | None:
    """Return the file of our module that a full name names, or is in."""
    package, *parts = name.split(".")
    while package == "vine_sharedport" and parts:
        place = PACKAGE.joinpath(*parts)
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.exists():
                return path
        parts.pop()
    return None


def _room_of(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return str(inside.parent if len(inside.parts) > 1 else inside.with_suffix(""))


def _wrong(path: Path, names: set[str]) -> list[str]:
    """Return which imports of a module do not lead downwards."""
    room = _room_of(path)
    if room in ("__init__", "__main__", "manager/site"):
        return []  # the public names, and two doors
    wrong = []
    for name in names:
        target = _module_of(name)
        if target is None or target.name == "__init__.py":
            continue
        to = _room_of(target)
        if to != room and RANK[to] >= RANK[room]:
            wrong.append(f"{room} imports {name}")
    return wrong


def _circles() -> list[list[str]]:
    """Return the modules that import each other in a circle."""
    graph = {
        path: {target for name in _imports(path) if (target := _module_of(name)) is not None}
        for _, path in _modules()
        if path.name != "__init__.py"
    }
    below: set[Path] = set()
    while True:
        done = {path for path in graph if graph[path] & graph.keys() <= below | {path}}
        if done == below:
            return [sorted(str(path.relative_to(PACKAGE)) for path in graph.keys() - below)]
        below = done


def test_every_part_has_its_place() -> None:
    parts = {part for part, _ in _modules()}
    # Or asking for one of them would look it up in TaskVine.
    assert parts - {"__init__", "__main__"} == vine_sharedport._SUBMODULES
    rooms = {_room_of(path) for _, path in _modules() if path.name != "__init__.py"}
    assert rooms - {"__main__", "manager/site"} == RANK.keys()


def test_a_folder_is_one_subject() -> None:
    for folder in {path.parent for _, path in _modules()}:
        own = [
            path for path in folder.glob("*.py") if path.stem not in ("__init__", "__main__")
        ]
        name = str(folder.relative_to(PACKAGE))
        assert len(own) <= 14, f"{name} has {len(own)} modules"
        assert (len(own) < 3) == (name in SMALL), f"{name} has {len(own)} modules"


@pytest.mark.parametrize("path", [path for _, path in _modules()], ids=_room_of)
def test_imports_go_downwards_only(path: Path) -> None:
    assert not _wrong(path, _imports(path))


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert _circles() == [[]]


@pytest.mark.parametrize(
    "text",
    [
        "import vine_sharedport.factory.loop",
        "def f():\n    from vine_sharedport.factory import loop",
        "if TYPE_CHECKING:\n    from vine_sharedport.factory.loop import Loop",
        'run(["-m", "vine_sharedport.factory.loop"])',
        'run(["-c", "from vine_sharedport.factory.loop import Loop"])',
    ],
)
def test_an_import_that_runs_upwards_is_seen(text: str) -> None:
    path = PACKAGE / "factory" / "jobs" / "queue.py"
    assert _wrong(path, _names(ast.parse(text))), text
    assert not _wrong(PACKAGE / "cli" / "factory.py", _names(ast.parse(text)))


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
