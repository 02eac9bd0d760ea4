"""``vine_sharedport pool``: which pool a verb means, and what no pool can offer."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.pools import run_pool
from tests.values import naming
from vine_sharedport.cli import main as cli
from vine_sharedport.condor import own_pool, standalone_pool
from vine_sharedport.condor.personal_pool import directory as pool_directory
from vine_sharedport.condor.personal_pool import status

pytestmark = pytest.mark.usefixtures("shell")


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
