"""NAT that forgets silent connections, and a network that is cut: no task waits for long."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .site import Site

pytestmark = [pytest.mark.site, pytest.mark.long]

PROGRAM = (Path(__file__).parent / "silent_manager.py").read_text()
# The worker's side has what its own kernel has: here the manager's alone must do.
OFF = '"VINE_SHAREDPORT_KEEPALIVE=off"'

# NAT's time-outs and what SharedPort(keepalive=) is, the longest first: each leaves the
# ones after it alone.
DRAWN = random.randint(3, 4)
CASES = {
    "by default": (10, ""),
    "drawn": (2 * DRAWN - 1, f"{DRAWN}/{DRAWN}/100"),
    "short": (4, "2/2/100"),
}


class Program:
    """A manager's program on the access point; its worker is a job behind NAT."""

    def __init__(self, site: Site, place: str, keepalive: str) -> None:
        (site["ap"].files / "home/ann/silent_manager.py").write_text(PROGRAM)
        python = "/home/ann/vine/bin/python"
        self._process = site.start(
            "ap", [python, "silent_manager.py", place, keepalive, OFF],
            user="ann", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, line: str) -> Any:
        """Let it do something, and return what it says."""
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        """Return what it says."""
        line = self._process.stdout.readline()
        assert line, "the program has ended"
        return json.loads(line)

    def begin(self) -> None:
        """Wait until its worker has done a first task."""
        assert self.answer() == "up"
        assert self.ask("task") < 90

    def until(self, states: list[str]) -> None:
        """Wait until its workers are in these states."""
        end = time.monotonic() + 60
        while (found := self.ask("status"))["states"] != states:
            assert time.monotonic() < end, found
            self.ask("wait 0.5")
        assert found["silent"] == states.count("silent")

    def close(self) -> None:
        """End it, and its worker, which HTCondor may take long to hear of."""
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextlib.contextmanager
def forgetful(site: Site, router: str, *places: str) -> Iterator[None]:
    """Let a router forget, and give HTCondor behind it new connections afterwards."""
    try:
        yield
    finally:
        site.routers[router].forget_after()
        for place in places:  # its master starts another
            site.run(place, ["sh", "-c", "kill -TERM $(pidof condor_startd)"], check=False)


@pytest.mark.parametrize("place", ["nat1", "nat1b", "nat2"])
def test_a_cut_shows_in_the_status_while_it_lasts(site: Site, place: str) -> None:
    manager = Program(site, place, "2/2/100")
    try:
        manager.begin()
        manager.until(["connected"])
        with site.routers[f"router{place[3]}"].cut():
            manager.until(["silent"])
        manager.until(["connected"])
        assert manager.ask("task") < 5
    finally:
        manager.close()


@pytest.fixture(scope="module")
def managers(site: Site) -> Iterator[dict[str, Program]]:
    """Return a manager for each case; their workers come before anything is forgotten."""
    with contextlib.ExitStack() as stack:
        found = {}
        for name, (_, keepalive) in CASES.items():
            found[name] = Program(site, "nat1", keepalive)
            stack.callback(found[name].close)
        stack.enter_context(forgetful(site, "router1", "nat1", "nat1b"))
        for each in found.values():
            each.begin()
        yield found


@pytest.mark.parametrize("idle", ["away", "wait"])
@pytest.mark.parametrize("name", CASES)
def test_a_task_after_a_pause_is_on_time_behind_nat_that_forgets(
    site: Site, managers: dict[str, Program], name: str, idle: str
) -> None:
    forgets, _ = CASES[name]
    manager = managers[name]
    site.routers["router1"].forget_after(forgets)
    manager.ask("task")  # time-outs hold for packets from now on
    manager.ask(f"{idle} {2 * forgets}")
    assert manager.ask("task") < 5
    assert manager.ask("status")["joined"] == 1, "it was lost, and has come again"


def test_nat_that_forgets_sooner_than_it_is_probed_is_seen(site: Site) -> None:
    """The tests above would notice, and the status does."""
    with contextlib.ExitStack() as stack:
        manager = Program(site, "nat2", "30/30/10")
        stack.callback(manager.close)
        stack.enter_context(forgetful(site, "router2", "nat2"))
        manager.begin()
        site.routers["router2"].forget_after(4)
        manager.ask("task")
        manager.ask("away 9")
        manager.ask("submit")
        manager.until(["silent"])
