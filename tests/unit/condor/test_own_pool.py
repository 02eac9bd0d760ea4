"""Which HTCondor is meant: the rule, and what of a pool's directory is believed."""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport import environment
from vine_sharedport.cli import main as cli
from vine_sharedport.condor import bindings, discovery, own_pool, personal, standalone_pool
from vine_sharedport.condor.personal_pool import directory as pool_directory
from vine_sharedport.condor.personal_pool import guardian, status
from vine_sharedport.errors import DiscoveryError, SettingError
from vine_sharedport.supervision import find_process

NAMED = ("CONDOR_CONFIG", "_CONDOR_COLLECTOR_HOST", "_condor_schedd_host")


@pytest.fixture(autouse=True)
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


@pytest.fixture
def command() -> Iterator[Callable[..., int]]:
    """Return a function that runs our command line in this process."""
    logger = logging.getLogger("vine_sharedport")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield lambda *arguments: cli.main(arguments)
    logger.handlers[:], logger.level, logger.propagate = before


def status_of(*arguments: str) -> object:
    try:
        return cli.main(arguments)
    except SystemExit as end:
        return end.code


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


# --- what a shell is told ----------------------------------------------------------------


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


def test_stopping_the_shells_pool_tells_how_to_forget_it(
    shell: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine = tmp_path / "mine"
    monkeypatch.setenv("CONDOR_CONFIG", f"{mine}/condor_config")
    run_pool(mine, master=None)
    assert command("pool", "stop") == 0
    step = "In this shell: unset CONDOR_CONFIG\n"
    assert capsys.readouterr().out == f"The pool in {mine} has ended.\n{step}"
    run_pool(shell, master=None)
    assert command("pool", "stop", "--directory", str(shell)) == 0
    assert capsys.readouterr().out == f"The pool in {shell} has ended.\n"
    (mine / "condor_config").unlink()
    assert command("pool", "stop") == 0
    assert capsys.readouterr().out == f"No pool runs in {mine}.\n"


def test_directories_that_path_has_are_not_added(
    shell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = run_pool(shell, programs=["/usr/bin", "/usr/sbin"])
    pool = personal.PersonalPool.find(place)
    monkeypatch.setenv("PATH", "/usr/sbin:/usr/bin")
    assert "PATH" not in standalone_pool.shell_text(pool)
    monkeypatch.setenv("PATH", "/usr/bin")
    assert 'export PATH="${PATH:+$PATH:}"/usr/sbin' in standalone_pool.shell_text(pool)


def test_without_a_pool_nothing_is_there_to_eval(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("pool", "env") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "/vine-pool-" in said.err
    assert "vine_sharedport pool start" in said.err


def test_a_pool_elsewhere_is_named_where_none_is_found(
    tmp_path: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    place = run_pool(tmp_path / "a b")
    pool_directory.record(place)
    gone = str(tmp_path / "gone")
    assert command("pool", "status", "--directory", gone) == 1
    assert f"vine_sharedport pool status --directory '{place}'" in capsys.readouterr().out
    assert command("pool", "status") == 0
    assert f"A pool runs in {place} " in capsys.readouterr().out
    assert command("pool", "env") == 0
    assert f"'{place}/condor_config'" in capsys.readouterr().out


def test_a_shell_with_an_htcondor_of_its_own_is_told_that_this_wins(
    shell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = personal.PersonalPool.find(run_pool(shell))
    assert "Every vine_sharedport command finds it" in standalone_pool.usage_text(pool)
    monkeypatch.setenv("CONDOR_CONFIG", "/etc/condor/condor_config")
    assert "CONDOR_CONFIG=/etc/condor/condor_config wins" in standalone_pool.usage_text(pool)


# --- what a pool can offer ---------------------------------------------------------------


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "", "10001", "9" * 5000])
def test_cores_that_no_pool_can_offer_are_refused_at_once(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("pool", "start", f"--cpus={value}") == 2
    said = capsys.readouterr().err
    assert re.search(naming(f"cpus={value}", 1, 10000), said) or repr(value) in said


@pytest.mark.parametrize("value", ["0", "-1", "much", "127", "1e3", "100000001"])
def test_memory_that_no_pool_can_offer_is_refused_at_once(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("pool", "start", f"--memory={value}") == 2
    said = capsys.readouterr().err
    assert re.search(naming(f"memory={value}", 128), said) or repr(value) in said


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many", 10**9, object()])
def test_programs_are_refused_it_too(value: object) -> None:
    with pytest.raises(SettingError, match=naming(f"cpus={value!r}", 1, 10000)):
        personal.PersonalPool(cpus=value)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=naming(f"memory={value!r}", 128)):
        standalone_pool.start_pool(memory=value)  # type: ignore[arg-type]


def test_numbers_of_any_kind_are_taken() -> None:
    personal.PersonalPool(cpus="3", memory=128)  # type: ignore[arg-type]


def test_a_bare_stop_ends_the_pool_that_other_commands_use(
    shell: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_pool(shell)
    newest = run_pool(tmp_path / "newest")
    pool_directory.record(newest)
    stopped = []
    monkeypatch.setattr(
        standalone_pool, "stop_pool", lambda place: stopped.append(place) or True
    )
    monkeypatch.setattr(status, "count_jobs", lambda place: 3)
    assert command("pool", "stop") == 0
    assert stopped == [newest]
    said = capsys.readouterr().out
    assert said == f"3 jobs run; they end with the pool.\nThe pool in {newest} has ended.\n"
    assert own_pool.use_own_pool(first=True)
    assert os.environ["CONDOR_CONFIG"] == f"{newest}/condor_config"
    assert command("pool", "stop", "--directory", str(shell)) == 0
    assert stopped == [newest, str(shell)]
