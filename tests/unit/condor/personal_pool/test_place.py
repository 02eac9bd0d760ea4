"""What a personal pool is made of, without HTCondor: its place, its processes, its text."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport.condor import personal
from vine_sharedport.condor.personal_pool import config, guardian, place
from vine_sharedport.condor.personal_pool.config import (
    Installation,
    find_installation,
    format_config,
)
from vine_sharedport.errors import PoolError, SettingError
from vine_sharedport.supervision import find_process, is_alive, send_signal

# --- its processes -----------------------------------------------------------------------

# Starts a child without the variable, and says its pid.
FAMILY = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={})
print(child.pid, flush=True)
child.wait()
"""


@contextmanager
def _family(token: str) -> Iterator[tuple[int, int]]:
    """Run a process of the pool and a child that does not carry the token."""
    parent = subprocess.Popen(
        [sys.executable, "-c", FAMILY],
        stdout=subprocess.PIPE,
        env={**os.environ, guardian.POOL_VARIABLE: token},
    )
    assert parent.stdout is not None
    child = find_process(int(parent.stdout.readline()))
    assert child is not None
    try:
        yield parent.pid, child.pid
    finally:
        send_signal(child, signal.SIGKILL)
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_pools_processes_are_those_with_its_token_and_their_children() -> None:
    with _family("one-pool") as mine, _family("one-pool-2"):
        assert {p.pid for p in guardian.pool_processes("one-pool")} == set(mine)


def test_killing_a_pool_kills_no_other() -> None:
    with _family("one-pool") as mine, _family("another-pool") as others:
        assert guardian.kill_pool("one-pool") == []
        assert [find_process(pid) for pid in mine] == [None, None]
        assert None not in [find_process(pid) for pid in others]


def test_calling_process_is_not_among_the_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from vine_sharedport.condor.personal_pool import guardian as _guardian\n"
        "print(_guardian.pool_processes('one-pool'))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(Path(guardian.__file__).parents[3])],
        env={**os.environ, guardian.POOL_VARIABLE: "one-pool"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "[]\n"


def test_signal_never_reaches_a_later_process_with_the_same_pid() -> None:
    with _family("one-pool") as (pid, _):
        now = find_process(pid)
        assert now is not None
        earlier = now._replace(start=now.start - 1)
        assert send_signal(earlier, signal.SIGKILL) is False
        assert is_alive(now)


def test_notes_of_an_ended_process_name_nobody() -> None:
    own = find_process(os.getpid())
    assert own is not None
    assert guardian.noted_process({"master": list(own)}, "master") == own
    assert guardian.noted_process({"master": [own.pid, own.start - 1]}, "master") is None
    for junk in ({}, {"master": None}, {"master": "x"}, {"master": ["a", "b"]}):
        assert guardian.noted_process(junk, "master") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_damaged_notes_are_no_pool(tmp_path: Path, text: str) -> None:
    (tmp_path / guardian.STATE_FILE).write_text(text)
    assert guardian.read_state(str(tmp_path)) == {}
    assert personal.stop_pool(tmp_path) is False
    assert personal.pool_status(tmp_path).running is False


def test_directory_that_a_job_made_read_only_is_removed(tmp_path: Path) -> None:
    inner = tmp_path / "pool" / "execute" / "dir_1"
    inner.mkdir(parents=True)
    (inner / "file").write_text("")
    inner.chmod(0o500)
    (tmp_path / "pool" / "link").symlink_to(tmp_path)
    guardian.remove_tree(str(tmp_path / "pool"))
    assert os.listdir(tmp_path) == []


# --- its place ---------------------------------------------------------------------------


def test_root_is_told_to_be_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place.os, "geteuid", lambda: 0)
    with pytest.raises(PoolError, match=r"runuser"):
        personal.PersonalPool().start()


def test_user_without_a_name_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place.os, "geteuid", lambda: 4_000_000_000)
    with pytest.raises(PoolError, match=naming(4000000000, "/etc/passwd")):
        personal.PersonalPool().start()


def test_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(SettingError, match=naming(tmp_path)):
        place.make_private(str(tmp_path))


def test_directory_where_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(SettingError, match=naming(tmp_path, "0777")):
        place.make_private(str(tmp_path))


def test_link_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    # In /tmp, the default place's name is known to everybody.
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "pool").symlink_to("target")
    with pytest.raises(SettingError, match=naming(tmp_path / "pool", os.getuid())):
        place.make_private(str(tmp_path / "pool"))


def test_directory_of_an_earlier_pool_is_taken_again(tmp_path: Path) -> None:
    (tmp_path / "condor_config").write_text("")
    (tmp_path / "log").mkdir()
    tmp_path.chmod(0o700)
    place.make_private(str(tmp_path))


