"""Real jobs of a real schedd: what becomes of them, and how we hear of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from tests.values import naming
from vine_sharedport.condor import event_log
from vine_sharedport.condor.event_log import EventLog
from vine_sharedport.condor.schedd import Schedd
from vine_sharedport.condor.submit_description import SubmitDescription
from vine_sharedport.errors import ScheddError, SettingError
from vine_sharedport.factory.jobs.hold_causes import explain_hold
from vine_sharedport.factory.jobs.job import QUEUE_ATTRIBUTES, Job
from vine_sharedport.factory.jobs.table import JobTable

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")


class Jobs:
    """Jobs of one test, with their log and the table that follows it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.schedd = Schedd()
        self.log = EventLog(directory / "jobs.log")
        self.table = JobTable()
        self.types: list[str] = []
        self.clusters: list[int] = []

    def submit(self, program: str, *commands: str, count: int = 1, spool: bool = False) -> Any:
        """Submit a shell program; return its first job's number."""
        path = self.directory / f"program{len(self.clusters)}"
        path.write_text(f"#!/bin/sh\n{program}\n")
        path.chmod(0o755)
        described = {
            "executable": path,
            "log": self.log.path,
            "output": f"{self.directory}/$(Cluster).$(Process).out",
            "should_transfer_files": "YES",
            "when_to_transfer_output": "ON_EXIT",
            "request_memory": 64,
            "request_disk": 4096,
            **dict(command.split(" = ", 1) for command in commands),
        }
        job = SubmitDescription().with_commands(described)
        cluster = self.schedd.submit(job, count, spool=spool)
        self.clusters.append(cluster)
        return cluster

    def cycle(self) -> None:
        """Do what the factory does in one cycle."""
        events = self.log.read()
        self.types += [event.type for event in events]
        self.table.apply(events)

    def wait(self, cluster: int, *states: str, timeout: float = 60.0) -> Job:
        """Wait until the cluster's first job is in one of these states."""

        def look() -> Job | None:
            self.cycle()
            job = self.table.get(f"{cluster}.0")
            return job if job is not None and job.state in states else None

        return helpers.wait_until(look, timeout=timeout)  # type: ignore[no-any-return]


@pytest.fixture
def jobs(pool: Any, tmp_path: Path) -> Iterator[Jobs]:
    """Return an empty set of jobs; those that are left are removed."""
    made = Jobs(tmp_path)
    yield made
    made.log.close()
    for cluster in made.clusters:
        with contextlib.suppress(ScheddError):
            made.schedd.act("remove", f"ClusterId == {cluster}", "the test has ended")


# Their life


def test_a_job_that_ends_tells_where_it_ran_and_its_status(jobs: Jobs) -> None:
    cluster = jobs.submit("exit 3", count=3)
    job = jobs.wait(cluster, "ended")
    assert (job.exit_status, job.exit_signal) == (3, None)
    assert (job.host, job.address, job.starts, job.evictions) == (
        "localhost",
        "127.0.0.1",
        1,
        0,
    )
    assert job.slot is not None
    assert job.slot.startswith("slot1_")
    assert abs(job.since - time.time()) < 60
    helpers.wait_until(lambda: jobs.cycle() or jobs.table.counts()["ended"] == 3)
    assert len(jobs.table) == 3


def test_a_job_that_a_signal_ends_tells_the_signal(jobs: Jobs) -> None:
    job = jobs.wait(jobs.submit("kill -9 $$"), "ended")
    assert (job.exit_status, job.exit_signal) == (None, 9)


