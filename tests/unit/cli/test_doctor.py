"""``vine_sharedport doctor``: its exit status and its JSON."""

from __future__ import annotations

import json

import pytest

from vine_sharedport.cli import main as cli
from vine_sharedport.condor import shared_port_check as check
from vine_sharedport.condor.discovery import SharedPortLocation
from vine_sharedport.errors import DiscoveryError
from vine_sharedport.wire.sinful import Sinful

ADDRESS = "<192.0.2.7:9618?addrs=192.0.2.7-9618+[2001-db8--7]-9618&alias=ap&noUDP>"


LOCATION = SharedPortLocation(Sinful.parse(ADDRESS), "/run/lock/condor/daemon_sock", "test")


def _result(monkeypatch: pytest.MonkeyPatch, found: check.Checked) -> None:
    monkeypatch.setattr(check, "check_shared_port", lambda: found)


def test_the_exit_status_and_the_json_object_tell_a_usable_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _result(monkeypatch, check.Checked(LOCATION, None))
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out.startswith("usable: ")
    assert cli.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "schema": 1,
        "status": "usable",
        "address": ADDRESS,
        "socket_dir": "/run/lock/condor/daemon_sock",
        "problem": None,
        "schedd_problem": None,
    }


def test_a_schedd_that_refuses_this_user_is_told_although_the_shared_port_is_usable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _result(monkeypatch, check.Checked(LOCATION, None, "cannot ask for jobs: ...; do this"))
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("not usable: ")
    assert "<192.0.2.7:9618> hands connections over" in said
    assert said.endswith("cannot ask for jobs: ...; do this\n")
    assert cli.main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["problem"]) == ("not-usable", None)
    assert found["schedd_problem"].startswith("cannot ask for jobs")


def test_the_exit_status_and_the_json_object_tell_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nothing() -> SharedPortLocation:
        raise DiscoveryError("no HTCondor configuration found: ...; start one")

    monkeypatch.setattr(check, "discover", nothing)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().out == (
        "not usable: no HTCondor configuration found: ...; start one\n"
    )
    assert cli.main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "not-usable"
    assert found["problem"].startswith("no HTCondor configuration found")
