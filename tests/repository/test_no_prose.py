"""No code is steered by a message's text: errors have classes, codes and verdicts."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import vine_sharedport

PACKAGE = Path(vine_sharedport.__file__).parent

# Messages of others: ndcctools raises a plain Exception where there is no port, and HTCondor's
# bindings a plain HTCondorException where an authentication fails; their texts alone say so.
_FOREIGN = {"manager/extension.py": 1, "condor/versions.py": 2}
_TESTS = {"startswith", "endswith", "find", "index", "count"}
_CUTS = {
    "partition",
    "rpartition",
    "split",
    "rsplit",
    "replace",
    "removeprefix",
    "removesuffix",
}
_MATCHES = {"match", "search", "fullmatch", "findall"}


def violations(source: str) -> list[int]:
    """Return the lines where a branch, or a slice, reads a message."""
    tree = ast.parse(source)
    names = _exception_names(tree)
    constants = _message_constants(tree)
    texts = {
        node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and _is_text(node.value, names)
    }

    def reads(node: ast.AST) -> bool:
        return any(
            _is_text(each, names) or (isinstance(each, ast.Name) and each.id in texts)
            for each in ast.walk(node)
        )

    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            # Whether a message is another than the last one decides about repeating it alone.
            fixed = any(
                isinstance(side, ast.Constant)
                or (isinstance(side, ast.Name) and side.id.isupper())
                for side in (node.left, *node.comparators)
            )
            alike = all(isinstance(op, (ast.Eq, ast.NotEq)) for op in node.ops)
            wrong = reads(node) and (fixed or not alike)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            # split() without arguments joins lines; what is kept as `.error` is a message.
            cuts = node.func.attr in _TESTS | _CUTS and bool(node.args)
            wrong = (cuts and (reads(node.func.value) or _has_error(node.func.value))) or (
                node.func.attr in _MATCHES and any(map(reads, node.args))
            )
        elif isinstance(node, ast.Subscript):
            wrong = isinstance(node.slice, ast.Slice) and (
                reads(node.value)
                or (isinstance(node.value, ast.Name) and node.value.id in constants)
                or (isinstance(node.value, ast.Attribute) and node.value.attr.isupper())
            )
        else:
            continue
        if wrong:
            found.append(node.lineno)
    return sorted(set(found))


def _exception_names(tree: ast.AST) -> set[str]:
    """Return what caught exceptions, and arguments that are declared as some, are called."""
    found = {"error"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
        elif isinstance(node, ast.arg) and node.annotation is not None:
            kinds = ast.unparse(node.annotation).split(" | ")
            found |= {node.arg} if kinds[0].endswith(("Error", "Exception")) else set()
        elif isinstance(node, ast.ClassDef) and any(
            ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases
        ):
            found.add("self")
    return found


def _message_constants(tree: ast.Module) -> set[str]:
    """Return the module's constants that are sentences."""
    return {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, (ast.Constant, ast.JoinedStr))
        and not (isinstance(node.value, ast.Constant) and not isinstance(node.value.value, str))
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _has_error(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Attribute) and n.attr == "error" for n in ast.walk(node))


def _is_text(node: ast.AST, names: set[str]) -> bool:
    """Whether it is str(<exception>), repr(<exception>) or <exception>.args[...]."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
        given = node.args[0]
        return node.func.id in ("str", "repr") and (
            (isinstance(given, ast.Name) and given.id in names)
            or (isinstance(given, ast.Attribute) and given.attr == "error")
        )
    return (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "args"
        and isinstance(node.value.value, ast.Name)
        and node.value.value.id in names
    )


@pytest.mark.parametrize(
    "line",
    [
        "if 'refused' in str(error): pass",
        "if NOBODY in str(failed): pass",
        "if str(failed) == 'closed': pass",
        "if str(failed) == NOBODY: pass",
        "if failed.args[0] == NOBODY: pass",
        "if 'x' in failed.args[0]: pass",
        "if str(failed).startswith('cannot'): pass",
        "if str(failed).endswith('time'): pass",
        "if re.match('cannot', str(failed)): pass",
        "if re.search('cannot', f'{x} {str(failed)}'): pass",
        "cause = str(failed).partition('; ')[0]",
        "cause = str(failed).split(': ', 1)[-1]",
        "cause = str(failed).replace('cannot reach it: ', '')",
        "cause = str(failed).removeprefix('cannot reach it: ')",
        "cause = (view.error or '').replace('cannot reach it: ', '')",
        "class X(OSError):\n        cause = lambda self: str(self).partition('; ')[0]",
        "text = str(failed)\n    if 'cannot' in text: pass",
        "if NOBODY[:40] in said: pass",
        "if dial.NOBODY[:40] in said: pass",
        "if str(failed)[:6] == word: pass",
    ],
)
def test_each_form_is_found(line: str) -> None:
    start = "NOBODY = 'nobody is there'\ntry:\n    go()\nexcept OSError as failed:\n    "
    assert violations(start + line)


@pytest.mark.parametrize(
    "line",
    [
        "if str(failed) != self.said: self.said = str(failed)",
        "if failed.errno in (1, 2): pass",
        "log(f'{failed}', str(failed))",
        "log(' '.join(str(failed).split()))",
    ],
)
def test_what_is_told_may_be_text(line: str) -> None:
    start = "NOBODY = 'nobody is there'\ntry:\n    go()\nexcept OSError as failed:\n    "
    assert not violations(start + line)


def test_no_branch_reads_a_message() -> None:
    found = {
        str(path.relative_to(PACKAGE)): lines
        for path in sorted(PACKAGE.rglob("*.py"))
        if (lines := violations(path.read_text()))
    }
    assert {path: len(lines) for path, lines in found.items()} == _FOREIGN, found
