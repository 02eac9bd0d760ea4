"""What a job has written last: which line tells why it failed, and whether it had connected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vine_sharedport.condor.event_log import Event
from vine_sharedport.factory.jobs.last_words import (
    KEPT,
    LastWords,
    OutputFiles,
    launcher_line,
    parse,
    read,
)
from vine_sharedport.factory.jobs.ledger import Ledger
from vine_sharedport.factory.jobs.table import JobTable

STARTED = "vine_sharedport: node7: shim, because it loads into ./vine_worker\n"
REACHED = "vine_sharedport: connected to manager m by 192.0.2.7 port 9618, through the gate\n"
BY_RELAY = "vine_sharedport: connected to manager m\n"
DISK = "vine_worker: has less than the promised disk space (--disk > disk total) 5 < 4 MB\n"


@pytest.mark.parametrize(
    ("err", "out", "own", "was_connected"),
    [
        ("", "", None, False),
        (STARTED, "", None, False),
        (STARTED + REACHED, "disconnected from manager\n", "disconnected from manager", True),
        (STARTED + BY_RELAY, "", None, True),
        (STARTED + DISK, "", DISK.strip(), False),
        (STARTED + REACHED + DISK, "", DISK.strip(), False),
        (STARTED + REACHED + "wrapper: cleaned up\n", "", "wrapper: cleaned up", True),
        ("", "out of licences\n", "out of licences", False),
        (STARTED + "\n \n", "\n", None, False),
        ("x" * 999, "", "x" * 300, False),
    ],
)
def test_the_line_of_the_worker_itself_and_whether_it_had_connected(
    err: str, out: str, own: str | None, was_connected: bool
) -> None:
    said = parse(err, out)
    assert (said.own, said.was_connected) == (own, was_connected)
    assert said.is_known
    assert said.launcher == launcher_line(err)


def test_without_an_err_file_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "1.0.out").write_text("something\n")
    assert read(str(tmp_path), "1.0") == LastWords()
    (tmp_path / "1.0.err").write_bytes(b"\xff not UTF-8\n")
    assert "not UTF-8" in str(read(str(tmp_path), "1.0").own)


def write_files(place: Path, id: str) -> None:
    for suffix in ("out", "err"):
        (place / f"{id}.{suffix}").write_text("")


@pytest.mark.parametrize(("good", "bad"), [(3, 0), (KEPT + 50, 2), (3 * KEPT, KEPT + 7)])
def test_the_last_files_of_each_kind_stay(tmp_path: Path, good: int, bad: int) -> None:
    (tmp_path / "1.0.debug").write_text("")
    files = OutputFiles(str(tmp_path))
    for number in range(good + bad):
        write_files(tmp_path, f"1.{number}")
        files.ended(f"1.{number}", failed=number < bad)
        files.ended(f"1.{number}", failed=number < bad)
    left = {int(path.stem.split(".")[1]) for path in tmp_path.glob("*.err")}
    assert left == {
        *range(bad)[-KEPT:], *range(bad, good + bad)[-KEPT:],
    }  # fmt: skip
    assert len(os.listdir(tmp_path)) == 2 * len(left) + 1, "and what is nobody's business"


@pytest.mark.parametrize("since", [0.0, 1e9])
def test_files_that_stay_are_the_last_also_of_the_factory_before(
    tmp_path: Path, since: float
) -> None:
    table = JobTable()
    ledger = Ledger(table, str(tmp_path), lambda: 900, since=since)
    for proc in range(2 * KEPT):
        write_files(tmp_path, f"1.{proc}")
        events = [
            Event("SUBMIT", 1, proc, 10.0),
            Event("EXECUTE", 1, proc, 11.0, host="a", address="192.0.2.1"),
            Event("JOB_ABORTED", 1, proc, 12.0),
        ]
        ledger.note(table.apply(events))
    assert len(os.listdir(tmp_path)) == 2 * KEPT
