"""A status with a bit of everything, for the tests of its forms."""

from __future__ import annotations

from vine_sharedport.factory.report.phase import Phase
from vine_sharedport.factory.report.record import (
    JobReport,
    ManagerReport,
    Problem,
    WorkerCounts,
    WorkerSize,
)
from vine_sharedport.factory.report.snapshot import Snapshot

NASTY = 'say "<b>no</b>" \\ to\nit'
SNAPSHOT = Snapshot(
    time=1000.0,
    factory="f" * 32,
    pid=7,
    state="running",
    message="submitted 2 workers as cluster 12",
    directory='/tmp/a "b"\\c',
    manager=ManagerReport(
        address="<192.0.2.7:9618?sock=vine_42>", reachable=True,
        tasks_waiting=5, tasks_running=3, workers=5, by_shared_port=3, by_tcp=2,
        name="sweep", tasks_done=12,
    ),
    min_workers=1,
    max_workers=9,
    needed=6,
    submitted=11,
    workers=WorkerCounts(
        idle=2, running=4, connected=3, not_connected=1,
        held=1, ended=4, failed=2, evicted=5, others=6,
    ),
    jobs=(
        JobReport("12.0", "running", 940.0, host="node7", reason="not connected after 60 s"),
        JobReport("12.1", "held", 990.0, reason=NASTY, evictions=2),
        JobReport("11.0", "ended", 900.0, exit_status=75, reason="not reached", last_line="x"),
        JobReport("11.1", "connected", 900.0, host="node8"),
    ),
    problems=(
        Problem("memory", NASTY, "give more", ("12.1",)),
        Problem("disk", "too small", "give more", ("9.0", "9.1"), repaired=True),
    ),
    started=700.0,
    each=WorkerSize(cores=2, memory=800),
    phase=Phase.SUBMITTED.value,
    events={"submitted": 11, "job-failed": 2},
)  # fmt: skip
