"""What a shell is told of a pool that stands alone."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.unit.pools import run_pool
from vine_sharedport.condor import personal, standalone_pool

pytestmark = pytest.mark.usefixtures("shell")


@pytest.mark.parametrize(
    "name", ["plain", "with blank", "it's", '"$(touch hit)"', "`touch hit`;touch hit", "a\nb\\"]
)
def test_the_shells_commands_are_safe_to_eval(
    shell: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    tools = tmp_path / f"tools {name}".replace("/", "")
    place = run_pool(tmp_path / name, programs=[str(tools)])
    monkeypatch.setenv("_CONDOR_LOCK", "/elsewhere")
    text = standalone_pool.shell_text(personal.PersonalPool.find(place))
    said = subprocess.run(
        ["sh", "-c", f'eval {shlex.quote(text)}; printf "%s|%s|%s" "$CONDOR_CONFIG" "$PATH" '
         '"${_CONDOR_LOCK-unset}"'],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    path = os.environ["PATH"]
    assert said.stdout == f"{place}/condor_config|{path}:{tools}|unset"
    assert said.stderr == ""
    assert not (tmp_path / "hit").exists()


def test_directories_that_path_has_are_not_added(
    shell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = run_pool(shell, programs=["/usr/bin", "/usr/sbin"])
    pool = personal.PersonalPool.find(place)
    monkeypatch.setenv("PATH", "/usr/sbin:/usr/bin")
    assert "PATH" not in standalone_pool.shell_text(pool)
    monkeypatch.setenv("PATH", "/usr/bin")
    assert 'export PATH="${PATH:+$PATH:}"/usr/sbin' in standalone_pool.shell_text(pool)


def test_a_shell_with_an_htcondor_of_its_own_is_told_that_this_wins(
    shell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = personal.PersonalPool.find(run_pool(shell))
    assert "Every vine_sharedport command finds it" in standalone_pool.usage_text(pool)
    monkeypatch.setenv("CONDOR_CONFIG", "/etc/condor/condor_config")
    assert "CONDOR_CONFIG=/etc/condor/condor_config wins" in standalone_pool.usage_text(pool)
