"""A factory whose workers' jobs go elsewhere: another schedd, its spool, a grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from vine_sharedport.pool.schedd import Schedd

from . import helpers, where_helpers
from .factory_helpers import SWIFT, drive, finish
from .where_helpers import SECOND

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")


@pytest.fixture(scope="module")
def pool() -> Iterator[Any]:
    """Return a pool with two schedds, instead of the other tests' pool."""
    with where_helpers.pool_with_second_schedd() as running:
        yield running


def _options(kind: str) -> dict[str, Any]:
    import htcondor2

    return {
        "schedd": {"schedd": SECOND},
        "spool": {"schedd": SECOND, "spool": True},
        "condor": {"grid": f"condor {SECOND} {htcondor2.param['COLLECTOR_HOST']}"},
        "batch": {"grid": "batch condor"},
    }[kind]


@pytest.mark.parametrize("kind", ["schedd", "spool", "condor", "batch"])
def test_a_workflow_there_from_the_first_worker_to_the_last_jobs_end(
    make_manager: Any, kind: str
) -> None:
    manager = make_manager()
    options = {**SWIFT, "max_workers": 2, "timeout": 60, **_options(kind)}
    with vine.Factory("condor", manager=manager, **options) as workers:
        for _ in range(20):
            manager.submit(vine.Task("sleep 0.2"))
        drive(manager, lambda: workers.status().workers.connected == 2, timeout=90)
        finish(manager)
        snapshot = workers.status()
        assert snapshot.submitted == 2
        assert snapshot.problems == ()
    assert workers.status().state == "ended"
    schedd = Schedd(options.get("schedd"))
    mark = f'VineSharedPortFactory =?= "{snapshot.factory}"'
    helpers.wait_until(lambda: not schedd.query(mark), timeout=60)


def test_spooled_workers_leave_their_last_words_and_the_queue(make_manager: Any) -> None:
    manager = make_manager()
    options = {**SWIFT, "max_workers": 1, "timeout": 1, **_options("spool")}
    with vine.Factory("condor", manager=manager, **options) as workers:
        manager.submit(vine.Task("true"))
        finish(manager)
        drive(manager, lambda: workers.status().workers.ended == 1)
        (job,) = workers.status().jobs
        assert (job.state, job.exit_status) == ("ended", 0)
        mark = f'VineSharedPortFactory =?= "{workers.status().factory}"'
        drive(manager, lambda: not Schedd(SECOND).query(mark))
        drive(
            manager, lambda: "connected to manager" in str(workers.status().jobs[0].last_line)
        )