def test_a_job_that_does_not_end_is_removed_by_force(jobs: Jobs, tmp_path: Path) -> None:
    starter = tmp_path / "starter"
    tell = f"echo $PPID > {starter}.new; mv {starter}.new {starter}"
    stubborn = f"trap '' TERM; {tell}; sleep 600 & wait; wait"
    cluster = jobs.submit(stubborn, "job_max_vacate_time = 600")
    jobs.wait(cluster, "running")
    helpers.wait_until(starter.exists)
    one = f"ClusterId == {cluster}"
    assert jobs.schedd.act("remove", one, "enough") == 1
    assert [ad["JobStatus"] for ad in jobs.schedd.query(one, ["JobStatus"])] == [3]
    assert jobs.schedd.act("remove_by_force", one, "more than enough") == 1
    helpers.wait_until(lambda: not jobs.schedd.query(one, ["ClusterId"]))
    # Its slot has it still, and other tests want that.
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(starter.read_text()), signal.SIGKILL)


def test_an_evicted_job_runs_again(jobs: Jobs) -> None:
    cluster = jobs.submit("exec sleep 600")
    jobs.wait(cluster, "running")
    assert jobs.schedd.act("vacate", f"ClusterId == {cluster}", "make room") == 1
    helpers.wait_until(lambda: jobs.cycle() or jobs.types.count("EXECUTE") == 2)
    job = jobs.wait(cluster, "running")
    assert (job.evictions, job.starts) == (1, 2)


def test_hold_release_and_remove_tell_our_reasons(jobs: Jobs) -> None:
    cluster = jobs.submit("exec sleep 600")
    this = f"ClusterId == {cluster}"
    jobs.wait(cluster, "running")
    assert jobs.schedd.act("hold", this, "because we test") == 1
    job = jobs.wait(cluster, "held")
    assert job.hold_reason is not None
    assert job.hold_reason.startswith("because we test")
    assert explain_hold(job.hold_code, job.hold_subcode, job.hold_reason).name == "user"
    assert job.evictions == 0
    assert jobs.schedd.act("release", this, "go on") == 1
    jobs.wait(cluster, "running")
    assert jobs.schedd.act("remove", this, "no longer needed") == 1
    job = jobs.wait(cluster, "removed")
    assert job.reason is not None
    assert job.reason.startswith("no longer needed")
    assert job.evictions == 0


@pytest.mark.parametrize(
    ("commands", "program", "name"),
    [
        (["transfer_input_files = {d}/nothing"], "true", "missing_input"),
        (["executable = {d}/nothing"], "true", "missing_executable"),
        (["transfer_output_files = never"], "true", "missing_output"),
        (["allowed_execute_duration = 2"], "exec sleep 600", "wall_time"),
        (["on_exit_hold = ExitCode == 3"], "exit 3", "policy"),
        (["hold = true"], "true", "submitted_on_hold"),
    ],
)
def test_a_held_job_is_reported_with_its_reason_in_the_next_cycle(
    jobs: Jobs, tmp_path: Path, commands: list[str], program: str, name: str
) -> None:
    cluster = jobs.submit(program, *(command.format(d=tmp_path) for command in commands))
    held = f"ClusterId == {cluster} && JobStatus == 5"
    (ad,) = helpers.wait_until(
        lambda: jobs.schedd.query(held, ["HoldReason", "HoldReasonCode", "Cmd"])
    )
    # A single reading of the log, unless the job was held from the start: no event then.
    if name == "submitted_on_hold":
        jobs.table.update(jobs.schedd.query(held, QUEUE_ATTRIBUTES), asked=time.time() + 1)
    else:
        jobs.cycle()
    job = jobs.table.get(f"{cluster}.0")
    assert job is not None
    assert (job.state, job.hold_reason, job.hold_code) == (
        "held", ad["HoldReason"], ad["HoldReasonCode"],
    )  # fmt: skip
    assert explain_hold(job.hold_code, job.hold_subcode, job.hold_reason, ad).name == name


