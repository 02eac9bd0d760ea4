"""What counts as a worker: one that the manager has, and none that is of no use to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.daemon.factory_helpers import SWIFT, drive, finish

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")


def factory(manager: Any, **options: Any) -> Any:
    return vine.Factory("condor", manager=manager, **{**SWIFT, "max_workers": 2, **options})


def causes(workers: Any) -> set[str]:
    return {problem.cause for problem in workers.status().problems}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"wrapper": "/bin/true"}, "status 0 and was never connected"),
        ({"wrapper": "echo the worker is not started:"}, "the worker is not started:"),
        ({"wrapper": "sh -c 'sleep 1' x"}, "status 0 and was never connected"),
        ({"extra_options": "--disk 99999999"}, "less than the promised disk space"),
    ],
)
def test_a_worker_that_ends_well_without_having_been_connected_has_failed(
    manager: Any, options: dict[str, str], told: str
) -> None:
    for _ in range(4):
        manager.submit(vine.Task("true"))
    with factory(manager, **options) as workers:
        drive(manager, lambda: workers.status().phase == "workers-fail", timeout=60)
        snapshot = workers.status()
        assert 3 <= snapshot.workers.failed <= snapshot.submitted <= 4, snapshot
        (problem,) = [p for p in snapshot.problems if p.cause == "workers_fail"]
        assert told in problem.explanation


@pytest.mark.parametrize(
    ("options", "status", "line"),
    [
        ({"extra_options": "--no-such-option"}, 1, "no-such-option"),
        ({"wrapper": "/no/such/program"}, 127, "/no/such/program"),
        ({"wrapper": "sh -c 'echo no licence left >&2; exit 3' x"}, 3, "no licence left"),
    ],
)
def test_a_worker_that_fails_by_itself_shows_its_own_last_line(
    manager: Any, options: dict[str, str], status: int, line: str
) -> None:
    manager.submit(vine.Task("true"))
    with factory(manager, max_workers=1, **options) as workers:
        drive(manager, lambda: workers.status().workers.failed)
        job = next(job for job in workers.status().jobs if job.state == "ended")
        assert job.exit_status == status
        assert line in str(job.last_line)
        assert f"ended with status {status}" in str(job.reason)


def test_a_suspended_worker_is_shown_and_does_not_count(manager: Any) -> None:
    manager.tune("keepalive-interval", 1)
    manager.tune("keepalive-timeout", 2)
    with factory(manager, max_workers=1) as workers:
        manager.submit(vine.Task("sleep 4; echo done"))
        drive(manager, lambda: manager.stats.tasks_running == 1)
        drive(manager, lambda: workers.status().workers.connected == 1)
        (first,) = [job.id for job in workers.status().jobs]
        subprocess.run(["condor_suspend", first], check=True, capture_output=True)
        (task,) = finish(manager)  # by another worker
        assert task.output == "done\n"
        drive(manager, lambda: workers.status().workers.suspended == 1)
        snapshot = workers.status()
        assert (snapshot.submitted, snapshot.workers.running) == (2, 1)
        assert snapshot.workers.others == 0
        assert "suspended" in {job.state for job in snapshot.jobs}
        assert causes(workers) == {"suspended"}
        subprocess.run(["condor_continue", first], check=True, capture_output=True)
        drive(manager, lambda: workers.status().workers.suspended == 0)


def test_jobs_of_every_kind_ask_not_to_be_suspended_for_long(manager: Any) -> None:
    with vine.submit_workers(manager, 1, cores=1, memory=100, disk=100) as jobs:
        assert _max_suspend_time(f"ClusterId == {jobs.cluster}") == [0]
    with factory(manager, min_workers=1) as workers:
        drive(manager, lambda: workers.status().submitted)
        mark = f'VineSharedPortFactory =?= "{workers.status().factory}"'
        assert _max_suspend_time(mark) == [0]
    own = {"+JobMaxSuspendTime": "60"}
    with factory(manager, min_workers=1, commands=own) as workers:
        drive(manager, lambda: workers.status().submitted)
        mark = f'VineSharedPortFactory =?= "{workers.status().factory}"'
        assert _max_suspend_time(mark) == [60]


def _max_suspend_time(constraint: str) -> list[int]:
    import htcondor2

    ads = htcondor2.Schedd().query(constraint, ["JobMaxSuspendTime"])
    return [ad.get("JobMaxSuspendTime") for ad in ads]


@pytest.mark.parametrize("wrapper", ["sleep 600 #", "sh -c 'kill -STOP $$' x"])
def test_a_job_that_never_connects_and_does_not_end_is_replaced_slowly(
    manager: Any, wrapper: str
) -> None:
    for _ in range(4):
        manager.submit(vine.Task("true"))
    with factory(manager, timeout=1, max_workers=3, wrapper=wrapper) as workers:
        drive(manager, lambda: workers.status().workers.lost == 3, timeout=60)
        drive(manager, lambda: workers.status().phase == "workers-fail")
        assert workers.status().submitted <= 5
        assert {"lost", "workers_fail"} <= causes(workers)


def test_a_worker_that_the_manager_has_lost_is_replaced(manager: Any) -> None:
    manager.tune("keepalive-interval", 1)
    manager.tune("keepalive-timeout", 2)
    with factory(manager, timeout=1, max_workers=1) as workers:
        manager.submit(vine.Task("sleep 2; echo done"))
        drive(manager, lambda: workers.status().workers.connected == 1)
        drive(manager, lambda: manager.stats.tasks_running == 1)
        stopped = list(helpers.pids_named("vine_worker"))
        try:
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            (task,) = finish(manager)
            assert task.output == "done\n"
            assert workers.status().submitted == 2
            drive(manager, lambda: "lost" in causes(workers))
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


# A program of its own: upstream leaves descriptors open where a library is made.
WITH_LIBRARY = """
import json, os, sys
import vine_sharedport as vine
from tests.daemon.factory_helpers import SWIFT, drive, finish, peak, queued

def nap(seconds):
    import time
    time.sleep(seconds)
    return seconds

calls, directory = int(sys.argv[1]), sys.argv[2]
options = {**SWIFT, "max_workers": 2, "timeout": 2, "memory": 300, "disk": 300}
options["env"] = {"PATH": os.pathsep.join([os.path.dirname(sys.executable), "/usr/bin:/bin"])}
with vine.Manager(0, shared_port=True, run_info_path=directory) as m:
    library = m.create_library_from_functions("lib", nap, add_env=False)
    library.set_cores(1)
    library.set_function_slots(1)
    m.install_library(library)
    with vine.Factory("condor", manager=m, **options) as workers:
        for _ in range(calls):
            m.submit(vine.FunctionCall("lib", "nap", 3))
        outputs = [task.output for task in finish(m)]
        drive(m, lambda: not queued(workers.status().factory))
        drive(m, lambda: workers.status().needed == 0)
        snapshot = workers.status()
        print(json.dumps([outputs, peak(workers.directory), snapshot.submitted,
                          snapshot.manager.tasks_running]))
"""


@pytest.mark.parametrize(("calls", "most"), [(1, 1), (4, 2)])
def test_libraries_are_no_demand_and_keep_no_worker(
    pool: Any, tmp_path: Path, calls: int, most: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITH_LIBRARY, str(calls), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(helpers.ROOT)}, cwd=tmp_path,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[3] * calls, most, most, 0]
