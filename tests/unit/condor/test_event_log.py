"""A job event log as HTCondor writes it: whole, half written, rotated, damaged."""

from __future__ import annotations

import os
import random
import re
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport.condor import bindings
from vine_sharedport.condor.event_log import EventLog
from vine_sharedport.errors import SettingError

pytest.importorskip("htcondor2")

# The forms are those of HTCondor 23.9.6; the addresses are of the documentation's networks.
SUBMIT = b"""\
000 (012.000.000) 2026-07-12 10:00:00 Job submitted from host: \
<192.0.2.7:9618?addrs=192.0.2.7-9618&alias=ap.example.org&noUDP&sock=schedd_1_a>
...
"""
EXECUTE = b"""\
001 (012.000.000) 2026-07-12 10:00:05 Job executing on host: \
<192.0.2.9:9618?addrs=192.0.2.9-9618&alias=node7.example.org&noUDP&sock=startd_1_a>
\tSlotName: slot1_1@glidein_7@node7.example.org
...
"""
HELD = b"""\
012 (012.000.000) 2026-07-12 10:00:30 Job was held.
\tThe reason
\tCode 34 Subcode 102
...
"""
TERMINATED = b"""\
005 (012.000.000) 2026-07-12 10:01:00 Job terminated.
\t(1) Normal termination (return value 3)
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Remote Usage
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Local Usage
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Total Remote Usage
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Total Local Usage
\t0  -  Run Bytes Sent By Job
\t0  -  Run Bytes Received By Job
\t0  -  Total Bytes Sent By Job
\t0  -  Total Bytes Received By Job
...
"""


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the bindings be loaded where there is no HTCondor besides them."""
    if bindings.config_source() is None:
        monkeypatch.setenv("CONDOR_CONFIG", "ONLY_ENV")


def types(log: EventLog) -> list[str]:
    return [event.type for event in log.read()]


def test_each_event_tells_what_it_knows(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(SUBMIT + EXECUTE + HELD + TERMINATED)
    with EventLog(path) as log:
        submitted, executing, held, ended = log.read()
    assert (submitted.type, submitted.cluster, submitted.proc) == ("SUBMIT", 12, 0)
    assert submitted.time == datetime(2026, 7, 12, 10).timestamp()
    assert submitted.host is None
    assert (executing.type, executing.host, executing.address, executing.slot) == (
        "EXECUTE", "node7.example.org", "192.0.2.9", "slot1_1@glidein_7@node7.example.org",
    )  # fmt: skip
    assert (held.type, held.reason, held.code, held.subcode) == (
        "JOB_HELD", "The reason", 34, 102,
    )  # fmt: skip
    assert (ended.type, ended.exit_status, ended.exit_signal) == ("JOB_TERMINATED", 3, None)


@pytest.mark.parametrize("hours", [-9.5, 5.75, 13.0, 0.0, None])
def test_the_times_are_ours_where_daemons_have_another_time_zone(
    tmp_path: Path, hours: float | None
) -> None:
    """Each event has the time of its own, whichever was written last."""
    if hours is None:
        hours = random.randint(-12 * 4, 14 * 4) / 4
    path = tmp_path / "log"
    now = time.time()
    for age, event in ((90, SUBMIT), (5, EXECUTE)):
        theirs = datetime.fromtimestamp(now - age + 3600 * hours).isoformat(" ", "seconds")
        text = re.sub(rb"2026-07-12 [0-9:]{8}", theirs.encode(), event)
        with open(path, "ab") as file:
            file.write(text)
    with EventLog(path) as log:
        submitted, executing = log.read()
    assert submitted.time == pytest.approx(now - 90, abs=2)
    assert executing.time == pytest.approx(now - 5, abs=2)


def test_a_half_written_event_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with EventLog(path) as log:
        assert types(log) == [], "the file need not be there yet"
        for end in (1, len(EXECUTE) // 2, len(EXECUTE) - 1):
            path.write_bytes(SUBMIT + EXECUTE[:end])
            assert types(log) == (["SUBMIT"] if end == 1 else [])
        path.write_bytes(SUBMIT + EXECUTE)
        assert types(log) == ["EXECUTE"]
        assert types(log) == []


def test_a_rotated_log_is_read_to_its_end_and_then_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(SUBMIT)
    with EventLog(path) as log:
        assert types(log) == ["SUBMIT"]
        with open(path, "ab") as file:
            file.write(EXECUTE)
        os.rename(path, tmp_path / "log.old")
        path.write_bytes(HELD)
        assert types(log) == ["EXECUTE", "JOB_HELD"]


def test_a_log_that_is_another_one_now_is_read_from_its_beginning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log"
    path.write_bytes(SUBMIT + EXECUTE)
    with EventLog(path) as log:
        assert types(log) == ["SUBMIT", "EXECUTE"]
        path.write_bytes(SUBMIT)  # the same file, truncated
        assert types(log) == ["SUBMIT"]
    assert str(path) in caplog.text


@pytest.mark.parametrize(
    ("damaged", "left"),
    [
        (EXECUTE[:60] + HELD, ["SUBMIT", "JOB_HELD", "JOB_TERMINATED"]),  # within a line
        (b"\0" * 100 + b"\n...\n", ["SUBMIT", "JOB_TERMINATED"]),
        (b"999 (012.000.000) 2026-07-12 10:00:05\n...\n", None),  # of a newer HTCondor
    ],
)
def test_what_a_killed_daemon_left_hides_no_other_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: bytes, left: list[str] | None
) -> None:
    path = tmp_path / "log"
    path.write_bytes(SUBMIT + damaged + TERMINATED)
    with EventLog(path) as log:
        found = types(log)
    if left is None:
        assert (found[0], found[-1]) == ("SUBMIT", "JOB_TERMINATED")
    else:
        assert found == left
        assert str(path) in caplog.text


def test_what_is_no_log_of_events_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"<c>")
    with EventLog(path) as log, pytest.raises(SettingError, match=naming(path, "log_xml")):
        log.read()
    with EventLog(tmp_path) as log, pytest.raises(SettingError, match=naming(tmp_path)):
        log.read()
