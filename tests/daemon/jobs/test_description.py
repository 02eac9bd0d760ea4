"""What a submit description says reaches the program byte for byte."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.daemon import helpers
from vine_sharedport.condor.schedd import Schedd
from vine_sharedport.condor.submit_description import (
    Commands,
    SubmitDescription,
    Verbatim,
    quote_path,
)

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


def _read_by_htcondor(text: str, command: str) -> list[str]:
    """Return the items that HTCondor's bindings read in a description's text."""
    classad2, htcondor2 = pytest.importorskip("classad2"), pytest.importorskip("htcondor2")
    value = htcondor2.Submit(text).expand(command)
    assert value[0] == value[-1] == '"'
    quoted = classad2.quote(value[1:-1].replace('""', '"'))
    items = classad2.ExprTree(f"argsToList({quoted})").eval()
    # What the schedd replaces when the job starts.
    assert "$$(" not in "\n".join(items).replace("$$(DOLLARDOLLAR)", " ")
    return [item.replace("$$(DOLLARDOLLAR)", "$$") for item in items]


@given(
    st.lists(
        st.lists(st.sampled_from([*PIECES, *TEXTS])).map("".join)
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"))
    )
)
def test_htcondors_bindings_read_what_was_written(texts: list[str]) -> None:
    variables = {f"A{number}": text for number, text in enumerate(texts)}
    text = SubmitDescription(("first", *texts), {"A": "first", **variables}).format()
    assert _read_by_htcondor(text, "arguments") == ["first", *texts]
    items = ["A=first", *(f"{name}={value}" for name, value in variables.items())]
    assert _read_by_htcondor(text, "environment") == items


def _write_program(directory: Path) -> Path:
    program = directory / "tell"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    return program


def _commands(program: Path, universe: str, output: Path) -> Commands:
    return Commands(
        {
            "universe": universe,
            "executable": quote_path(str(program)),
            "output": quote_path(str(output)),
            "should_transfer_files": "YES",
            "request_cpus": 1,
            "request_memory": 64,
            "request_disk": 4096,
        }
    )


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
    commands = _commands(_write_program(tmp_path), universe, output)
    job = SubmitDescription(tuple(texts), variables, commands=commands)
    if tool:
        file = tmp_path / "submit"
        file.write_text(job.format() + "queue\n")
        said = subprocess.run(
            ["condor_submit", "-terse", file], check=True, capture_output=True, text=True
        )
        cluster = int(said.stdout.split(".")[0])
    else:
        cluster = Schedd().submit(job)
    _wait(cluster)
    assert json.loads(output.read_text()) == [texts, variables]


def test_a_macro_is_filled_in_beside_a_text_that_looks_like_it(
    pool: Any, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    commands = _commands(_write_program(tmp_path), "vanilla", output)
    job = SubmitDescription((Verbatim("$$(Cpus)"), "$$(Cpus)"), commands=commands)
    users = {"environment": "\"TOLD_A='$$([1+1])  ''''$(Word)' TOLD_B='$'(Word)\""}
    _wait(Schedd().submit(job.with_commands({**users, "Word": "said"})))
    variables = {"TOLD_A": "2  ''said", "TOLD_B": "$(Word)"}
    assert json.loads(output.read_text()) == [["1", "$$(Cpus)"], variables]


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
    commands = _commands(program, "vanilla", place / "out")
    _wait(Schedd().submit(SubmitDescription((), {}, (str(place / "input"),), commands)))
    assert (place / "out").read_text() == "here"
    assert sorted(os.listdir(place)) == ["input", "out", "program"]
