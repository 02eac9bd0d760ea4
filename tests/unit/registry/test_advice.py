"""Which manager was meant, and where its secret is: a line to paste where that is known."""

from __future__ import annotations

import pytest

from vine_sharedport.registry import advice
from vine_sharedport.registry.advice import PRINT_IT, has_successor, its_manager, its_secret
from vine_sharedport.registry.reference import Reference
from vine_sharedport.wire.sinful import Sinful


def manager(number: int, name: str | None = None, host: str = "192.0.2.7") -> Reference:
    return Reference(Sinful.parse(f"<{host}:9618?sock=vine_{number}>"), name=name)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> list[Reference]:
    """The managers of this user, the newest first."""
    found: list[Reference] = []
    monkeypatch.setattr(advice, "running_managers", lambda: found)
    return found


def line(found: Reference) -> str:
    return f"worker {found.sock_id}"


def test_without_a_manager_it_is_said_what_makes_one_print_its_line(
    running: list[Reference],
) -> None:
    assert PRINT_IT in its_manager(None, line)


def test_the_one_that_is_so_called_is_meant_else_the_newest(running: list[Reference]) -> None:
    running += [manager(3), manager(2, "sweep"), manager(1)]
    assert its_manager("sweep", line).endswith(":\n  worker vine_2")
    assert its_manager("swamp", line).endswith(":\n  worker vine_3")
    assert its_manager("swamp", line).startswith("3 ")
    del running[1:]
    assert "vine_3 runs on this host:\n  worker vine_3" in its_manager("swamp", line)


def test_a_secret_that_is_here_comes_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"vine_1": "/a/secret"}
    monkeypatch.setattr(advice, "secret_file_of", known.get)
    found = its_secret("vine_1", lambda path: f"connect --secret-file {path}")
    assert found.endswith(":\n  connect --secret-file /a/secret")
    for unknown in ("vine_2", None):
        found = its_secret(unknown, lambda path: f"connect {path}")
        assert PRINT_IT in found
        assert "--secret-file" in found


def test_a_successor_is_another_manager_at_the_same_host(running: list[Reference]) -> None:
    gone = Sinful.parse("<192.0.2.7:9618?sock=vine_0>")
    assert not has_successor(gone)
    running.append(manager(5, host="192.0.2.8"))
    assert not has_successor(gone)
    running.append(manager(6))
    assert has_successor(gone)
    running.append(manager(0))
    assert not has_successor(gone), "it runs"
