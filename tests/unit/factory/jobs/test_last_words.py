"""What a job has written last: which line tells why it failed, and whether it had connected."""

from __future__ import annotations

from pathlib import Path

import pytest

from vine_sharedport.factory.jobs.last_words import LastWords, launcher_line, parse, read

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
