"""``vine_sharedport doctor`` with real daemons, as a user runs it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon.helpers import ROOT
from vine_sharedport.condor import shared_port_check as check
from vine_sharedport.condor.discovery import SharedPortLocation
from vine_sharedport.condor.personal import PersonalPool
from vine_sharedport.wire.sinful import Sinful

pytestmark = pytest.mark.daemon


def _doctor(*options: str, **variables: str) -> tuple[int, str]:
    environment = dict(os.environ, PYTHONPATH=str(ROOT), **variables)
    command = [sys.executable, "-m", "vine_sharedport", "doctor", *options]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    return done.returncode, done.stdout


def test_the_shared_port_of_a_running_pool_is_usable(pool: PersonalPool) -> None:
    status, text = _doctor()
    assert text.startswith("usable: HTCondor's shared port <127.0.0.1:")
    assert status == 0
    status, text = _doctor("--json")
    assert status == 0
    found = json.loads(text)
    assert found["status"] == "usable"
    left = [name for name in os.listdir(found["socket_dir"]) if name.startswith("vine_check")]
    assert not left


def test_without_htcondor_it_says_what_to_do(pool: PersonalPool) -> None:
    status, text = _doctor(CONDOR_CONFIG="/nonexistent/condor_config")
    assert status == 1
    assert text.startswith("not usable: ")
    assert "vine_sharedport pool start" in text


def test_without_a_socket_directory_it_gives_the_administrators_line(
    pool: PersonalPool,
) -> None:
    status, text = _doctor(_CONDOR_DAEMON_SOCKET_DIR="/nonexistent/daemon_sock")
    assert status == 1
    assert text.startswith("not usable: ")
    assert "'d /nonexistent/daemon_sock 1733 root root -'" in text


def test_a_directory_that_the_daemon_does_not_look_into_is_found_out(
    pool: PersonalPool, short_directory: Path
) -> None:
    # All that can be looked at is right: only a connection shows that it does not work.
    status, text = _doctor(_CONDOR_DAEMON_SOCKET_DIR=str(short_directory))
    assert status == 1
    assert f" {short_directory}" in text
    assert text.rstrip().endswith("SharedPortLog")
    assert os.listdir(short_directory) == []


def test_a_port_that_says_nothing_is_given_up_in_time(
    pool: PersonalPool, short_directory: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = Sinful("127.0.0.1", mute.getsockname()[1])
        location = SharedPortLocation(address, str(short_directory), "test")
        problem = check._try(location, timeout=0.3)
    assert problem is not None
    assert str(address) in problem
    assert os.listdir(short_directory) == []
