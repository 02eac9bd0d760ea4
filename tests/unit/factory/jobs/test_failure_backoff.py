"""Failed workers slow the factory down, each of them once."""

from __future__ import annotations

from pathlib import Path

from vine_sharedport.condor.event_log import Event
from vine_sharedport.factory.jobs.ledger import Account
from vine_sharedport.factory.jobs.table import JobTable
from vine_sharedport.factory.manager_view.monitor import ManagerView


def test_each_failed_job_counts_once_and_another_one_with_its_id_again(tmp_path: Path) -> None:
    table = JobTable()
    account = Account(table, str(tmp_path), lambda: 60)

    def look(*events: Event) -> int:
        account.note(table.apply(events))
        account.look(ManagerView(), 0.0)
        return account.brake.failures

    assert look(Event("SUBMIT", 1, 0, 100.0), Event("EXECUTE", 1, 0, 101.0)) == 0
    assert look(Event("JOB_TERMINATED", 1, 0, 102.0, exit_status=77)) == 1
    assert look() == 1
    # Another personal pool begins with cluster 1 as well.
    assert look(Event("SUBMIT", 1, 0, 200.0), Event("EXECUTE", 1, 0, 201.0)) == 1
    assert look(Event("JOB_TERMINATED", 1, 0, 202.0, exit_status=77)) == 2
    assert account.brake.at_most(10) == 10
    look(Event("SUBMIT", 1, 0, 300.0), Event("JOB_TERMINATED", 1, 0, 302.0, exit_status=77))
    assert account.brake.at_most(10) == 1
    assert account.totals()["failed"] == 3
