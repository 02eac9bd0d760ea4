"""Mends about what counts as a worker, refused submissions, and clocks."""

from __future__ import annotations

from tests.prove.mend import Mend

_COUNTS = "tests/daemon/factory/test_what_counts.py::test_"
_REFUSALS = "tests/daemon/factory/test_refusals.py::test_"
_CLOCKS = "tests/daemon/factory/test_clocks.py::test_"

MENDS = (
    Mend(
        "a worker of no use: status 0 without a connection is a failure",
        "vine_sharedport/factory/jobs/failure_backoff.py",
        "job.was_useless or job.exit_signal",
        "job.exit_signal",
        (f"{_COUNTS}a_worker_that_ends_well_without_having_been_connected_has_failed",),
    ),
    Mend(
        "a worker that fails by itself: its own last line",
        "vine_sharedport/factory/jobs/ledger.py",
        "return (said.own if by_itself else None) or said.launcher",
        "return said.launcher",
        (f"{_COUNTS}a_worker_that_fails_by_itself_shows_its_own_last_line",),
    ),
    Mend(
        "suspended jobs: a state of their own",
        "vine_sharedport/factory/jobs/job.py",
        '"JOB_SUSPENDED": _suspended,',
        "",
        (f"{_COUNTS}a_suspended_worker_is_shown_and_does_not_count",),
    ),
    Mend(
        "suspended jobs: JobMaxSuspendTime",
        "vine_sharedport/condor/worker_job/description.py",
        '"My.JobMaxSuspendTime": 0,',
        "",
        (f"{_COUNTS}jobs_of_every_kind_ask_not_to_be_suspended_for_long",),
    ),
    Mend(
        "lost workers: they do not count",
        "vine_sharedport/factory/loop.py",
        "WorkerCounter(self._queue, lambda: self.options.timeout)",
        "WorkerCounter(self._queue)",
        (
            f"{_COUNTS}a_job_that_never_connects_and_does_not_end_is_replaced_slowly",
            f"{_COUNTS}a_worker_that_the_manager_has_lost_is_replaced",
        ),
    ),
    Mend(
        "libraries: no demand",
        "vine_sharedport/factory/manager_view/monitor.py",
        "entry = without_libraries(entry, libraries)",
        "entry = dict(entry)",
        (f"{_COUNTS}libraries_are_no_demand_and_keep_no_worker",),
    ),
    Mend(
        "libraries: they keep no worker",
        "vine_sharedport/factory/surplus.py",
        "if due and surplus > 0:",
        "if False:",
        (f"{_COUNTS}libraries_are_no_demand_and_keep_no_worker",),
    ),
    Mend(
        "refusals: as many jobs as there is room for",
        "vine_sharedport/factory/submitter.py",
        "if not error.room or error.room >= count:",
        "if True:",
        (f"{_REFUSALS}as_many_come_as_the_schedd_lets_in",),
    ),
    Mend(
        "refusals: pauses",
        "vine_sharedport/factory/submission/refusal_backoff.py",
        "return max(0.0, self._until - now) if what == self._what else 0.0",
        "return 0.0",
        ("tests/unit/factory/submission/test_refusal_backoff.py",),
    ),
    Mend(
        "refusals: their reason and what to do",
        "vine_sharedport/condor/schedd.py",
        "known = explain_refusal(_text(error))",
        "known = None",
        (f"{_REFUSALS}a_refusal_is_named_once_and_not_repeated_in_each_cycle",
         f"{_REFUSALS}without_a_way_to_say_who_one_is_that_is_told"),
    ),
    Mend(
        "clocks: the event log's time zone",
        "vine_sharedport/condor/event_log.py",
        "return _by_our_clock(events, os.fstat(self._fd).st_mtime)",
        "return events",
        ("tests/unit/condor/test_event_log.py -k another_time_zone",),
    ),
    Mend(
        "clocks: the schedd's times by ours",
        "vine_sharedport/factory/submission/schedd_clock.py",
        "self._ahead = ahead if abs(ahead) >= _SLACK else 0.0",
        "self._ahead = 0.0",
        (f"{_CLOCKS}a_clock_that_is_off_by_hours_neither_removes_nor_resubmits_what_waits"
         " -k 3600",),
    ),
    Mend(
        "clocks: a lease that has run out all at once",
        "vine_sharedport/factory/jobs/description.py",
        "({over} < {_CLOCK_JUMP} || {over} > {_DAY}) && ",
        "",
        (f"{_CLOCKS}a_clock_that_is_off_by_hours_neither_removes_nor_resubmits_what_waits",),
    ),
)  # fmt: skip
