"""What a submit description says reaches the program byte for byte."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from vine_sharedport.pool.description import (
    Macro,
    format_description,
    quote_arguments,
    quote_environment,
    quote_path,
)
from vine_sharedport.pool.schedd import Schedd

from . import helpers

pytestmark = pytest.mark.daemon

PROGRAM = """#!/usr/bin/env python3
import json, os, sys
variables = {name: os.environ[name] for name in os.environ if name.startswith("TOLD_")}
print(json.dumps([sys.argv[1:], variables]))
"""

TEXTS = [
    "", " ", "  two  blanks ", "\t", "'", "''", '"', "it's \"quoted\"", "\\", "\\\\", '\\"',
    "\\'", "$", "$$", "$$$", "a$b", "$HOME", "$(X)", "$$(X)", "$$$(X)", "$$$$(X)", "$$$$$(X)",
    "$$(Cpus)", "$$([1+1])", '$$([ "a" ])', "\\$$(X)", "'$$(X)'", "$$(", "$$([", "$$(a b)",
    "$$(X:", "$(", "$(DOLLAR)", "$$(DOLLAR)", "$$(DOLLARDOLLAR)", "$$(DOLLARDOLLAR)(X)",
    "$(DOLLAR)$(DOLLAR)(X)", "$ENV(HOME)", "$ENV($HOME)", "$ENV($(X))", "$$ENV(HOME)",
    "$$$ENV(HOME)", "$INT(3)", "$F(x)", "$(a:$b)", "$(a:$(b))", "$(a$b)", "$(Cluster)",
    "$(Process)", "$RANDOM_CHOICE(a,b)", "$é(x)", "é$(X)", "é", "\x01", "\x7f", "a=b", "#",
    "%", "&<>;|`*?~!", "{}", "[]", "\u00a0",
]  # fmt: skip
PIECES = ["$", "$", "$$", "(", ")", "X", "ENV", "DOLLAR", "DOLLARDOLLAR", "Cpus", "'", '"', " ",
          "\\", "[", "]", ":", "é", "1", ","]  # fmt: skip


def _texts() -> list[str]:
    rng = random.Random(1)
    mixed = ["".join(rng.choices(PIECES, k=rng.randint(1, 12))) for _ in range(300)]
    return TEXTS + mixed


def _write_program(directory: Path) -> Path:
    program = directory / "tell"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    return program


def _commands(program: Path, universe: str, output: Path, **more: str) -> dict[str, str | int]:
    return {
        "universe": universe,
        "executable": quote_path(str(program)),
        "output": quote_path(str(output)),
        "should_transfer_files": "YES",
        "request_memory": 64,
        "request_disk": 4096,
        **more,
    }


def _wait(cluster: int) -> None:
    def ended() -> bool:
        ads = Schedd().query(f"ClusterId == {cluster}", ["JobStatus", "HoldReason"])
        assert not ads or "HoldReason" not in ads[0], ads
        return not ads

    helpers.wait_until(ended, timeout=60)


@pytest.mark.parametrize("universe", ["vanilla", "local"])
@pytest.mark.parametrize("tool", [False, True], ids=["bindings", "condor_submit"])
def test_arguments_and_variables_arrive_byte_for_byte(
    pool: Any, tmp_path: Path, universe: str, tool: bool
) -> None:
    texts = _texts()
    variables = {f"TOLD_{number}": text for number, text in enumerate(texts)}
    output = tmp_path / "out"
    text = format_description(
        _commands(
            _write_program(tmp_path), universe, output,
            arguments=quote_arguments(texts), environment=quote_environment(variables),
        )
    )  # fmt: skip
    if tool:
        file = tmp_path / "submit"
        file.write_text(text + "queue\n")
        said = subprocess.run(
            ["condor_submit", "-terse", file], check=True, capture_output=True, text=True
        )
        cluster = int(said.stdout.split(".")[0])
    else:
        cluster = Schedd().submit(text)
    _wait(cluster)
    assert json.loads(output.read_text()) == [texts, variables]


def test_a_macro_is_filled_in_beside_a_text_that_looks_like_it(
    pool: Any, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = quote_arguments([Macro("$$(Cpus)"), "$$(Cpus)"])
    commands = _commands(_write_program(tmp_path), "vanilla", output, arguments=arguments)
    _wait(Schedd().submit(format_description({**commands, "request_cpus": 1})))
    assert json.loads(output.read_text()) == [["1", "$$(Cpus)"], {}]


@pytest.mark.parametrize(
    "name", ["$(X)", "$ENV(HOME)", "a$$b", "$", "$$", "$(a)$(b)", "$(a$b)", "it's $(X) 'here'"]
)
def test_paths_with_dollars_are_found(pool: Any, tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    (place / "input").write_text("here")
    program = place / "program"
    program.write_text("#!/bin/sh\nexec cat input\n")
    program.chmod(0o755)
    inputs = quote_path(str(place / "input"), in_list=True)
    commands = _commands(program, "vanilla", place / "out", transfer_input_files=inputs)
    _wait(Schedd().submit(format_description(commands)))
    assert (place / "out").read_text() == "here"
    assert sorted(os.listdir(place)) == ["input", "out", "program"]
