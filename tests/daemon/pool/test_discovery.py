"""Discovery with the real bindings, against real daemons and real configurations."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.helpers import ROOT, wait_until
from tests.values import naming
from vine_sharedport.condor.discovery import tmpfiles_line
from vine_sharedport.condor.own_pool import discover
from vine_sharedport.condor.personal import PersonalPool
from vine_sharedport.condor.personal_pool import guardian
from vine_sharedport.supervision import send_signal
from vine_sharedport.wire.handoff import encode_connect
from vine_sharedport.wire.sinful import Sinful

pytestmark = pytest.mark.daemon

# In a process of its own: the bindings are bound to one configuration.
ASK = """
import json, sys
from vine_sharedport.errors import SharedPortError
from vine_sharedport.condor import discovery, own_pool
discovery._APPEAR_TIMEOUT = float(sys.argv[1])
try:
    found = own_pool.discover()
except SharedPortError as error:
    print(json.dumps({"error": type(error).__name__, "text": str(error)}))
else:
    print(json.dumps({"address": str(found.address), "socket_dir": found.socket_dir,
                      "source": found.source, "ad_file": found.ad_file}))
"""

# Neither a file nor a collector knows one.
NO_SCHEDD = {
    "SCHEDD_ADDRESS_FILE": "/nonexistent/schedd",
    "SCHEDD_DAEMON_AD_FILE": "/nonexistent/schedd_ad",
    "COLLECTOR_ADDRESS_FILE": "/nonexistent/collector",
    "COLLECTOR_HOST": "127.0.0.1:1",
}

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(params=[sys.executable, "/usr/bin/python3"], ids=["installed", "system"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Return a function that calls ``discover`` in a fresh process.

    With the bindings of PyPI, and again with the system's own, which are older.
    """
    python = request.param
    if python != sys.executable:
        probe = [python, "-c", "import htcondor2"]
        if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
            pytest.skip(f"{python} has no htcondor2")

    def run(condor_config: object, *, wait: float = 0.0) -> dict[str, Any]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("_CONDOR_")}
        environment |= {"CONDOR_CONFIG": str(condor_config), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [python, "-c", ASK, str(wait)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # The user reads our message and no noise of HTCondor's.
        waiting = "HTCondor is here" if wait else "-"
        assert [x for x in done.stderr.splitlines() if not x.startswith(waiting)] == []
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return run


@pytest.fixture
def changed(pool: PersonalPool, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the pool's configuration with other settings."""

    def write(**settings: object) -> Path:
        path = tmp_path / "condor_config"
        lines = [f"include : {pool.config_file}"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def _accepts(address: str) -> bool:
    parsed = Sinful.parse(address)
    try:
        socket.create_connection((parsed.host, parsed.port or 0), timeout=5).close()
    except OSError:
        return False
    return True


def test_discovered_address_accepts_connections(pool: PersonalPool, ask: Ask) -> None:
    found = ask(pool.config_file)
    assert _accepts(found["address"])
    assert "sock=" not in found["address"]
    assert Path(found["ad_file"]).is_file()
    assert found["ad_file"] in found["source"]
    assert os.path.isdir(found["socket_dir"])
    assert found["socket_dir"].endswith("/lock/daemon_sock")  # what "auto" stands for


def test_schedds_address_serves_where_the_ad_file_is_missing(
    pool: PersonalPool, ask: Ask, changed: Callable[..., Path]
) -> None:
    usual = ask(pool.config_file)
    found = ask(changed(SHARED_PORT_DAEMON_AD_FILE="/nonexistent/shared_port_ad"))
    assert found["source"] == "the schedd's address"
    assert found["address"] == usual["address"]


def test_ad_file_that_outlived_its_daemon_is_not_believed(
    ask: Ask, changed: Callable[..., Path], tmp_path: Path
) -> None:
    ad_file = tmp_path / "shared_port_ad"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        address = f"<127.0.0.1:{nobody.getsockname()[1]}>"
        ad_file.write_text(f'MyAddress = "{address}"\n')
        answer = ask(changed(SHARED_PORT_DAEMON_AD_FILE=ad_file, **NO_SCHEDD))
    assert answer["error"] == "DiscoveryError"
    assert address in answer["text"]
    assert "Connection refused" in answer["text"]
    assert "pool start" in answer["text"]


def test_host_where_nothing_runs_is_told_how_to_start(
    ask: Ask, changed: Callable[..., Path], tmp_path: Path
) -> None:
    answer = ask(changed(LOCK=tmp_path, **NO_SCHEDD))
    assert answer["error"] == "DiscoveryError"
    assert f"{tmp_path}/shared_port_ad" in answer["text"]
    assert "systemctl start condor" in answer["text"]


def test_switched_off_shared_port_is_named(ask: Ask, changed: Callable[..., Path]) -> None:
    config = changed(USE_SHARED_PORT="False")
    answer = ask(config)
    assert answer["error"] == "DiscoveryError"
    assert "USE_SHARED_PORT = False" in answer["text"]
    assert str(config) in answer["text"]


@pytest.mark.parametrize("source", ["/nonexistent/condor_config", "/dev/null", "/etc"])
def test_missing_configuration_is_named(ask: Ask, source: str) -> None:
    answer = ask(source)
    assert answer["error"] == "DiscoveryError"
    assert "CONDOR_CONFIG" in answer["text"]


def test_missing_directory_names_the_administrators_line(
    ask: Ask, changed: Callable[..., Path]
) -> None:
    answer = ask(changed(DAEMON_SOCKET_DIR="/nonexistent/daemon_sock"))
    assert answer["error"] == "DiscoveryError"
    assert "d /nonexistent/daemon_sock 1733 root root -" in answer["text"]


def test_missing_directory_in_the_users_own_place_is_made(
    ask: Ask, changed: Callable[..., Path], short_directory: Path
) -> None:
    wanted = short_directory / "daemon_sock"
    assert ask(changed(DAEMON_SOCKET_DIR=wanted))["socket_dir"] == str(wanted)
    assert wanted.stat().st_mode & 0o7777 == 0o700


def test_directory_that_is_not_writable_is_named(
    ask: Ask, changed: Callable[..., Path], short_directory: Path
) -> None:
    short_directory.chmod(0o555)
    answer = ask(changed(DAEMON_SOCKET_DIR=short_directory))
    assert answer["error"] == "DiscoveryError"
    assert f"{short_directory} " in answer["text"]


def test_file_in_place_of_the_directory_is_named(
    ask: Ask, changed: Callable[..., Path], short_directory: Path
) -> None:
    path = short_directory / "file"
    path.write_text("")
    answer = ask(changed(DAEMON_SOCKET_DIR=path))
    assert answer["error"] == "DiscoveryError"
    assert f"{path} " in answer["text"]


def test_path_that_is_too_long_is_named(ask: Ask, changed: Callable[..., Path]) -> None:
    answer = ask(changed(DAEMON_SOCKET_DIR="/tmp/" + "d" * 100))
    assert answer["error"] == "DiscoveryError"
    assert re.search(naming(105, 89), answer["text"])


def test_restart_of_the_shared_port_is_waited_for(ask: Ask) -> None:
    pool = PersonalPool().start()
    try:
        before = ask(pool.config_file)["address"]
        shared_port = next(
            process
            for process in guardian.pool_processes(pool.token)
            if Path(f"/proc/{process.pid}/comm").read_text().startswith("condor_shared_p")
        )
        send_signal(shared_port, signal.SIGKILL)
        wait_until(lambda: not _accepts(before))
        found = ask(pool.config_file, wait=30)
        assert _accepts(found["address"])
    finally:
        pool.stop()


def test_administrators_settings_are_accepted_and_log_each_hand_off() -> None:
    lines = (ROOT / "condor" / "50-vine-sharedport.config").read_text().splitlines()
    settings = dict(line.split(" = ", 1) for line in lines if line and not line.startswith("#"))
    with PersonalPool(config=settings) as pool, socket.socket(socket.AF_UNIX) as endpoint:
        found = discover()
        endpoint.bind(f"{found.socket_dir}/vine_test")
        endpoint.listen()
        address = (found.address.host, found.address.port)
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(encode_connect("vine_test", "test"))
            log = Path(pool.directory, "log", "SharedPortAuditLog")
            wait_until(lambda: log.is_file() and "Forwarding connection" in log.read_text())
        line = log.read_text()
    # What condor/README.md says of it.
    assert f"PID = {os.getpid()}, UID = {os.getuid()}" in line
    assert "command line '" in line
    assert f"via {found.socket_dir}/vine_test from 127.0.0.1:" in line


def test_administrators_line_is_the_one_that_we_ask_for() -> None:
    lines = (ROOT / "condor" / "vine-sharedport.tmpfiles.conf").read_text().splitlines()
    line = next(line for line in lines if not line.startswith("#"))
    path = line.split()[1]
    assert line == tmpfiles_line(path)
    assert path == "/run/lock/condor/daemon_sock"
