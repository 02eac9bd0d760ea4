"""What of HTCondor a personal pool uses, and what its configuration says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport.condor.personal_pool import config
from vine_sharedport.condor.personal_pool.config import (
    Installation,
    find_installation,
    format_config,
)
from vine_sharedport.errors import PoolError


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
