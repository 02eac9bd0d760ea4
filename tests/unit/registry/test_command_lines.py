"""Command lines as messages print them: complete, quoted, and those that run here."""

from __future__ import annotations

import shlex
import sys

import pytest

from vine_sharedport.registry import command_lines
from vine_sharedport.registry.command_lines import (
    connect_command,
    manager_worker_command,
    our_command,
    worker_command,
)
from vine_sharedport.registry.reference import Reference
from vine_sharedport.wire.sinful import Sinful

ADDRESS = "<192.0.2.7:9618?addrs=192.0.2.7-9618&sock=vine_42>"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_lines.shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.mark.usefixtures("installed")
def test_every_word_is_quoted_for_the_shell() -> None:
    line = worker_command(ADDRESS, "/home/a b/s", worker="my worker", options=["--wrap", "$x"])
    assert shlex.split(line) == [
        "vine_sharedport", "worker", "--address", ADDRESS, "--secret-file", "/home/a b/s",
        "--worker", "my worker", "--", "--wrap", "$x",
    ]  # fmt: skip
    assert f"'{ADDRESS}'" in line


@pytest.mark.usefixtures("installed")
def test_what_goes_without_saying_is_left_out() -> None:
    line = worker_command("<a>", None, more=["--bundle", "b"])
    assert line == "vine_sharedport worker --address '<a>' --bundle b"
    assert connect_command("<a>", None) == "vine_sharedport connect --explain '<a>'"
    line = connect_command("<a>", "s", "--timeout", "3")
    assert line == "vine_sharedport connect --explain --secret-file s --timeout 3 '<a>'"


@pytest.mark.usefixtures("installed")
def test_a_managers_own_worker_and_options_come_with_it() -> None:
    manager = Reference(
        Sinful.parse(ADDRESS), "/s", system="work_queue", tls=True, password_file="/p"
    )
    words = shlex.split(manager_worker_command(manager, ["--cores", "2"], ["--bundle", "b"]))
    assert words[4:] == [
        "--secret-file", "/s", "--worker", "work_queue_worker", "--bundle", "b",
        "--", "--ssl", "--password", "/p", "--cores", "2",
    ]  # fmt: skip


def test_where_the_command_is_not_on_path_this_python_runs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command_lines.shutil, "which", lambda name: None)
    words = shlex.split(our_command("doctor"))
    assert words == [sys.executable, "-m", "vine_sharedport", "doctor"]
