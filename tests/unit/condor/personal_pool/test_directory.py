"""Where a personal pool stands: its directory, its port, and who may have one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport.condor import personal
from vine_sharedport.condor.personal_pool import directory as pool_directory
from vine_sharedport.errors import PoolError, SettingError


def test_root_is_told_to_be_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_directory.os, "geteuid", lambda: 0)
    with pytest.raises(PoolError, match=r"runuser"):
        personal.PersonalPool().start()


def test_user_without_a_name_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_directory.os, "geteuid", lambda: 4_000_000_000)
    with pytest.raises(PoolError, match=naming(4000000000, "/etc/passwd")):
        personal.PersonalPool().start()


def test_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(SettingError, match=naming(tmp_path)):
        pool_directory.make_private(str(tmp_path))


def test_directory_where_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(SettingError, match=naming(tmp_path, "0777")):
        pool_directory.make_private(str(tmp_path))


def test_link_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    # In /tmp, the default place's name is known to everybody.
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "pool").symlink_to("target")
    with pytest.raises(SettingError, match=naming(tmp_path / "pool", os.getuid())):
        pool_directory.make_private(str(tmp_path / "pool"))


def test_directory_of_an_earlier_pool_is_taken_again(tmp_path: Path) -> None:
    (tmp_path / "condor_config").write_text("")
    (tmp_path / "log").mkdir()
    tmp_path.chmod(0o700)
    pool_directory.make_private(str(tmp_path))


def test_locked_directory_says_that_a_pool_runs_there(tmp_path: Path) -> None:
    first = pool_directory.lock(str(tmp_path))
    try:
        with pytest.raises(PoolError, match=r"pool stop --directory"):
            pool_directory.lock(str(tmp_path))
    finally:
        os.close(first)
    os.close(pool_directory.lock(str(tmp_path)))


@pytest.mark.parametrize("length", [48, 49, 200])
def test_sockets_of_the_longest_ids_fit_in_any_pool(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    directory = "/tmp/" + "d" * (length - len("/tmp/"))
    lock_dir = pool_directory.short_lock_dir(directory)
    try:
        assert len(f"{lock_dir}/daemon_sock/{'i' * 41}") <= 107
        assert (lock_dir == f"{directory}/lock") is (length <= 48)
    finally:
        if lock_dir != f"{directory}/lock":
            os.rmdir(lock_dir)


def test_reserved_port_can_be_served_by_who_reuses_addresses_only() -> None:
    import socket

    with pool_directory.reserve_port() as reserved, socket.socket() as served:
        with socket.socket() as other, pytest.raises(OSError):
            other.bind(reserved.getsockname())
        served.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        served.bind(reserved.getsockname())
        served.listen()
        socket.create_connection(reserved.getsockname(), timeout=5).close()


def test_standing_pools_command_line_names_its_directory_only_if_it_must() -> None:
    usual = pool_directory.default_directory()
    assert usual.startswith(tempfile.gettempdir())
    assert pool_directory.command("stop", usual) == "vine_sharedport pool stop"
    assert (
        pool_directory.command("stop", "/tmp/a b")
        == "vine_sharedport pool stop --directory '/tmp/a b'"
    )
