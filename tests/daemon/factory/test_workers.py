"""A factory in a real pool: workers come, stay as long as needed, and are accounted for."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.daemon.factory_helpers import (
    SWIFT,
    drive,
    finish,
    kill,
    peak,
    processes_of,
    queued,
    wait_until_gone,
)
from tests.values import naming
from vine_sharedport.errors import LaunchError, OptionError, SettingError
from vine_sharedport.factory import control
from vine_sharedport.factory.report import paths

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")


def factory(manager: Any, **options: Any) -> Any:
    return vine.Factory("condor", manager=manager, **{**SWIFT, **options})


def test_it_grows_from_none_to_max_workers_and_shrinks_to_none(manager: Any) -> None:
    with factory(manager, timeout=2) as workers:
        drive(manager, lambda: workers.status().manager.reachable)
        assert not queued(workers.status().factory)
        for _ in range(500):
            manager.submit(vine.Task("sleep 0.05"))  # so that all have their share
        most = 0
        done = []
        while not manager.empty():
            task = manager.wait(1)
            if task is not None:
                done.append(task)
            most = max(most, helpers.stats_now(manager).workers_connected)
        assert len(done) == 500
        assert all(task.successful() for task in done)
        assert most == 4
        drive(manager, lambda: not queued(workers.status().factory))
        drive(manager, lambda: workers.status().workers.ended == 4)
        snapshot = workers.status()
    assert peak(workers.directory) == 4
    assert (snapshot.submitted, snapshot.workers.failed, snapshot.workers.running) == (4, 0, 0)
    assert snapshot.problems == ()
    assert {job.exit_status for job in snapshot.jobs} == {0}
    assert all("connected to manager" in str(job.last_line) for job in snapshot.jobs)


def test_a_second_burst_after_a_pause_gets_new_workers(manager: Any) -> None:
    with factory(manager, timeout=1, max_workers=2) as workers:
        for burst in (1, 2):
            for _ in range(30):
                manager.submit(vine.Task("true"))
            assert len(finish(manager)) == 30
            drive(manager, lambda: not queued(workers.status().factory))
            # Not more than 2 at once: those of the first are gone.
            assert workers.status().submitted == 2 * burst
    assert peak(workers.directory) == 2


def everything_submitted(manager: Any) -> set[tuple[int, int]]:
    """Return what all jobs of a manager asked for, in the queue and in the history."""
    import htcondor2

    schedd = htcondor2.Schedd()
    mark = f'VineSharedPort =?= "{manager.shared_port.sock_id}"'
    names = ["RequestCpus", "RequestMemory"]
    ads = [*schedd.query(mark, names), *schedd.history(mark, names, -1)]
    return {(ad["RequestCpus"], ad["RequestMemory"]) for ad in ads}


def test_options_that_are_set_inside_of_with_hold_for_the_first_jobs(manager: Any) -> None:
    # As stock, and as swift as a program can be: no option is there when it starts.
    with vine.Factory("condor", manager=manager) as workers:
        workers.max_workers = 3
        workers.cores = 2
        workers.memory = 800
        for _ in range(8):
            manager.submit(vine.Task("true"))
        assert len(finish(manager)) == 8
        assert everything_submitted(manager) == {(2, 800)}
        assert workers.status().submitted == 3
    helpers.wait_until(lambda: not queued(manager.shared_port.sock_id))
    assert everything_submitted(manager) == {(2, 800)}


def test_options_for_a_manager_of_another_program_have_a_second_to_come(manager: Any) -> None:
    link = manager.shared_port
    with contextlib.ExitStack() as stack:
        # Its own program waits for tasks all the time.
        other = stack.enter_context(subprocess.Popen(
            [sys.executable, "-c", ANOTHER, str(link.address), link.secret_file],
            env={**os.environ, "PYTHONPATH": str(helpers.ROOT)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ))  # fmt: skip
        for _ in range(8):
            manager.submit(vine.Task("true"))
        assert len(finish(manager)) == 8
        assert everything_submitted(manager) == {(2, 800)}
        began, submitted = map(float, other.communicate("\n", timeout=60)[0].split())
        assert submitted - began < 3, "not much more than a second"


ANOTHER = """
import os, sys, time
import vine_sharedport as vine
address, secret = sys.argv[1:]
with vine.Factory("condor", address=address, secret_file=secret, min_workers=3) as workers:
    while not workers.status().manager.reachable:
        time.sleep(0.01)
    workers.max_workers = 3
    time.sleep(0.5)
    workers.cores = 2
    time.sleep(0.5)
    workers.memory = 800
    began = time.time()
    while not workers.status().submitted:
        time.sleep(0.01)
    print(began, time.time(), flush=True)
    sys.stdin.readline()
