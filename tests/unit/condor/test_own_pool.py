"""Which HTCondor is meant: the rule, and what of a pool's directory is believed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.pools import NAMED, run_pool
from vine_sharedport.cli import main as cli
from vine_sharedport.condor import bindings, discovery, own_pool
from vine_sharedport.condor.personal_pool import directory as pool_directory
from vine_sharedport.errors import DiscoveryError

pytestmark = pytest.mark.usefixtures("shell")


@pytest.fixture
def command() -> Iterator[Callable[..., int]]:
    """Return a function that runs our command line in this process."""
    logger = logging.getLogger("vine_sharedport")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield lambda *arguments: cli.main(arguments)
    logger.handlers[:], logger.level, logger.propagate = before


# --- which pools are found ---------------------------------------------------------------


def test_a_pool_is_found_in_the_default_directory(shell: Path) -> None:
    assert pool_directory.running_pools() == []
    run_pool(shell)
    assert pool_directory.running_pools() == [str(shell)]


def test_pools_elsewhere_are_found_by_their_notes_the_newest_first(
    shell: Path, tmp_path: Path
) -> None:
    for number, name in enumerate(("old", "it's $new\n")):
        before = set(tmp_path.glob("state/**/*"))
        pool_directory.record(run_pool(tmp_path / name))
        for note in set(tmp_path.glob("state/**/*")) - before:
            os.utime(note, (number, number))
    run_pool(shell)
    assert pool_directory.running_pools() == [
        str(tmp_path / "it's $new\n"), str(tmp_path / "old"), str(shell)
    ]  # fmt: skip


def test_notes_of_a_pool_that_is_gone_are_taken_away(tmp_path: Path) -> None:
    pool_directory.record(str(tmp_path / "gone"))
    assert pool_directory.running_pools() == []
    assert os.listdir(pool_directory._records()) == []


def test_without_a_home_the_default_directory_is_found_all_the_same(
    shell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nothing")
    pool_directory.record(str(shell))
    run_pool(shell)
    assert pool_directory.running_pools() == [str(shell)]


def test_what_somebody_else_may_have_written_is_not_believed(
    shell: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = run_pool(shell)
    for mode in (0o770, 0o702):
        shell.chmod(mode)
        assert pool_directory.running_pools() == []
    shell.chmod(0o700)
    with monkeypatch.context() as patch:
        patch.setattr(pool_directory, "default_directory", lambda: place)
        patch.setattr(pool_directory.os, "geteuid", lambda: os.getuid() + 1)
        assert pool_directory.running_pools() == []
    shell.rename(tmp_path / "target")
    shell.symlink_to("target")
    assert pool_directory.running_pools() == []


@pytest.mark.parametrize(
    "more",
    [{"master": None}, {"master": [os.getpid(), 1]}, {"owner": os.getpid()}],
    ids=["just starting", "ended", "a program's"],
)
def test_only_a_pool_that_runs_and_stands_alone_counts(
    shell: Path, more: dict[str, object]
) -> None:
    run_pool(shell, **more)
    assert pool_directory.running_pools() == []


# --- the rule ----------------------------------------------------------------------------


def broken(**_: object) -> None:
    raise DiscoveryError("the system's is broken", step="mend it")


@pytest.mark.parametrize("first", [True, False], ids=["command", "program"])
@pytest.mark.parametrize("name", NAMED)
def test_an_htcondor_that_is_named_has_the_last_word(
    shell: Path, monkeypatch: pytest.MonkeyPatch, name: str, first: bool
) -> None:
    run_pool(shell)
    monkeypatch.setattr(discovery, "find_here", broken)
    monkeypatch.setenv(name, "/etc/condor/condor_config")
    assert not own_pool.use_own_pool(first=first)
    assert os.environ.get("CONDOR_CONFIG", "/etc/condor/condor_config").startswith("/etc")


def test_what_importing_htcondor2_leaves_names_nothing(
    shell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = run_pool(shell)
    monkeypatch.setenv("CONDOR_CONFIG", "/dev/null")
    assert own_pool.use_own_pool(first=True)
    assert os.environ["CONDOR_CONFIG"] == f"{place}/condor_config"


def test_commands_use_the_own_pool_and_say_so_in_one_line(
    shell: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(discovery, "find_here", lambda: pytest.fail("nobody has to ask"))
    place = run_pool(shell)
    assert own_pool.use_own_pool(first=True)
    assert not own_pool.use_own_pool(first=True)
    (said,) = caplog.messages
    assert place in said
    assert "--no-own-pool" in said
    assert "\n" not in said


def test_programs_use_it_only_where_the_systems_cannot_be_used(
    shell: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = run_pool(shell)
    monkeypatch.setattr(discovery, "find_here", lambda: None)
    assert not own_pool.use_own_pool()
    assert "CONDOR_CONFIG" not in os.environ
    monkeypatch.setattr(discovery, "find_here", broken)
    assert own_pool.use_own_pool()
    assert os.environ["CONDOR_CONFIG"] == f"{place}/condor_config"
    (said,) = caplog.messages
    assert place in said
    assert said.endswith("the system's is broken")


@pytest.mark.parametrize("first", [True, False], ids=["command", "program"])
def test_no_in_the_environment_keeps_to_the_systems(
    shell: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    run_pool(shell)
    monkeypatch.setattr(discovery, "find_here", broken)
    monkeypatch.setenv("VINE_SHAREDPORT_OWN_POOL", "no")
    assert not own_pool.use_own_pool(first=first)


def test_settings_of_the_shell_do_not_reach_the_own_pool(
    shell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_pool(shell)
    monkeypatch.setenv("_CONDOR_LOCK", "/elsewhere")
    assert own_pool.use_own_pool(first=True)
    assert "_CONDOR_LOCK" not in os.environ


def test_a_pool_that_has_ended_is_left_for_the_next_one(shell: Path, tmp_path: Path) -> None:
    run_pool(shell)
    assert own_pool.use_own_pool(first=True)
    run_pool(shell, master=[os.getpid(), 1])
    assert not own_pool.use_own_pool(first=True)
    assert "CONDOR_CONFIG" not in os.environ
    pool_directory.record(run_pool(tmp_path / "next"))
    assert own_pool.use_own_pool(first=True)
    assert os.environ["CONDOR_CONFIG"] == f"{tmp_path}/next/condor_config"


def test_a_missing_htcondor_names_the_own_pool_that_runs(
    shell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDOR_CONFIG", "/nonexistent")
    with pytest.raises(DiscoveryError, match="vine_sharedport pool start"):
        bindings._check_configuration()
    run_pool(shell)
    with pytest.raises(DiscoveryError) as caught:
        bindings._check_configuration()
    assert str(caught.value).endswith("""by 'eval "$(vine_sharedport pool env)"'""")
