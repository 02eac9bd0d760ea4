"""Type checkers see the names that there are, and no others."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vine_sharedport
from vine_sharedport.factory.api import Factory
from vine_sharedport.factory.options.schema import ALIASES, Options

HERE = Path(__file__).parent
PACKAGE = Path(vine_sharedport.__file__).parent


def test_mypy_finds_each_mistake_and_none_in_what_is_right() -> None:
    pytest.importorskip("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--config-file",
         "pyproject.toml", str(HERE / "good.py"), str(HERE / "bad.py")],
        cwd=PACKAGE.parent, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    pattern = r"^(\S+):(\d+): error: .*\[([\w-]+)\]$"
    found = re.findall(pattern, done.stdout, re.MULTILINE)
    wanted = [
        (str((HERE / "bad.py").relative_to(PACKAGE.parent)), str(number), match[1])
        for number, line in enumerate((HERE / "bad.py").read_text().splitlines(), 1)
        if (match := re.search(r"# E: ([\w-]+)", line))
    ]
    assert found == wanted, done.stdout + done.stderr


def _declared() -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Return the types read and given of each attribute, and those given by name."""
    tree = ast.parse((PACKAGE / "factory" / "declarations.py").read_text())
    (owner,) = [
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"
    ]
    attributes = {}
    for node in owner.body:
        if isinstance(node, ast.Assign):
            generic: Any = node.value
            kinds = [ast.unparse(kind).strip("'") for kind in generic.func.slice.elts]
            attributes.update(
                {ast.unparse(name): (kinds[0], kinds[1]) for name in node.targets}
            )
    (values,) = [
        node.value for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "OptionValues"
    ]  # fmt: skip
    given: Any = values
    pairs = zip(given.args[1].keys, given.args[1].values)
    return attributes, {name.value: ast.unparse(kind).strip("'") for name, kind in pairs}


def test_the_declared_options_are_those_of_the_table() -> None:
    attributes, by_name = _declared()
    table = {option.name: str(option.type) for option in dataclasses.fields(Options)}
    table["directory"] = "str | Any"  # there is one once it was started
    wanted = {**table, **{alias: table[name] for alias, name in ALIASES.items()}}
    assert {name: read for name, (read, _) in attributes.items()} == wanted
    explicit = set(inspect.signature(Factory).parameters)
    assert by_name == {
        name: given for name, (_, given) in attributes.items() if name not in explicit
    }


@pytest.mark.parametrize(
    ("system", "name"), [("taskvine", "Manager"), ("work_queue", "WorkQueue")]
)
def test_the_declared_arguments_are_the_stock_managers(system: str, name: str) -> None:
    pytest.importorskip(f"ndcctools.{system}")
    tree = ast.parse((PACKAGE / "manager" / f"{system}.py").read_text())
    (declared,) = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]  # fmt: skip
    names = [argument.arg for argument in declared.args.args]
    defaults = [ast.literal_eval(default) for default in declared.args.defaults]
    ours = dict(zip(names[1:], defaults))
    module = importlib.import_module(f"vine_sharedport.manager.{system}")
    stock = inspect.signature(getattr(module, name)).parameters.values()
    assert {p.name: p.default for p in stock if p.name != "shared_port"}.items() <= ours.items()


def test_the_declared_stock_names_are_taskvines() -> None:
    taskvine: Any = pytest.importorskip("ndcctools.taskvine")
    tree = ast.parse((PACKAGE / "manager" / "taskvine_names.py").read_text())
    declared = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
        for alias in node.names if node.module == "ndcctools.taskvine"
    }  # fmt: skip
    assert declared >= set(taskvine.__all__) - set(vine_sharedport.__all__)
    assert all(hasattr(taskvine, name) for name in declared - {"DaskVineDag"})
