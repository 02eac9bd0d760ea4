"""What there is of a personal pool, told from its notes, its collector and its logs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vine_sharedport.condor.personal_pool import guardian
from vine_sharedport.condor.personal_pool.status import (
    PoolStatus,
    clean_environment,
    count_ads,
    log_tails,
    pool_status,
)
from vine_sharedport.supervision import find_process


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_without_notes_no_pool_runs(tmp_path: Path) -> None:
    found = pool_status(tmp_path)
    assert found == PoolStatus(running=False, directory=str(tmp_path))
    assert str(tmp_path) in str(found)


def test_a_pool_that_runs_is_told_with_address_and_daemons(tmp_path: Path) -> None:
    status = program(
        tmp_path / "status", 'test "$CONDOR_CONFIG" && echo Machine Machine Submitter'
    )
    state = {
        "owner": None, "token": "t", "lock_dir": str(tmp_path), "status": status,
        "master": find_process(os.getpid()),
    }  # fmt: skip
    guardian.write_state(str(tmp_path), state)
    found = pool_status(tmp_path)
    assert (found.running, found.address) == (True, None), "its shared port restarts"
    (tmp_path / "shared_port_ad").write_text('MyAddress = "<127.0.0.1:9618>"\n')
    found = pool_status(tmp_path)
    assert found.address == "<127.0.0.1:9618>"
    assert found.ads == {"Machine": 2, "Submitter": 1}
    assert found.config_file == str(tmp_path / "condor_config")
    for text in ("<127.0.0.1:9618>", found.config_file, "Machine, Submitter", "is stopped"):
        assert text in str(found)


def test_a_collector_that_does_not_answer_has_no_ads(tmp_path: Path) -> None:
    assert count_ads(program(tmp_path / "fails", "echo Machine; exit 1"), "/c") == {}
    assert count_ads(str(tmp_path / "none"), "/c") == {}


def test_nothing_of_another_htcondor_reaches_the_pools_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("CONDOR_CONFIG", "_CONDOR_LOCK", "_condor_schedd_host", "CONDOR_IDS"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("MY_CONDOR", "x")
    found = clean_environment()
    assert not [name for name in found if name.upper().startswith(("_CONDOR", "CONDOR"))]
    assert found["MY_CONDOR"] == "x"
    assert found["PATH"] == os.environ["PATH"]


def test_the_ends_of_its_logs_are_told(tmp_path: Path) -> None:
    assert log_tails(str(tmp_path)) == "(nothing)"
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "MasterLog").write_text("".join(f"line {n}\n" for n in range(100)))
    (tmp_path / "log" / "SchedLog").write_bytes(b"\xff bad\n")
    lines = log_tails(str(tmp_path)).splitlines()
    assert lines[0] == "--- MasterLog"
    assert lines[8] == "line 99"
    assert "--- SchedLog" in lines
