"""A schedd that does not take jobs: its reason is told, and it is not asked in each cycle."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.factory_helpers import SWIFT, drive, finish
from tests.values import naming

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")

IN_HOME = {
    "SUBMIT_REQUIREMENT_NAMES": "Home",
    "SUBMIT_REQUIREMENT_Home": 'regexp("^/home", UserLog ?: "")',
    "SUBMIT_REQUIREMENT_Home_REASON": '"logs must be in /home"',
}


@contextmanager
def site(tmp_path: Path, settings: dict[str, str], tasks: int = 8) -> Iterator[Any]:
    """Yield a pool with these settings, a manager with tasks, and its factory."""
    with (
        vine.PersonalPool(config=settings) as pool,
        vine.Manager(0, shared_port=True, run_info_path=str(tmp_path)) as manager,
    ):
        for _ in range(tasks):
            manager.submit(vine.Task("sleep 0.2"))
        with vine.Factory("condor", manager=manager, **SWIFT) as workers:
            yield pool, manager, workers


def warnings_of(workers: Any) -> list[str]:
    text = Path(workers.directory, "factory.log").read_text()
    return [line for line in text.splitlines() if "WARNING cannot submit" in line]


@pytest.mark.parametrize(
    "setting", ["MAX_JOBS_PER_OWNER", "MAX_JOBS_SUBMITTED", "MAX_JOBS_PER_SUBMISSION"]
)
def test_as_many_come_as_the_schedd_lets_in(tmp_path: Path, setting: str) -> None:
    with site(tmp_path, {setting: "3"}) as (pool, manager, workers):
        most = 4 if setting == "MAX_JOBS_PER_SUBMISSION" else 3
        drive(manager, lambda: workers.status().submitted >= most)
        if most == 3:
            drive(manager, lambda: workers.status().phase == "not-taken")
            (problem,) = workers.status().problems
            assert problem.cause == "submission"
            assert setting in problem.explanation
            assert setting in problem.remedy
            assert setting in workers.status().message
            with open(pool.config_file, "a") as file:
                file.write(f"\n{setting} = 100\n")
            subprocess.run(["condor_reconfig"], check=True, capture_output=True)
        finish(manager)
        assert workers.status().submitted >= most
        assert len(warnings_of(workers)) <= 1


@pytest.mark.parametrize(
    ("settings", "cause", "step"),
    [
        (IN_HOME, "logs must be in /home", ("directory=", "-S", "--log-dir")),
        (
            {"SUBMIT_REQUIREMENT_NAMES": "No", "SUBMIT_REQUIREMENT_No": "false"},
            "Submit requirement No not met",
            ("preset=",),
        ),
        ({"MAX_JOBS_PER_OWNER": "0"}, "MAX_JOBS_PER_OWNER", ("administrator",)),
    ],
)
def test_a_refusal_is_named_once_and_not_repeated_in_each_cycle(
    tmp_path: Path, settings: dict[str, str], cause: str, step: tuple[str, ...]
) -> None:
    with site(tmp_path, settings) as (_, manager, workers):
        drive(manager, lambda: workers.status().phase == "not-taken")
        seen = workers.status().time
        drive(manager, lambda: workers.status().time > seen + 4)  # eight cycles
        snapshot = workers.status()
        assert snapshot.phase == "not-taken"
        assert cause in snapshot.message
        (problem,) = snapshot.problems
        assert cause in problem.explanation
        assert all(word in problem.remedy for word in step)
        assert len(warnings_of(workers)) == 1
        if settings is IN_HOME:
            with pytest.raises(
                vine.ScheddError, match=naming("logs must be in /home", "--log-dir")
            ):
                vine.submit_workers(manager, 1)


def test_without_a_way_to_say_who_one_is_that_is_told(tmp_path: Path) -> None:
    # The daemons take what the client offers; a token has run out, or there is none.
    program = tmp_path / "ask.py"
    program.write_text(
        "from vine_sharedport.condor.schedd import Schedd\n"
        "from vine_sharedport.condor.submit_description import Commands, SubmitDescription\n"
        "description = SubmitDescription(commands=Commands({'executable': '/bin/true'}))\n"
        "try: Schedd().submit(description)\n"
        "except Exception as error: print(error)\n"
    )
    with vine.PersonalPool():
        # Not in our own: the bindings would keep it.
        variables = {
            "PYTHONPATH": str(Path(vine.__file__).parents[1]),
            "_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS": "TOKEN",
        }
        said = subprocess.run(
            ["python", str(program)], capture_output=True, text=True, check=True,
            env={**os.environ, **variables},
        ).stdout  # fmt: skip
    assert "does not know who you are" in said
    assert "condor_token_list" in said