"""


def test_options_that_change_while_it_runs_take_effect(manager: Any) -> None:
    with factory(manager, max_workers=1) as workers:
        for _ in range(6):
            manager.submit(vine.Task("sleep 4"))
        drive(manager, lambda: workers.status().workers.connected == 1)
        workers.max_workers = 3
        drive(manager, lambda: workers.status().workers.connected == 3)
        assert workers.max_workers == 3
        with pytest.raises(OptionError, match=naming("password_file")):
            workers.password = "somewhere"
        # As from an editor: broken first, and then as it should be.
        path = Path(workers.directory, paths.CONFIG)
        good = json.loads(path.read_text())
        path.write_text("{")
        helpers.wait_until(lambda: workers.status().problems)
        assert workers.status().problems[0].cause == "configuration"
        path.write_text(json.dumps({**good, "max-workers": 2}))
        helpers.wait_until(lambda: workers.status().max_workers == 2)
        assert workers.status().problems == ()


def test_waiting_jobs_above_a_lowered_limit_are_taken_back(manager: Any) -> None:
    with factory(manager, min_workers=3, condor_requirements="false") as workers:
        drive(manager, lambda: workers.status().workers.idle == 3)
        workers.min_workers, workers.max_workers = 1, 1
        drive(manager, lambda: workers.status().workers.idle == 1)
        drive(manager, lambda: len(queued(workers.status().factory)) == 1)
        assert workers.status().phase == "enough"


def test_a_waiting_job_is_replaced_when_what_it_asks_for_changes(manager: Any) -> None:
    with factory(manager, max_workers=1, memory=9_000_000) as workers:
        manager.submit(vine.Task("true"))
        drive(manager, lambda: workers.status().workers.idle == 1)
        workers.memory = 100
        (task,) = finish(manager)
        assert task.successful()
        assert workers.status().submitted == 2


def test_two_factories_of_one_manager_stay_within_the_limit_together(manager: Any) -> None:
    first, second = factory(manager, max_workers=3), factory(manager, max_workers=3)
    with first, second:
        assert first.directory != second.directory
        for _ in range(60):
            manager.submit(vine.Task("sleep 0.1"))
        most = 0

        def many() -> bool:
            nonlocal most
            most = max(most, len(queued(manager.shared_port.sock_id)))
            return bool(manager.empty())

        assert len(drive(manager, many, timeout=60)) == 60
        assert most == 3
        assert sum(each.status().submitted for each in (first, second)) == 3

        def know_each_other() -> bool:
            one, two = (each.status().workers for each in (first, second))
            return one.others == two.running and two.others == one.running

        drive(manager, know_each_other)


def test_a_held_job_is_told_with_its_reason_within_one_cycle_and_not_replaced(
    manager: Any, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.write_text("needed by nobody")
    with factory(manager, min_workers=1, max_workers=1, wrapper_input=[str(gone)]) as workers:
        gone.unlink()  # between the check and the job's start
        drive(manager, lambda: workers.status().workers.held == 1)
        snapshot = workers.status()
        (problem,) = snapshot.problems
        assert problem.cause == "missing_input"
        assert str(gone) in problem.explanation
        assert "put the file back" in problem.remedy
        (job,) = snapshot.jobs
        assert (job.state, job.id) == ("held", problem.jobs[0])
        assert str(gone) in str(job.reason)
        assert str(gone) in str(snapshot)
        held_since = time.time() - job.since
        assert held_since < 5, "whole seconds in the log, and one cycle"
        drive(manager, lambda: workers.status().time > snapshot.time + 2)
        assert workers.status().submitted == 1
        # And once the user has done what was said:
        gone.write_text("again")
        import htcondor2

        htcondor2.Schedd().act(htcondor2.JobAction.Release, [job.id])
        drive(manager, lambda: workers.status().workers.connected == 1)
        assert workers.status().problems == ()


def test_a_hold_from_the_submission_is_told_and_its_remedy_works(manager: Any) -> None:
    with factory(manager, min_workers=2, max_workers=2, batch_options="hold = true") as workers:
        drive(manager, lambda: workers.status().workers.held == 2)
        assert workers.status().workers.idle == 0
        (problem,) = workers.status().problems
        assert (problem.cause, len(problem.jobs)) == ("submitted_on_hold", 2)
        command = problem.remedy.partition(";")[0].split()
        assert command[0] == "condor_release"
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=30)
        drive(manager, lambda: workers.status().workers.connected == 2)
        assert (workers.status().submitted, workers.status().problems) == (2, ())


def test_a_held_job_is_mended_where_that_is_allowed_but_not_for_ever(manager: Any) -> None:
    # A site's words for too little memory, as long as less than 140 MB are asked for.
    commands = {
        "periodic_hold": "JobStatus == 2 && RequestMemory < 140",
        "periodic_hold_reason": '"memory usage above the limit"',
    }
    with factory(
        manager, min_workers=1, max_workers=1, commands=commands, repair=True
    ) as workers:
        drive(manager, lambda: workers.status().workers.connected == 1)
        (problem,) = workers.status().problems
        assert (problem.cause, problem.repaired) == ("memory", True)
        (ad,) = queued(workers.status().factory)
        assert ad["JobStatus"] == 2
        assert workers.status().submitted == 1


def test_what_would_be_submitted_is_what_is_submitted(manager: Any) -> None:
    workers = factory(
        manager, min_workers=1, max_workers=1, env={"COLOUR": "dark $blue"},
        condor_requirements="Memory > 1", batch_options="+Team = \"a b\"", feature="fast",
        extra_options="--wall-time 3000",
    )  # fmt: skip
    text = workers.submit_description()
    assert '+Team = "a b"' in text
    assert "requirements = (Memory > 1)" in text or "requirements = Memory > 1" in text
    with workers:
        manager.submit(vine.Task('echo "$COLOUR"'))
        (task,) = finish(manager)
        assert task.output == "dark $blue\n"
        import htcondor2

        (ad,) = htcondor2.Schedd().query(
            f'VineSharedPortFactory =?= "{workers.status().factory}"'
        )
        assert ad["Team"] == "a b"
        assert "--feature fast --wall-time 3000" in ad["Arguments"].replace("'", "")
        again = workers.submit_description()
    changing = ("My.VineSharedPortFactory", "My.VineSharedPortLease")

    def stable(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith(changing)]

    assert stable(text) == stable(again)


def test_a_wrapper_runs_around_the_worker(manager: Any, tmp_path: Path) -> None:
    tool = tmp_path / "tool.sh"
    tool.write_text('#!/bin/sh\nexport WRAPPED="$1"\nshift\nexec "$@"\n')
    tool.chmod(0o755)
    with factory(
        manager, min_workers=1, max_workers=1, wrapper="./tool.sh 'with care'",
        wrapper_input=str(tool),
    ):  # fmt: skip
        manager.submit(vine.Task('echo "$WRAPPED"'))
        (task,) = finish(manager)
    assert task.output == "with care\n"


def test_workers_that_fail_are_told_with_their_last_words_and_come_more_slowly(
    manager: Any, tmp_path: Path
) -> None:
    bad = tmp_path / "bad_worker"
    bad.write_text("#!/bin/sh\nexit 1\n")
    bad.chmod(0o755)
    with factory(manager, min_workers=2, max_workers=2, worker_binary=str(bad)) as workers:
        drive(manager, lambda: workers.status().workers.failed >= 3)
        drive(manager, lambda: workers.status().phase == "workers-fail")
        snapshot = workers.status()
        assert snapshot.submitted <= 4
        (problem,) = snapshot.problems
        assert problem.cause == "workers_fail"
        assert "no worker program that runs" in problem.explanation
        failed = [job for job in snapshot.jobs if job.exit_status is not None]
        assert {job.exit_status for job in failed} == {127}
        assert all("its --version ended with status 1" in str(j.last_line) for j in failed)
        assert "127" in str(snapshot)


def test_a_worker_that_runs_and_does_not_connect_tells_why_while_it_tries(
    manager: Any,
) -> None:
    elsewhere = manager.shared_port.address.with_sock("nobody_of_this_name")
    wrapper = f"env 'VINE_SHAREDPORT_ADDRESS={elsewhere}'"
    with factory(manager, min_workers=1, max_workers=1, wrapper=wrapper, timeout=60) as workers:
        drive(manager, lambda: any(job.last_line for job in workers.status().jobs))
        (job,) = workers.status().jobs
        assert job.state == "running"
        assert re.fullmatch(r"not connected after \d+ s", str(job.reason))
        assert "no manager serves this sock id" in str(job.last_line)
        assert str(job.last_line) in str(workers.status())


def test_the_context_leaves_no_job_and_tells_so(manager: Any) -> None:
    with factory(manager, min_workers=2, max_workers=2, cycle=3) as workers:
        drive(manager, lambda: workers.status().workers.connected == 2)
        mark = workers.status().factory
        assert "connected" in workers._repr_html_()
        for _ in range(4):
            manager.submit(vine.Task("sleep 1"))
        drive(manager, lambda: workers.status().manager.tasks_running)
        finish(manager)  # sooner than the factory asks again
    assert not queued(mark)
    # The manager's last word was of tasks that are done by now.
    snapshot = workers.status()
    assert (snapshot.state, snapshot.phase) == ("ended", "program-ended")
    assert (snapshot.manager.tasks_running, snapshot.needed) == (0, 0)
    assert "task" not in str(snapshot)
    assert workers.status().workers.running == 0
    assert not paths.is_running(workers.directory)
    workers.stop()  # again


def test_the_context_leaves_no_job_when_its_processes_were_killed(manager: Any) -> None:
    with factory(manager, min_workers=2, max_workers=2) as workers:
        drive(manager, lambda: workers.status().workers.connected == 2)
        mark = workers.status().factory
        for pid in processes_of(workers.directory):
            kill(pid)
        helpers.wait_until(lambda: not paths.is_running(workers.directory))
        assert workers.status().phase == "killed"
        assert "process is gone" in workers._repr_html_()
        assert "not running" in repr(workers)
        assert len(queued(mark)) == 2
    assert not queued(mark)
    assert workers.status().state == "ended"


def test_a_second_factory_in_the_same_directory_is_refused_and_harms_nothing(
    manager: Any,
) -> None:
    with factory(manager, max_workers=3) as workers:
        other = factory(manager, max_workers=1, directory=workers.directory)
        with pytest.raises(LaunchError, match=naming(workers.directory, "factory stop")):
            other.start()
        other.stop()
        del other
        before = workers.status()
        drive(manager, lambda: workers.status().time > before.time + 1)
        after = workers.status()
        assert (after.state, after.pid, after.max_workers) == ("running", before.pid, 3)


def test_it_can_be_started_again_when_it_has_ended(manager: Any) -> None:
    workers = factory(manager)
    for _ in range(2):
        with workers:
            first = workers.status()
            control.terminate(workers.directory, timeout=30)
            assert workers.status().state == "ended"
            workers.max_workers = 2
            workers.start()
            assert workers.status().state == "running"
            assert workers.status().pid != first.pid
            assert workers.status().max_workers == 2


PROGRAM = """
import vine_sharedport as vine
m = vine.Manager(0, shared_port=True, run_info_path={run_info!r})
f = vine.Factory("condor", manager=m, min_workers=1, directory={directory!r}, **{options!r})
f.start()
while not f.status().submitted:
    m.wait(1)
{end}
"""


def test_workers_started_by_hand_count_beside_another_factorys(
    manager: Any, tmp_path: Path
) -> None:
    slow = {"wrapper": "sh -c 'sleep 6; exec \"$@\"' --", "min_workers": 4, "max_workers": 4}
    with contextlib.ExitStack() as stack:
        for count in (1, 2):  # of two at once vine_worker may lose one, over a port
            stack.enter_context(helpers.tcp_worker(manager.port))
            drive(manager, lambda n=count: helpers.stats_now(manager).workers_connected == n)
        first = stack.enter_context(factory(manager, directory=str(tmp_path / "1"), **slow))
        drive(manager, lambda: first.status().workers.running == 2)
        second = stack.enter_context(factory(manager, directory=str(tmp_path / "2"), **slow))
        # Those of the first factory run, and are not connected yet.
        drive(manager, lambda: second.status().workers.others == 4)
        drive(manager, lambda: helpers.stats_now(manager).workers_connected == 4)
        time.sleep(2)
        assert (first.status().submitted, second.status().submitted) == (2, 0)
        drive(manager, lambda: second.status().workers.others == 4)


@pytest.mark.parametrize("mode", ["direct", "relay"])
def test_the_way_of_each_worker_is_known(make_manager: Any, mode: str) -> None:
    manager = make_manager(shared_port=vine.SharedPort(mode=mode))
    # None of them runs: the worker by TCP on the same host must not be taken for a job's.
    with factory(
        manager, min_workers=1, max_workers=3, condor_requirements="MY.ProcId == 9"
    ) as workers, helpers.tcp_worker(manager.port):  # fmt: skip
        drive(manager, lambda: workers.status().manager.by_tcp == 1)
        assert workers.status().manager.by_shared_port == 0
        with helpers.relay_worker(manager.shared_port):
            drive(manager, lambda: workers.status().manager.by_shared_port == 1)
            found = workers.status()
            assert (found.manager.workers, found.manager.by_tcp) == (2, 1)
            assert (found.workers.connected, found.workers.others) == (0, 2)
            assert "2 workers (1 by the shared port, 1 by TCP)" in str(found)


def test_a_worker_by_tcp_is_not_taken_for_a_job_on_its_host(manager: Any) -> None:
    slow = {"wrapper": "sh -c 'sleep 5; exec \"$@\"' --"}
    with factory(manager, min_workers=1, max_workers=1, **slow) as workers:
        drive(manager, lambda: workers.status().workers.running == 1)
        with helpers.tcp_worker(manager.port):
            drive(manager, lambda: workers.status().manager.by_tcp == 1)
            (job,) = workers.status().jobs
            assert job.state == "running"
            assert "not connected after" in str(job.reason)
            drive(manager, lambda: workers.status().workers.connected == 1)
            (job,) = workers.status().jobs
            assert re.fullmatch(r"127\.0\.0\.1:\d+", str(job.worker))


@pytest.mark.parametrize("end", ["", "f = None", "raise SystemExit(0)"])
def test_a_program_that_ends_without_stop_ends_quietly_and_leaves_no_job(
    pool: Any, tmp_path: Path, end: str
) -> None:
    directory = str(tmp_path / "factory")
    options = {name: value for name, value in SWIFT.items() if name != "min_workers"}
    text = PROGRAM.format(
        run_info=str(tmp_path / "run"), directory=directory, options=options, end=end
    )
    began = time.monotonic()
    found = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True,
        check=False, timeout=90, env={**os.environ, "PYTHONPATH": str(helpers.ROOT)},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "Exception" not in found.stderr
    assert time.monotonic() - began < 30
    helpers.wait_until(lambda: paths.read_status(directory).state == "ended")
    assert not queued(paths.read_status(directory).factory)


def test_a_manager_that_has_ended_takes_its_factory_along(make_manager: Any) -> None:
    manager = make_manager()
    workers = factory(manager, min_workers=1, max_workers=1, factory_timeout=2)
    with workers:
        drive(manager, lambda: workers.status().workers.connected == 1)
        mark = workers.status().factory
        manager._free()
        helpers.wait_until(lambda: workers.status().state == "ended")
        wait_until_gone(mark, timeout=5)
        assert workers.status().phase == "no-manager"


def test_what_cannot_work_is_told_before_anything_runs(
    manager: Any, make_manager: Any, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=naming("max_worker", "max_workers")):
        factory(manager, max_worker=1)
    workers = factory(manager)
    with pytest.raises(AttributeError, match=naming("min_worker", "min_workers")):
        workers.min_worker = 1
    with pytest.raises(AttributeError):
        _ = workers.colour
    workers.worker_binary = str(tmp_path / "none")
    with pytest.raises(SettingError, match=naming(repr(str(tmp_path / "none")))):
        workers.start()
    with pytest.raises(SettingError, match=naming("shared_port=True")):
        vine.Factory("condor", manager=make_manager(shared_port=False))
    with pytest.raises(SettingError, match=naming("manager=", "address=")):
        vine.Factory("condor")


def test_another_batch_type_is_the_stock_factory(manager: Any) -> None:
    with vine.Factory("local", manager=manager) as workers:
        workers.max_workers = 1
        workers.min_workers = 1
        manager.submit(vine.Task("echo here"))
        (task,) = finish(manager)
        assert task.output == "here\n"
    assert isinstance(workers, vine.StockFactory)


def test_without_a_batch_type_a_manager_with_a_shared_port_gets_workers_of_htcondor(
    manager: Any, make_manager: Any
) -> None:
    assert type(vine.Factory(manager=manager)) is vine.Factory
    by_tcp = vine.Factory(manager=make_manager(shared_port=False))
    assert isinstance(by_tcp, vine.StockFactory)
    assert by_tcp.batch_type == "local"


def test_a_work_queue_gets_workers_too(pool: Any, tmp_path: Path) -> None:
    import vine_sharedport.work_queue as wq

    before = os.getcwd()
    os.chdir(tmp_path)
    queue = wq.WorkQueue(0, shared_port=True)
    try:
        with wq.Factory("condor", manager=queue, **SWIFT) as workers:
            queue.submit(wq.Task("echo queue"))
            done = helpers.wait_until(lambda: queue.wait(1))
            assert done.output == "queue\n"
            helpers.wait_until(lambda: queue.wait(1) or workers.status().manager.workers == 1)
    finally:
        queue._free()
        os.chdir(before)


def test_workers_of_other_batch_systems_get_our_launcher_by_the_stock_factory(
    manager: Any,
) -> None:
    workers = vine.Factory("slurm", manager=manager, max_workers=7)
    workers._config_file = "config"
    line = workers._construct_command_line()
    assert "--wrapper=./launcher.sh" in line
    inputs = {os.path.basename(word) for word in line if word.startswith("--wrapper-input=")}
    assert {"launcher.sh", "vine_sharedport.address", "vine_sharedport.secret"} <= inputs
    assert line[-2:] == ["localhost", str(manager.port)]
    assert workers.max_workers == 7