def test_the_queue_and_the_log_tell_the_same(jobs: Jobs, tmp_path: Path) -> None:
    running = jobs.submit("exec sleep 600")
    held = jobs.submit("true", f"transfer_input_files = {tmp_path}/nothing")
    idle = jobs.submit("true", "requirements = false")
    for cluster, state in ((running, "running"), (held, "held"), (idle, "idle")):
        jobs.wait(cluster, state)
    ours = " || ".join(f"ClusterId == {cluster}" for cluster in jobs.clusters)

    def asked() -> JobTable | None:
        table = JobTable()
        table.update(jobs.schedd.query(ours, QUEUE_ATTRIBUTES), asked=time.time())
        return table if table.counts() == jobs.table.counts() else None

    table = helpers.wait_until(asked)
    for job in jobs.table:
        same = table.get(job.id)
        for name in (
            "state",
            "host",
            "address",
            "slot",
            "hold_reason",
            "hold_code",
            "evictions",
        ):
            if job.state != "held" or name not in ("host", "address", "slot"):
                assert getattr(same, name) == getattr(job, name), (job.id, name)
    jobs.schedd.act("remove", ours, "enough")
    helpers.wait_until(lambda: not jobs.schedd.query(ours, ["ClusterId"]))
    table.update([], asked=time.time() + 1)
    assert table.counts()["ended"] == 3


# The schedd


def _daemon(pool: Any, name: str) -> int:
    """Return the process of this pool's daemon."""
    token = pool.token.encode()
    found = []
    for pid in helpers.pids_named(name):
        with contextlib.suppress(OSError):  # it has just ended
            if token in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    # The schedd forks itself to answer queries; the first is the daemon.
    return min(found)


def test_a_schedd_that_is_killed_and_restarted_loses_no_job(jobs: Jobs, pool: Any) -> None:
    go = jobs.directory / "go"
    wait = f"while [ ! -e {go} ]; do sleep 0.1; done; exit 4"
    running = jobs.submit(wait)
    idle = jobs.submit("exit 5", f"requirements = (time() > {int(time.time()) + 600})")
    jobs.wait(running, "running")
    assert len(jobs.schedd.query("true", ["ClusterId"])) >= 2  # the address is remembered
    old = _daemon(pool, "condor_schedd")
    os.kill(old, signal.SIGKILL)
    helpers.wait_until(lambda: old not in helpers.pids_named("condor_schedd"))
    helpers.wait_until(lambda: _answers(jobs.schedd), timeout=60)
    go.touch()
    assert jobs.wait(running, "ended", timeout=120).exit_status == 4
    job = jobs.wait(idle, "idle")
    assert jobs.schedd.act("remove", f"ClusterId == {idle}", "enough") == 1
    assert jobs.wait(idle, "removed").id == job.id
    later = jobs.submit("exit 6")
    assert jobs.wait(later, "ended").exit_status == 6


def _answers(schedd: Schedd) -> bool:
    try:
        schedd.query("false", ["ClusterId"])
    except ScheddError:
        return False
    return True


def test_values_are_plain_and_can_be_edited(jobs: Jobs) -> None:
    cluster = jobs.submit(
        "true", "requirements = false", "My.List = {1, 2}", "My.Text = strcat(\"a\", \"b\")",
        "My.Half = 0.5", "My.Yes = true", "My.Gone = undefined",
    )  # fmt: skip
    this = f"ClusterId == {cluster}"
    names = ["clusterid", "List", "Text", "Half", "Yes", "Gone", "RequestMemory"]
    (ad,) = jobs.schedd.query(this, names)
    assert {name: ad.get(name) for name in names} == {
        "clusterid": cluster, "List": [1, 2], "Text": "ab", "Half": 0.5, "Yes": True,
        "Gone": None, "RequestMemory": 64,
    }  # fmt: skip
    assert all(type(value).__module__ == "builtins" for value in ad.values())
    (ad,) = jobs.schedd.query(this)
    assert all(type(value).__module__ == "builtins" for value in ad.values())
    for value, wanted in (
        (96, 96),
        ("RequestDisk / 4096 * 50", 50),
        (True, True),
        ('"x"', "x"),
    ):
        assert jobs.schedd.edit(this, "RequestMemory", value) == 1
        (ad,) = jobs.schedd.query(this, ["RequestMemory", "RequestDisk"])
        assert ad["RequestMemory"] == wanted


