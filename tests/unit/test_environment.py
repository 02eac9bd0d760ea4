"""One table has all our environment variables, and whatever uses one agrees with it."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from vine_sharedport import environment
from vine_sharedport.environment import PREFIX, VARIABLES

ROOT = Path(environment.__file__).parents[1]
WORKER = ROOT / "vine_sharedport" / "worker"


def _read_by(reader: str) -> set[str]:
    return {v.name for v in VARIABLES.values() if reader in v.read_by.split(", ")}


def test_the_documented_variables_are_those_of_the_table() -> None:
    text = (ROOT / "docs" / "workers.md").read_text()
    rows = re.findall(
        rf"^\| `({PREFIX}\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", text, re.MULTILINE
    )
    assert rows == [(v.name, v.meaning, v.set_by, v.read_by) for v in VARIABLES.values()]


def test_every_variable_that_is_named_anywhere_is_in_the_table_and_the_other_way() -> None:
    named: set[str] = set()
    directories = (
        "vine_sharedport",
        "sandbox",
        "docs",
        "examples",
        "condor",
        "benchmarks",
        ".ci",
    )
    files = [path for name in directories for path in (ROOT / name).rglob("*")]
    for path in [*files, *ROOT.glob("*.*")]:
        if not path.is_file() or path.suffix == ".pyc":
            continue
        text = path.read_bytes().decode(errors="replace")
        assert "VINE_SHARED_PORT" not in text, path
        named |= set(re.findall(rf"\b{PREFIX}[A-Z]\w*", text))
    assert named == set(VARIABLES)


def test_the_launcher_knows_the_variables_of_the_table() -> None:
    text = (WORKER / "launcher.sh").read_text()
    lists = dict(re.findall(r'^(ours|others)="(.*)"$', text, re.MULTILINE))
    words = {name: {PREFIX + word for word in lists[name].split()} for name in lists}
    between = {environment.CHECK, environment.COMMAND}  # set by one part of ours for another
    assert words["ours"] == _read_by("launcher") - between
    assert words["ours"] | words["others"] | between == set(VARIABLES)
    header = text[: text.index("\nset -u")]
    assert set(re.findall(rf"^#   ({PREFIX}\w+) ", header, re.MULTILINE)) == words["ours"]


def test_the_shim_takes_the_variables_of_the_table() -> None:
    text = (WORKER.with_name("shim") / "settings.c").read_text()
    assert f'after(*each, "{PREFIX}")' in text
    taken = re.findall(r'take\(&given->\w+, value, "(\w+)="\)|same\(value, "(\w+)=1"\)', text)
    assert {PREFIX + (first or second) for first, second in taken} == _read_by("shim")


def test_an_unknown_variable_is_warned_of_once_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VINE_SHAREDPORT_SECRETFILE", "x")
    monkeypatch.setenv("VINE_SHAREDPORT_ADDRESS", "x")
    environment.warn_of_unknown.cache_clear()
    with caplog.at_level(logging.WARNING):
        environment.warn_of_unknown()
        environment.warn_of_unknown()
    (record,) = caplog.records
    assert record.args == ("VINE_SHAREDPORT_SECRETFILE", "VINE_SHAREDPORT_SECRET_FILE")
