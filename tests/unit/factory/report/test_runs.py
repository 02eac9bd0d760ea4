"""Commands for the manager that is meant, made of the one that was typed."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from vine_sharedport.factory.report import runs
from vine_sharedport.registry.reference import Reference
from vine_sharedport.wire.sinful import Sinful


def type_command(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setattr("sys.argv", shlex.split(words))


@pytest.mark.parametrize("program", ["/usr/bin/vine_sharedport", "/x/__main__.py"])
@pytest.mark.parametrize(
    ("words", "step"),
    [
        ("-M old -W 9", "-W 9 -M new"),
        ("-M=old --cores 2", "--cores 2 -M new"),
        ("--manager-name=old -d", "-d -M new"),
        ("start --address '<a>' --secret-file s -W 9", "start -W 9 -M new"),
    ],
)
def test_another_manager_takes_the_place_of_the_one_that_was_named(
    monkeypatch: pytest.MonkeyPatch, program: str, words: str, step: str
) -> None:
    type_command(monkeypatch, f"{program} --verbose factory {words}")
    assert runs.is_typed()
    assert runs.by_name("new") == f"vine_sharedport factory {step}"


@pytest.mark.parametrize("words", ["program.py factory", "vine_sharedport run program.py", ""])
def test_in_a_program_it_is_a_command_of_its_own(
    monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    type_command(monkeypatch, words)
    assert not runs.is_typed()
    assert runs.by_name("a b") == "vine_sharedport factory -M 'a b'"


@pytest.mark.parametrize("verb", ["run", "start"])
def test_what_starts_a_factorys_process_was_typed_by_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verb: str
) -> None:
    type_command(monkeypatch, f"/x/__main__.py factory {verb} {tmp_path}")
    assert not runs.is_typed()
    type_command(monkeypatch, f"/x/__main__.py factory {verb} {tmp_path}/name")
    assert runs.is_typed()


def test_an_address_holds_in_any_directory_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    type_command(monkeypatch, "vine_sharedport factory -M sweep -W 9")
    here = SimpleNamespace(address=Sinful.parse("<192.0.2.7:9618?addrs=192.0.2.7-9618>"))
    monkeypatch.setattr(runs, "discover", lambda: here)
    manager = Reference(Sinful.parse("<127.0.0.1:1?sock=vine_1>"), secret_file="/a b")
    words = shlex.split(runs.by_address(manager))
    assert words[:4] == ["vine_sharedport", "factory", "-W", "9"]
    assert Sinful.parse(words[5]).sock == "vine_1"
    assert Sinful.parse(words[5]).host == "192.0.2.7"
    assert words[4::2] == ["--address", "--secret-file"]
    assert words[7] == "/a b"