def test_a_constraint_that_no_job_meets_is_no_error(pool: Any) -> None:
    schedd = Schedd()
    assert schedd.query("ClusterId == -7", ["ClusterId"]) == []
    assert schedd.act("remove", "ClusterId == -7", "none") == 0
    assert schedd.edit("ClusterId == -7", "RequestMemory", 1) == 0


def test_errors_name_the_cause_and_the_next_step(pool: Any, tmp_path: Path) -> None:
    with pytest.raises(ScheddError, match=r"xecutable.*condor_q"):
        Schedd().submit(SubmitDescription(("1",)))
    with pytest.raises(SettingError, match=naming(0, 1)):
        Schedd().submit(SubmitDescription(), 0)
    with pytest.raises(SettingError, match=naming("'kill'")):
        Schedd().act("kill", "true", "x")
    with pytest.raises(ScheddError, match=r"'nobody@nowhere'.*@.*condor_status"):
        Schedd("nobody@nowhere").query("true")
    with pytest.raises(ScheddError, match=r"127\.0\.0\.1:9\b.*condor_status -pool 127"):
        Schedd("x", "127.0.0.1:9").query("true")


@contextlib.contextmanager
def _reconfigured(pool: Any, settings: str) -> Iterator[None]:
    """Let the schedd have other settings for the length of the block."""
    config = Path(pool.config_file)
    before = config.read_text()

    def write(text: str) -> None:
        config.write_text(text)
        subprocess.run(["condor_reconfig", "-schedd"], check=True, capture_output=True)
        time.sleep(0.5)  # no sign tells that it has

    write(f"{before}{settings}\n")
    try:
        yield
    finally:
        write(before)


def test_what_the_schedd_warns_of_is_logged(jobs: Jobs, pool: Any, caplog: Any) -> None:
    rule = "SUBMIT_REQUIREMENT_TEST"
    settings = (
        f"SUBMIT_REQUIREMENT_NAMES = TEST\n{rule} = false\n{rule}_IS_WARNING = true\n"
        f'{rule}_REASON = "please ask for less"'
    )
    with _reconfigured(pool, settings):
        jobs.submit("true", "requirements = false")
    assert "please ask for less" in caplog.text


def test_why_the_schedd_refuses_jobs_is_told(jobs: Jobs, pool: Any) -> None:
    rule = "SUBMIT_REQUIREMENT_TEST"
    settings = (
        f'SUBMIT_REQUIREMENT_NAMES = TEST\n{rule} = false\n{rule}_REASON = "no project is set"'
    )
    with _reconfigured(pool, settings):
        refused = pytest.raises(ScheddError, match="no project is set")
        with refused:
            jobs.submit("true", "requirements = false")


def _own_name() -> str:
    said = subprocess.run(
        ["condor_status", "-schedd", "-af", "Name"], capture_output=True, text=True, check=True
    )
    return said.stdout.strip()


def _collector() -> str:
    said = subprocess.run(
        ["condor_config_val", "COLLECTOR_HOST"], capture_output=True, text=True, check=True
    )
    return said.stdout.strip()


@pytest.mark.parametrize(
    "named",
    [
        lambda: (_own_name(), None),
        lambda: (_own_name(), _collector()),
        lambda: (None, _collector()),
    ],
    ids=["name", "name and pool", "pool"],
)
def test_a_named_schedd_takes_the_jobs_with_their_files(
    jobs: Jobs, tmp_path: Path, named: Any
) -> None:
    (tmp_path / "data").write_text("from far away\n")
    jobs.schedd = Schedd(*named())
    cluster = jobs.submit(
        "cat data; echo more > result", f"transfer_input_files = {tmp_path}/data",
        "transfer_output_files = result", "log = spooled.log", f"initialdir = {tmp_path}",
        "output = far.out", spool=True,
    )  # fmt: skip
    this = f"ClusterId == {cluster}"
    table = JobTable()

    def ended() -> bool:
        table.update(jobs.schedd.query(this, QUEUE_ATTRIBUTES), asked=time.time())
        job = table.get(f"{cluster}.0")
        assert job is None or job.state != "held", job
        return job is not None and job.state == "ended"

    helpers.wait_until(ended, timeout=60)
    assert next(iter(table)).exit_status == 0
    jobs.schedd.retrieve(this)
    assert (tmp_path / "far.out").read_text() == "from far away\n"
    assert (tmp_path / "result").read_text() == "more\n"


