"""Reword messages of the package, to see that no test and no branch holds on to their words.

    python3 tests/reword_messages.py [--seed SEED] [--count COUNT]
    ./sandbox/run pytest tests/unit

Messages are the texts of errors and log lines. Their words get a "q" at the end; values,
options, names and whatever stands in quotes stay.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGE = CHECKOUT / "vine_sharedport"
ERRORS = re.compile(r"(Error|Timeout|_Mismatch|_fail|_refuse)$")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
LITERAL = re.compile(rb"""([rf]*)("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")
VALUE = re.compile(rb"\{\{|\}\}|\{(?:[^{}]|\{[^{}]*\})*\}")
QUOTED = re.compile(
    rb"(?<!\w)(\\?['\"`])(?! ).*?\1(?!\w)|vine_sharedport(?: [a-z]+)+", re.DOTALL
)
WORD = re.compile(rb"(?<![-\w./=<:$%\\])[a-z]{3,}(?![-\w./=(?]|'s| (?:-\w|\d{3} ))")


def messages(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield what is the text of an error or of a log line."""
    raised = {node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            name = ast.unparse(node.func).rpartition(".")[2]
            if node in raised or ERRORS.search(name) or name in LEVELS:
                yield from texts(node.args[0])
                for keyword in node.keywords:
                    yield from texts(keyword.value) if keyword.arg == "step" else ()


def texts(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the literals that make up `node`."""
    if isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)
    elif isinstance(node, ast.BinOp):
        yield from texts(node.left)
        yield from texts(node.right)
    elif isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    ):
        yield node


def ends_of_words(path: Path) -> Iterator[list[int]]:
    """Yield for each message of the file the offsets at which a word of it ends."""
    source = path.read_bytes()
    begins = [0]
    for line in source.splitlines(keepends=True):
        begins.append(begins[-1] + len(line))
    for node in messages(ast.parse(source)):
        begin = begins[node.lineno - 1] + node.col_offset
        end = begins[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        text, offsets = b"", [0]  # the literals as one text; where each byte of it ends
        for literal in LITERAL.finditer(source, begin, end):
            part = literal[2][1:-1]
            if b"f" in literal[1]:
                part = VALUE.sub(lambda value: b"=" * len(value[0]), part)
            text += part
            offsets += range(literal.start(2) + 2, literal.end(2))
        quoted = {i for found in QUOTED.finditer(text) for i in range(*found.span())}
        ends = [
            offsets[word.end()] for word in WORD.finditer(text) if word.start() not in quoted
        ]
        if ends and b" " in text:  # one word is a name
            yield ends


def main() -> None:
    """Change the files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="which messages (default 0)")
    parser.add_argument("--count", type=int, help="how many messages (default: all)")
    options = parser.parse_args()
    git = ["git", "-C", str(CHECKOUT)]
    if subprocess.check_output([*git, "status", "--porcelain", "--untracked-files=no"]):
        sys.exit(f"{CHECKOUT} has changes that are not committed; commit them first")
    every = [
        (path, ends) for path in sorted(PACKAGE.rglob("*.py")) for ends in ends_of_words(path)
    ]
    chosen = random.Random(options.seed).sample(every, options.count or len(every))
    for path in {path for path, _ in chosen}:
        source = path.read_bytes()
        places = {end for other, ends in chosen if other == path for end in ends}
        for end in sorted(places, reverse=True):
            source = source[:end] + b"q" + source[end:]
        ast.parse(source)
        path.write_bytes(source)
    print(f"{len(chosen)} of {len(every)} messages are reworded; to undo it:")
    print(f"    git -C {CHECKOUT} checkout -- {PACKAGE.name}")


if __name__ == "__main__":
    main()