def test_locked_directory_says_that_a_pool_runs_there(tmp_path: Path) -> None:
    first = place.lock(str(tmp_path))
    try:
        with pytest.raises(PoolError, match=r"pool stop --directory"):
            place.lock(str(tmp_path))
    finally:
        os.close(first)
    os.close(place.lock(str(tmp_path)))


@pytest.mark.parametrize("length", [48, 49, 200])
def test_sockets_of_the_longest_ids_fit_in_any_pool(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    directory = "/tmp/" + "d" * (length - len("/tmp/"))
    lock_dir = place.short_lock_dir(directory)
    try:
        assert len(f"{lock_dir}/daemon_sock/{'i' * 41}") <= 107
        assert (lock_dir == f"{directory}/lock") is (length <= 48)
    finally:
        if lock_dir != f"{directory}/lock":
            os.rmdir(lock_dir)


def test_reserved_port_can_be_served_by_who_reuses_addresses_only() -> None:
    import socket

    with place.reserve_port() as reserved, socket.socket() as served:
        with socket.socket() as other, pytest.raises(OSError):
            other.bind(reserved.getsockname())
        served.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        served.bind(reserved.getsockname())
        served.listen()
        socket.create_connection(reserved.getsockname(), timeout=5).close()


def test_standing_pools_command_line_names_its_directory_only_if_it_must() -> None:
    usual = place.default_directory()
    assert usual.startswith(tempfile.gettempdir())
    assert place.command("stop", usual) == "vine_sharedport pool stop"
    assert (
        place.command("stop", "/tmp/a b") == "vine_sharedport pool stop --directory '/tmp/a b'"
    )


# --- its configuration -------------------------------------------------------------------


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the prefix of an HTCondor that can say its version, and is alone."""
    for name in (
        "sbin/condor_master",
        "bin/condor_status",
        "libexec/condor/condor_shared_port",
    ):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\necho '$CondorVersion: 23.9.6 2026-07-12 $'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path))
    return tmp_path


def test_condor_of_a_conda_environment_is_found_off_path(prefix: Path) -> None:
    found = find_installation()
    assert found.master == str(prefix / "sbin" / "condor_master")
    assert found.libexec == str(prefix / "libexec" / "condor")
    assert found.status == str(prefix / "bin" / "condor_status")
    assert found.version == (23, 9, 6)


def test_missing_condor_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(config.shutil, "which", lambda name, path=None: None)
    with pytest.raises(PoolError, match=r"condor_master .*apt-get install -y condor"):
        find_installation()


def test_condor_without_a_shared_port_is_named(prefix: Path) -> None:
    (prefix / "libexec" / "condor" / "condor_shared_port").unlink()
    with pytest.raises(
        PoolError, match=naming(prefix / "sbin/condor_master", "condor_shared_port")
    ):
        find_installation()


def test_condor_that_does_not_run_is_named(prefix: Path) -> None:
    (prefix / "sbin" / "condor_master").write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    with pytest.raises(PoolError, match=naming("'broken'")):
        find_installation()


def _settings(version: tuple[int, ...], **options: object) -> dict[str, str]:
    installation = Installation(
        "/u/sbin/condor_master", "/u/bin/condor_status", "/u", "/u/sbin", "/u/bin",
        "/u/libexec", "/u/lib", version,
    )  # fmt: skip
    arguments: dict[str, object] = {
        "port": 4321, "cpus": 4, "memory": None, "job_environment": {"A": "b"}, "extra": {}
    }  # fmt: skip
    text = format_config(installation, "/p", "/p/lock", **(arguments | options))  # type: ignore[arg-type]
    return dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)


def test_pool_is_closed_to_other_machines_and_users() -> None:
    settings = _settings((25, 0, 0))
    assert settings["NETWORK_INTERFACE"] == "127.0.0.1"
    assert settings["BIND_ALL_INTERFACES"] == "False"
    assert settings["SEC_DEFAULT_AUTHENTICATION"] == "REQUIRED"
    assert settings["SEC_DEFAULT_AUTHENTICATION_METHODS"] == "FS"
    allowed = {value for name, value in settings.items() if name.startswith("ALLOW_")}
    assert allowed == {"$(USERNAME)@$(UID_DOMAIN)"}


@pytest.mark.parametrize(("version", "weakened"), [((23, 9, 6), True), ((25, 0, 0), False)])
def test_check_is_weakened_for_old_daemons_only(
    version: tuple[int, ...], weakened: bool
) -> None:
    assert ("SEC_FS_ENFORCE_CHANNEL_BINDING" in _settings(version)) is weakened


def test_wishes_win() -> None:
    settings = _settings(
        (25, 0, 0), cpus=7, memory=2048, extra={"UPDATE_INTERVAL": "9", "MORE": "x"}
    )
    assert settings["NUM_CPUS"] == "7"
    assert settings["MEMORY"] == "2048"
    assert settings["UPDATE_INTERVAL"] == "9"
    assert settings["MORE"] == "x"