def test_jobs_whose_files_cannot_be_sent_are_not_left_behind(
    jobs: Jobs, tmp_path: Path
) -> None:
    mark = f"test-{os.getpid()}"
    with pytest.raises(ScheddError, match="cannot send the files of cluster"):
        jobs.submit(
            "true", f"transfer_input_files = {tmp_path}/nothing", f'My.TestMark = "{mark}"',
            spool=True,
        )  # fmt: skip
    helpers.wait_until(lambda: not jobs.schedd.query(f'TestMark == "{mark}"', ["ClusterId"]))


# The event log, by hand

HELD = """\
012 (002.000.000) 2026-11-21 11:43:39 Job was held.
\tno file
\tCode 13 Subcode 2
...
"""
RELEASED = """\
013 (002.000.000) 2026-11-21 11:43:40 Job was released.
\tgo on
...
"""


@pytest.fixture
def log(pool: Any, tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as made:
        yield made


def _types(log: EventLog) -> list[str]:
    return [event.type for event in log.read()]


def _append(log: EventLog, text: str) -> None:
    with open(log.path, "a") as file:
        file.write(text)


def test_a_log_that_is_not_there_yet_is_empty(log: EventLog) -> None:
    assert log.read() == []
    assert EventLog(f"{log.path}/directory/missing").read() == []
    _append(log, HELD)
    (event,) = log.read()
    assert (event.type, event.cluster, event.proc) == ("JOB_HELD", 2, 0)
    assert (event.reason, event.code, event.subcode) == ("no file", 13, 2)
    assert log.read() == []


def test_events_are_the_same_however_their_bytes_arrive(log: EventLog) -> None:
    found = []
    for byte in (HELD + RELEASED) * 2:
        _append(log, byte)
        found += _types(log)
    assert found == ["JOB_HELD", "JOB_RELEASED"] * 2


def test_half_an_event_does_not_keep_the_reader(log: EventLog) -> None:
    _append(log, HELD + RELEASED[:40])
    start = time.monotonic()
    for _ in range(20):
        log.read()
    assert time.monotonic() - start < 5


def test_a_rotated_log_is_read_to_its_end_and_then_the_new_one(log: EventLog) -> None:
    _append(log, HELD)
    assert _types(log) == ["JOB_HELD"]
    _append(log, HELD)
    os.rename(log.path, log.path + ".old")
    assert _types(log) == ["JOB_HELD"]  # the new one is not there yet
    assert _types(log) == []
    with open(log.path + ".old", "a") as file:
        file.write(RELEASED)
    _append(log, RELEASED + HELD)
    assert _types(log) == ["JOB_RELEASED", "JOB_RELEASED", "JOB_HELD"]
    assert _types(log) == []


@pytest.mark.parametrize("new", [RELEASED, RELEASED * 3], ids=["shorter", "longer"])
def test_a_truncated_log_is_read_anew(log: EventLog, new: str) -> None:
    _append(log, HELD * 2)
    assert len(log.read()) == 2
    Path(log.path).write_text(new)
    assert _types(log) == ["JOB_RELEASED"] * (len(new) // len(RELEASED))
    _append(log, HELD)
    assert _types(log) == ["JOB_HELD"]


def test_a_log_that_was_closed_goes_on_where_it_was(log: EventLog) -> None:
    _append(log, HELD)
    assert _types(log) == ["JOB_HELD"]
    log.close()
    assert _types(log) == []
    _append(log, RELEASED)
    assert _types(log) == ["JOB_RELEASED"]


@pytest.mark.parametrize(
    "damage",
    [
        *(HELD[:length] for length in (2, 30, 52, 60, 70, len(HELD) - 4)),  # writer killed
        "\0\0\0\0\n...\n",  # a disk that was full
        "...\n...\n",
        "012 (002.000.000) yesterday Job was held.\n...\n",
        "777 (002.000.000) 2026-11-21 11:43:40 Of a later HTCondor.\n\twhat\n...\n",
    ],
)
def test_a_damaged_event_costs_no_other(log: EventLog, damage: str) -> None:
    _append(log, RELEASED + damage + HELD + RELEASED)
    events = [event for event in log.read() if event.type.startswith("JOB")]
    assert [(event.type, event.reason, event.code) for event in events] == [
        ("JOB_RELEASED", "go on", None),
        ("JOB_HELD", "no file", 13),
        ("JOB_RELEASED", "go on", None),
    ]


@pytest.mark.parametrize(
    "stamp", ["{:%Y-%m-%d %H:%M:%S}", "{:%Y-%m-%d %H:%M:%S.123}", "{:%m/%d %H:%M:%S}", "utc"]
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_times_are_right_in_every_format_and_zone(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, stamp: str, zone: str
) -> None:
    from datetime import datetime, timezone

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        now = int(time.time()) - 100
        text = (
            f"{datetime.fromtimestamp(now, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
            if stamp == "utc"
            else stamp.format(datetime.fromtimestamp(now))
        )
        _append(log, RELEASED.replace("2026-11-21 11:43:40", text))
        (event,) = log.read()
        assert int(event.time) == now
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_file_that_is_no_log_is_refused(log: EventLog) -> None:
    with open(log.path, "wb") as file:
        file.truncate(40 << 20)
    with pytest.raises(SettingError, match=naming(log.path)):
        log.read()


def test_a_log_that_may_not_be_read_is_named(log: EventLog) -> None:
    _append(log, HELD)
    os.chmod(log.path, 0)
    with pytest.raises(SettingError, match=naming(log.path, "Permission denied")):
        log.read()
    os.chmod(log.path, 0o600)
    assert _types(log) == ["JOB_HELD"]


@pytest.mark.alone
def test_ten_thousand_events_are_read_in_a_second(log: EventLog) -> None:
    _append(log, (HELD + RELEASED) * 5000)
    start = time.process_time()
    assert len(log.read()) == 10_000
    assert time.process_time() - start < 5  # 0.5 s on an idle machine


@pytest.mark.parametrize("options", ["UTC, SUB_SECOND", "LEGACY"])
def test_the_log_is_read_in_each_of_htcondors_formats(
    jobs: Jobs, pool: Any, options: str
) -> None:
    with _reconfigured(pool, f"DEFAULT_USERLOG_FORMAT_OPTIONS = {options}"):
        cluster = jobs.submit("exit 3")
        job = jobs.wait(cluster, "ended")
    wanted = {"UTC, SUB_SECOND": "Z Job", "LEGACY": "/"}[options]
    text = Path(jobs.log.path).read_text()
    assert wanted in text, text
    assert (job.exit_status, job.host, job.starts) == (3, "localhost", 1)
    assert abs(job.since - time.time()) < 60


def test_a_log_in_xml_is_refused(jobs: Jobs) -> None:
    jobs.submit("true", "log_xml = true")
    helpers.wait_until(lambda: os.path.exists(jobs.log.path) and os.stat(jobs.log.path).st_size)
    with pytest.raises(SettingError, match=naming("log_xml")):
        jobs.cycle()


def test_the_last_event_ends_where_a_line_does() -> None:
    end = event_log._end_of_last_event
    assert end(b"") == end(b"012 ...\nno end") == 0
    assert end(b"a\n...\nb ...\n") == 6
    assert end(b"...\n") == 4
    assert end(b"...\n....\n") == 4
