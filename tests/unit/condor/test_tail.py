"""The last words of running jobs, with a program in condor_tail's place that misbehaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vine_sharedport.condor import tail
from vine_sharedport.condor.tail import Tails
from vine_sharedport.factory.jobs.last_words import launcher_line


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that puts a condor_tail there; it logs its calls in ``calls``."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def make(script: str) -> Path:
        path = tmp_path / "condor_tail"
        path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{script}\n')
        path.chmod(0o755)
        return tmp_path / "calls"

    return make


def wait_until(what: Callable[[], object]) -> None:
    until = time.monotonic() + 10
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def made() -> Iterator[Callable[..., Tails]]:
    """Return what makes them; their threads end with the test."""
    all: list[Tails] = []
    before = threading.enumerate()  # also those of other tests' factories

    def make(*place: str) -> Tails:
        all.append(Tails(*place))
        return all[-1]

    yield make
    for tails in all:
        tails.close()
    wait_until(lambda: set(threading.enumerate()) <= set(before))


def test_each_job_is_asked_at_its_own_schedd(
    program: Callable[[str], Path], made: Callable[..., Tails]
) -> None:
    calls = program('for job; do :; done; echo "says $job"')
    tails = made("ap7", "cm:9618")
    tails.want(["1.0", "1.1"])
    wait_until(lambda: tails.get("1.0") and tails.get("1.1"))
    assert tails.get("1.1") == "says 1.1\n"
    assert "-name ap7 -pool cm:9618 -maxbytes 8192 -stderr 1.0" in calls.read_text()
    # One that is connected now has nothing to tell.
    tails.want(["1.1"])
    assert (tails.get("1.0"), tails.get("1.1")) == ("", "says 1.1\n")


@pytest.mark.alone
@pytest.mark.parametrize("script", ["echo no >&2; exit 1", "exec sleep 60"])
def test_a_job_without_an_answer_holds_nobody_up_and_is_not_asked_at_once_again(
    program: Callable[[str], Path],
    made: Callable[..., Tails],
    script: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tail, "_TIMEOUT", 0.3)
    monkeypatch.setattr(tail, "_INTERVAL", 0.05)
    calls = program(f'[ "$4" = 1.0 ] || {{ echo fine; exit 0; }}; {script}')
    tails = made()
    began = time.monotonic()
    tails.want(["1.0", "2.0"])
    assert time.monotonic() - began < 0.25
    wait_until(lambda: calls.exists() and calls.read_text().count("2.0") > 3)
    assert tails.get("2.0") == "fine\n"
    assert tails.get("1.0") == ""
    assert calls.read_text().count("1.0") == 1


def test_without_the_program_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    tails = Tails()
    tails.want(["1.0"])
    assert tails.get("1.0") == ""


def test_the_line_that_tells_something_is_found() -> None:
    text = (
        "vine_sharedport: node7: shim\n"
        "vine_sharedport: manager m by 192.0.2.7 port 9618: refused\n"
        "vine_sharedport: manager m by node.example port 9618: the same\n"
        "vine_sharedport: trying again for 59 s more\n"
        "couldn't connect to 127.86.83.80:1: Connection refused\n"
        "vine_sharedport: still so; trying again for 57 s more\n"
    )
    assert launcher_line(text) == "vine_sharedport: manager m by 192.0.2.7 port 9618: refused"
    assert launcher_line("something else\n") is None
