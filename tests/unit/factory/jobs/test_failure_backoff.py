"""Failed workers slow the factory down, each of them once."""

from __future__ import annotations

from pathlib import Path

from vine_sharedport.condor.event_log import Event
from vine_sharedport.factory.jobs.failure_backoff import FailureBackoff
from vine_sharedport.factory.jobs.job import Job
from vine_sharedport.factory.jobs.ledger import Ledger
from vine_sharedport.factory.jobs.table import JobTable
from vine_sharedport.factory.manager_view.monitor import ManagerView


def test_each_failed_job_counts_once_and_another_one_with_its_id_again(tmp_path: Path) -> None:
    table = JobTable()
    ledger = Ledger(table, str(tmp_path), lambda: 60)

    def look(*events: Event) -> int:
        ledger.note(table.apply(events))
        ledger.update(ManagerView(), 0.0)
        return ledger.backoff.failures

    assert look(Event("SUBMIT", 1, 0, 100.0), Event("EXECUTE", 1, 0, 101.0)) == 0
    assert look(Event("JOB_TERMINATED", 1, 0, 102.0, exit_status=77)) == 1
    assert look() == 1
    # Another personal pool begins with cluster 1 as well.
    assert look(Event("SUBMIT", 1, 0, 200.0), Event("EXECUTE", 1, 0, 201.0)) == 1
    assert look(Event("JOB_TERMINATED", 1, 0, 202.0, exit_status=77)) == 2
    assert ledger.backoff.at_most(10) == 10
    look(Event("SUBMIT", 1, 0, 300.0), Event("JOB_TERMINATED", 1, 0, 302.0, exit_status=77))
    assert ledger.backoff.at_most(10) == 1
    assert ledger.totals()["failed"] == 3


def ended(number: int, status: int | None) -> Job:
    return Job(1, number, state="ended", exit_status=status)


def test_one_bad_machine_does_not_stop_anything() -> None:
    backoff = FailureBackoff()
    backoff.update([ended(0, 127), ended(1, 75)], set(), 0.0)
    assert backoff.pause(0.0) == 0
    assert backoff.at_most(10) == 10


def test_failures_in_a_row_lead_to_longer_and_longer_pauses() -> None:
    backoff = FailureBackoff()
    pauses = []
    now = 0.0
    for number in range(12):
        backoff.update([ended(n, 77) for n in range(number + 1)], set(), now)
        pauses.append(backoff.pause(now))
        now += pauses[-1]
    assert pauses[:2] == [0, 0]
    assert pauses[2:5] == [15, 30, 60]
    assert pauses[-1] == 900
    assert backoff.at_most(10) == 1, "one, to see whether it works"
    connected = Job(2, 0, state="running", connected=True)
    backoff.update([connected], set(), now)
    assert (backoff.pause(now), backoff.at_most(10), backoff.failures) == (0, 10, 0)


def test_workers_that_did_work_or_were_not_needed_are_no_failures() -> None:
    backoff = FailureBackoff()
    jobs = [ended(n, 0) for n in range(5)] + [ended(n, 1) for n in range(5, 10)]
    backoff.update(jobs, {f"1.{n}" for n in range(5, 10)}, 0.0)
    removed = [Job(2, n, state="removed") for n in range(5)]
    backoff.update(removed, set(), 0.0)
    assert backoff.failures == 0


def test_a_job_that_gets_an_old_id_is_looked_at_anew() -> None:
    backoff = FailureBackoff()
    backoff.update([ended(0, 77)], set(), 0.0)
    backoff.update([ended(0, 77)], set(), 0.0)
    assert backoff.failures == 1
    backoff.forget("1.0")
    backoff.update([ended(0, 77)], set(), 0.0)
    assert backoff.failures == 2
