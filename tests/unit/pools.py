"""A shell of a user without a pool, and what a pool leaves in its directory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vine_sharedport import environment
from vine_sharedport.condor import own_pool
from vine_sharedport.condor.personal_pool import directory as pool_directory
from vine_sharedport.condor.personal_pool import guardian
from vine_sharedport.supervision import find_process

NAMED = ("CONDOR_CONFIG", "_CONDOR_COLLECTOR_HOST", "_condor_schedd_host")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Be in a fresh shell of a user who has no pool; return the place of the default one."""
    for name in (*NAMED, environment.OWN_POOL):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(own_pool, "_used", [])
    before = dict(os.environ)
    yield Path(pool_directory.default_directory())
    for name in {*os.environ, *before}:  # what 'activate' has changed
        monkeypatch.delenv(name, raising=False)
    os.environ.update(before)


def run_pool(directory: Path, **more: object) -> str:
    """Leave in a directory what a pool does whose master is this very process."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    state = {
        "owner": None, "token": "t", "lock_dir": "/l", "status": "/bin/false",
        "master": find_process(os.getpid()), **more,
    }  # fmt: skip
    guardian.write_state(str(directory), state)
    (directory / "condor_config").write_text("NETWORK_HOSTNAME = localhost\n")
    return str(directory)
