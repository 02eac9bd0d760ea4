"""The parts of the factory's work that need no pool."""

from __future__ import annotations

import os
import re
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import vine_sharedport
from tests.values import naming
from vine_sharedport.bundle.package import launcher_path
from vine_sharedport.condor.event_log import Event
from vine_sharedport.errors import (
    DialError,
    ExitStatus,
    OptionError,
    ScheddError,
    SettingError,
    Verdict,
)
from vine_sharedport.factory.jobs.description import WRAPPED, describe, lease_time
from vine_sharedport.factory.jobs.failure_backoff import Brake
from vine_sharedport.factory.jobs.job import Job
from vine_sharedport.factory.jobs.ledger import Account
from vine_sharedport.factory.jobs.queue import Queue, _constraints
from vine_sharedport.factory.jobs.removal import Removal
from vine_sharedport.factory.jobs.table import JobTable
from vine_sharedport.factory.loop import Loop
from vine_sharedport.factory.manager_view.lookup import default_directory
from vine_sharedport.factory.manager_view.monitor import ManagerView, says_nobody_there
from vine_sharedport.factory.options.schema import ALIASES, KINDS, Kind, Options
from vine_sharedport.factory.process import owner_process
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.report.phase import Phase
from vine_sharedport.factory.submission.destination import Where
from vine_sharedport.factory.submission.location import Place
from vine_sharedport.registry.reference import Reference
from vine_sharedport.wire.sinful import Sinful

from .fake_schedd import evaluate

ADDRESS = "<192.0.2.7:9618?sock=vine_42>"


@pytest.fixture
def worker(tmp_path: Path) -> str:
    path = tmp_path / "bin" / "vine_worker"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def described(tmp_path: Path, worker: str, **values: Any) -> Any:
    options = Options.make({"address": ADDRESS, "worker_binary": worker, **values})
    return describe(options, str(tmp_path), factory="f" * 32, now=1000.0)


def commands(tmp_path: Path, worker: str, **values: Any) -> Any:
    return described(tmp_path, worker, **values).job.commands


# --- the description


def test_jobs_carry_the_marks_and_a_lease(tmp_path: Path, worker: str) -> None:
    found = commands(tmp_path, worker)
    assert found["+VineSharedPort"] == '"vine_42"'
    assert found["+VineSharedPortFactory"] == f'"{"f" * 32}"'
    lease = lease_time()
    assert found["+VineSharedPortLease"] == str(1000 + lease)
    rule = found["periodic_remove"]

    def removed(status: int, lease_left: int, in_state: int) -> Any:
        now = int(time.time())
        ad = {
            "JobStatus": status,
            "VineSharedPortLease": now + lease_left,
            "EnteredCurrentStatus": now - in_state,
        }
        return evaluate(rule, ad)

    assert removed(1, -10, 1000) is True
    assert removed(5, -10, 1000) is True
    for at_work in (2, 6, 7):  # running, transferring output, suspended
        assert removed(at_work, -10, 1000) is False, "a worker at work ends by itself"
    assert removed(1, +10, 1000) is False, "renewed"
    assert removed(1, -10, lease - 5) is False, "just evicted: its factory may renew it"


def test_a_users_own_rule_of_removal_stays(tmp_path: Path, worker: str) -> None:
    found = commands(tmp_path, worker, commands={"periodic_remove": "NumJobStarts > 3"})
    assert found["periodic_remove"].startswith("(NumJobStarts > 3) || ((JobStatus")


@pytest.mark.parametrize("grid", ["batch slurm", "ce h", "condor s c"])
def test_a_grid_job_has_no_lease_that_its_gridmanager_would_not_see_renewed(
    tmp_path: Path, worker: str, grid: str
) -> None:
    assert "periodic_remove" not in commands(tmp_path, worker, grid=grid)
    own = {"periodic_remove": "NumJobStarts > 3"}
    found = commands(tmp_path, worker, grid=grid, commands=own)
    assert found["periodic_remove"] == own["periodic_remove"]


def test_the_marks_cannot_be_taken_away(tmp_path: Path, worker: str) -> None:
    found = commands(tmp_path, worker, commands={"+VineSharedPortFactory": '"mine"'})
    assert found["My.VineSharedPortFactory"] == f'"{"f" * 32}"'


def test_all_requirements_must_hold(tmp_path: Path, worker: str) -> None:
    found = commands(
        tmp_path, worker, condor_requirements=["A > 1 || B", "C"],
        batch_options="requirements = D || E", workers_blocked="n1.example.org n2",
    )  # fmt: skip
    assert found["requirements"] == (
        "(D || E) && ((A > 1 || B) && (C)) && "
        '(TARGET.Machine =!= "n1.example.org") && (TARGET.Machine =!= "n2")'
    )


def test_every_option_of_a_worker_gets_to_it(tmp_path: Path, worker: str) -> None:
    job = described(
        tmp_path, worker, cores=2, memory=300, disk=400, gpus=1, timeout=77, ssl=True,
        tls_sni="host", single_shot=True, transfer_port="10:20", task_wrapper="nice -n 5",
        factory_name="mine", feature=["x", "y"], extra_options="--wall-time 5 'a b'",
        env={"A": "1"}, debug_workers=True, system="work_queue",
    ).job  # fmt: skip
    found = job.commands
    assert job.arguments == (
        "vine_worker", "--cores", "2", "--memory", "300", "--disk", "400", "--timeout", "77",
        "--ssl", "--tls-sni", "host", "--gpus", "1", "--single-shot",
        "--transfer-port", "10:20", "--task-wrapper", "nice -n 5", "--from-factory", "mine",
        "--feature", "x", "--feature", "y", "-d", "all", "-o", "worker.debug",
        "--wall-time", "5", "a b",
    )  # fmt: skip
    assert job.environment == {"A": "1", "VINE_SHAREDPORT_ADDRESS": ADDRESS}
    assert found["request_gpus"] == "1"
    assert found["request_disk"] == str(400 * 1024)
    assert found["transfer_output_files"] == "worker.debug"
    assert str(tmp_path) in found["transfer_output_remaps"]


def test_autosize_asks_for_whole_slots(tmp_path: Path, worker: str) -> None:
    job = described(tmp_path, worker, autosize=True, cores=2).job
    assert job.commands["request_cpus"] == "ifThenElse(2 > TotalSlotCpus, 2, TotalSlotCpus)"
    # HTCondor fills it in at the match; the last one counts.
    assert "'--cores' $$(Cpus) '--memory' $$(Memory)" in job.format()
    own = {"request_cpus": 9}
    assert commands(tmp_path, worker, autosize=True, commands=own)["request_cpus"] == "9"


def test_variables_and_files_of_the_users_commands_are_added_to_ours(
    tmp_path: Path, worker: str
) -> None:
    job = described(
        tmp_path, worker, commands={"env": '"A=2 B=$(C)"'}, env={"A": "1"},
        batch_options="transfer_input_files = /more",
    ).job  # fmt: skip
    assert job.environment == {"A": "1", "B": "$(C)", "VINE_SHAREDPORT_ADDRESS": ADDRESS}
    assert {worker, "/more"} <= {*job.inputs}


@pytest.mark.parametrize("grid", ["batch slurm", "ce h"])
def test_describing_writes_no_file(tmp_path: Path, worker: str, grid: str) -> None:
    made = described(tmp_path / "none", worker, grid=grid)
    assert {f"{tmp_path}/none/{name}" for name in made.files} <= {*made.job.inputs}
    assert f"{ADDRESS}\n" in made.files.values()
    assert not (tmp_path / "none").exists()


def test_the_launcher_travels_into_an_image_named_by_a_command(
    tmp_path: Path, worker: str
) -> None:
    image = {"container_image": "docker://library/debian:13"}
    assert commands(tmp_path, worker, commands=image)["transfer_executable"] == "true"


def test_a_wrapper_is_the_jobs_program_and_the_launcher_travels(
    tmp_path: Path, worker: str
) -> None:
    made = described(tmp_path, worker, wrapper="nice -n 5")
    assert made.job.commands["executable"] == str(tmp_path / WRAPPED)
    assert made.files[WRAPPED] == '#!/bin/sh\nexec nice -n 5 /bin/sh ./launcher.sh "$@"\n'
    assert launcher_path() in made.job.inputs


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"address": None}, ("manager=", "address=")),
        ({"batch_options": "rank Memory"}, ("batch_options", "'rank Memory'")),
        ({"extra_options": "'open"}, ("extra_options",)),
        ({"worker_binary": "/none"}, ("'/none'", "worker_binary=")),
        ({"preset": "nowhere"}, ("'nowhere'", "ospool")),
        ({"wrapper_input": "/none"}, ("/none",)),
    ],
)
def test_what_cannot_be_submitted_is_refused(
    tmp_path: Path, worker: str, values: dict[str, Any], found: tuple[str, ...]
) -> None:
    with pytest.raises(SettingError, match=naming(*found)):
        described(tmp_path, worker, **values)


# --- the brake


def ended(number: int, status: int | None) -> Job:
    return Job(1, number, state="ended", exit_status=status)


def test_one_bad_machine_does_not_stop_anything() -> None:
    brake = Brake()
    brake.look([ended(0, 127), ended(1, 75)], set(), 0.0)
    assert brake.pause(0.0) == 0
    assert brake.at_most(10) == 10


def test_failures_in_a_row_lead_to_longer_and_longer_pauses() -> None:
    brake = Brake()
    pauses = []
    now = 0.0
    for number in range(12):
        brake.look([ended(n, 77) for n in range(number + 1)], set(), now)
        pauses.append(brake.pause(now))
        now += pauses[-1]
    assert pauses[:2] == [0, 0]
    assert pauses[2:5] == [15, 30, 60]
    assert pauses[-1] == 900
    assert brake.at_most(10) == 1, "one, to see whether it works"
    connected = Job(2, 0, state="running", connected=True)
    brake.look([connected], set(), now)
    assert (brake.pause(now), brake.at_most(10), brake.failures) == (0, 10, 0)


def test_workers_that_did_work_or_were_not_needed_are_no_failures() -> None:
    brake = Brake()
    jobs = [ended(n, 0) for n in range(5)] + [ended(n, 1) for n in range(5, 10)]
    brake.look(jobs, {f"1.{n}" for n in range(5, 10)}, 0.0)
    removed = [Job(2, n, state="removed") for n in range(5)]
    brake.look(removed, set(), 0.0)
    assert brake.failures == 0


def test_a_job_that_gets_an_old_id_is_looked_at_anew() -> None:
    brake = Brake()
    brake.look([ended(0, 77)], set(), 0.0)
    brake.look([ended(0, 77)], set(), 0.0)
    assert brake.failures == 1
    brake.forget("1.0")
    brake.look([ended(0, 77)], set(), 0.0)
    assert brake.failures == 2


def test_the_launchers_exit_statuses_are_all_explained() -> None:
    text = Path(launcher_path()).read_text()
    used = {int(number) for number in re.findall(r"\bfail (\d+) ", text)}
    assert used
    assert used <= set(ExitStatus)
    assert {75, 77, 78, 127} <= set(ExitStatus)
    account = Account(JobTable(), "/none", lambda: 60)
    for status in used:
        assert account.why(ended(0, status), 0.0) == ExitStatus(status).meaning
    assert "status 1" in str(account.why(ended(0, 1), 0.0))


# --- the directory


def test_a_directory_has_one_factory_at_a_time_and_one_id(tmp_path: Path) -> None:
    directory = str(tmp_path)
    assert paths.is_running(directory) is None
    lock = paths.lock_directory(directory)
    assert lock is not None
    try:
        assert paths.is_running(directory) is True
        assert paths.lock_directory(directory) is None
    finally:
        os.close(lock)
    assert paths.is_running(directory) is False
    first = paths.factory_id(directory)
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert paths.factory_id(directory) == first
    (tmp_path / "factory.id").write_text('" || true')
    # With another id the jobs that are there would be others'.
    with pytest.raises(SettingError, match=r"factory\.id.* condor_rm"):
        paths.factory_id(directory)


def test_the_default_directory_is_the_same_again_unless_it_is_in_use(tmp_path: Path) -> None:
    first = default_directory(str(tmp_path), "sweep")
    assert first == str(tmp_path / "vine-factory-sweep")
    os.mkdir(first)
    lock = paths.lock_directory(first)
    assert lock is not None
    try:
        assert default_directory(str(tmp_path), "sweep") == first + "-2"
    finally:
        os.close(lock)
    assert default_directory(str(tmp_path), "sweep") == first


@pytest.mark.true_uid
def test_only_one_factory_of_a_manager_submits_at_a_time() -> None:
    name = f"test_{uuid.uuid4().hex}"
    with paths.manager_lock(name) as first:
        assert first is True
        with paths.manager_lock(name) as second:
            assert second is False
        with paths.manager_lock(name + "x") as other:
            assert other is True
    with paths.manager_lock(name) as again:
        assert again is True


# --- the manager's end


@pytest.mark.parametrize(
    ("verdict", "address", "nobody"),
    [
        (Verdict.NOBODY_THERE, ADDRESS, True),
        (Verdict.UNANSWERED, ADDRESS, True),
        (Verdict.CONNECTION_REFUSED, ADDRESS, False),
        (Verdict.TIMED_OUT, ADDRESS, False),
        (Verdict.CONNECTION_REFUSED, None, True),
        (Verdict.UNANSWERED, None, False),
    ],
)
def test_a_busy_manager_or_a_restart_of_htcondor_is_no_end(
    verdict: Verdict, address: str | None, nobody: bool
) -> None:
    place = Reference(Sinful.parse(address or "<192.0.2.7:1>"))
    assert says_nobody_there(DialError("x", verdict), place) is nobody


@pytest.mark.parametrize(
    ("answered", "gone", "error", "owner", "factory_timeout", "end"),
    [
        (1, None, None, False, 5, None),
        (50, None, "busy", False, 0, None),
        (50, None, "busy", False, 40, Phase.NO_MANAGER),
        (50, 10, "nobody", False, 0, None),
        (50, 25, "nobody", False, 0, Phase.MANAGER_ENDED),
        (150, 100, "nobody", True, 0, None),
        (150, 125, "nobody", True, 0, Phase.MANAGER_ENDED),
        (None, 500, "nobody", False, 0, None),  # not begun yet
        (None, 500, "nobody", False, 400, Phase.NO_MANAGER),
    ],
)
def test_it_ends_with_its_manager_and_not_while_that_is_busy(
    answered: float | None,
    gone: float | None,
    error: str | None,
    owner: bool,
    factory_timeout: int,
    end: Phase | None,
) -> None:
    now = time.monotonic()
    loop = Loop.__new__(Loop)
    loop._stop, loop._began = None, now - 600
    table = JobTable()
    table.apply([Event("SUBMIT", 1, 0, 1.0), Event("JOB_ABORTED", 1, 0, 2.0)])
    loop._queue = SimpleNamespace(table=table)  # type: ignore[assignment]
    loop._owner = owner_process() if owner else None
    options = Options.make({"factory_timeout": factory_timeout})
    loop._live = SimpleNamespace(now=options)  # type: ignore[assignment]
    view = ManagerView(
        answered=None if answered is None else now - answered,
        gone_since=None if gone is None else now - gone,
        error=error,
    )
    loop._watch = SimpleNamespace(view=view)  # type: ignore[assignment]
    reason = loop._reason_to_end()
    assert (reason and reason.phase) is end
    if end is Phase.NO_MANAGER:
        assert reason is not None
        assert f" {factory_timeout} s" in reason.message
    if answered is None and gone == 500 and not factory_timeout:
        table.apply([Event("SUBMIT", 2, 0, 3.0)])  # of a factory that was killed
        again = loop._reason_to_end()
        assert again is not None
        assert again.phase is Phase.MANAGER_ENDED


@pytest.mark.parametrize(
    ("answered", "error", "reason"),
    [
        (None, "busy", "unknown: the manager has not answered yet"),
        (300, "busy", "unknown: the manager has not answered for 300 s"),
        (1, None, None),
    ],
)
def test_of_a_job_that_a_busy_manager_may_know_nothing_is_said(
    tmp_path: Path, answered: float | None, error: str | None, reason: str | None
) -> None:
    seen = None if answered is None else time.monotonic() - answered
    account = Account(JobTable(), str(tmp_path), lambda: 60)
    account.look(ManagerView(answered=seen, error=error), time.monotonic())
    job = Job(1, 0, state="running", connected=None)
    assert account.why(job, time.time()) == reason


class AbsentSchedd:
    """A schedd that does nothing of what it is asked."""

    calls = 0

    def query(self, *_: Any) -> Any:
        self.calls += 1
        raise ScheddError("the schedd is not there")

    act = query


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """Return a queue at a schedd that is not there."""
    place = Place("m", Where(), "workers.log", 30)
    place.write(str(tmp_path))
    found = Queue(str(tmp_path), factory="f" * 32, place=place)
    found._schedd = AbsentSchedd()  # type: ignore[assignment]
    return found


def test_jobs_left_behind_are_looked_for_until_the_schedd_has_answered(queue: Queue) -> None:
    assert queue.remove_left_behind() is False
    assert queue.error == "the schedd is not there"
    queue._schedd = SimpleNamespace(query=lambda *_: [])  # type: ignore[assignment]
    assert queue.remove_left_behind() is True


def test_nobody_elses_job_can_name_what_is_removed(queue: Queue, tmp_path: Path) -> None:
    """Everybody may submit a job with the manager's public sock id, and any other text."""
    ended, living, other = "a" * 32, "b" * 32, "c" * 32
    for mark in (ended, living, other):
        directory = tmp_path / mark
        directory.mkdir()
        (directory / paths.LOCK).touch()
        (directory / "factory.id").write_text(mark)
    (tmp_path / other / "factory.id").write_text("d" * 32)  # another one has the directory
    evil = 'x" || true || "y'
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / paths.LOCK).touch()

    def ad(mark: str, directory: str) -> dict[str, str]:
        path = str(tmp_path / directory / "workers.log")
        return {"VineSharedPortFactory": mark, "UserLog": path}

    ads = [
        ad(ended, ended), ad(living, living), ad(other, other), ad(evil, "evil"),
        ad("e" * 32, "nowhere"), {"VineSharedPortFactory": "f" * 31 + "e", "UserLog": "a\0b"},
    ]  # fmt: skip
    removed: list[str] = []
    queue._schedd = SimpleNamespace(  # type: ignore[assignment]
        query=lambda *_: ads, act=lambda _, which, __: removed.append(which) or 1
    )
    lock = paths.lock_directory(str(tmp_path / living))
    assert lock is not None
    try:
        assert queue.remove_left_behind() is True
    finally:
        os.close(lock)
    assert removed == [f'VineSharedPortFactory =?= "{ended}"']


def test_jobs_of_others_with_the_managers_name_do_not_count(queue: Queue) -> None:
    import pwd

    me = pwd.getpwuid(os.getuid()).pw_name
    base = {"ProcId": 0, "JobStatus": 1, "QDate": 1, "EnteredCurrentStatus": 1}
    ads = [
        {**base, "ClusterId": 1, "Owner": me, "VineSharedPortFactory": "e" * 32},
        {**base, "ClusterId": 2, "Owner": "somebody"},
    ]
    queue._schedd = SimpleNamespace(query=lambda *_: ads)  # type: ignore[assignment]
    assert queue.ask()
    assert [job.id for job in queue.others] == ["1.0"]


def test_many_jobs_are_told_in_short_constraints() -> None:
    jobs = [Job(1, proc) for proc in range(30_000)] + [Job(2, 3), Job(2, 5)]
    (only,) = _constraints(reversed(jobs))
    assert only == (
        "((ClusterId == 1 && ProcId >= 0 && ProcId <= 29999) || "
        "(ClusterId == 2 && ProcId >= 3 && ProcId <= 3) || "
        "(ClusterId == 2 && ProcId >= 5 && ProcId <= 5))"
    )
    parts = _constraints(Job(1, 2 * proc) for proc in range(1000))
    assert sum(part.count("ClusterId") for part in parts) == 1000
    assert max(map(len, parts)) < 20_000


def test_a_factory_that_has_submitted_nothing_ends_at_once(tmp_path: Path) -> None:
    place = Place("m", Where(schedd="nobody"), None, 30)
    found = Queue(str(tmp_path), factory="f" * 32, place=place)
    found._schedd = AbsentSchedd()  # type: ignore[assignment]
    removal = Removal(found, "told to end")
    assert (removal.is_over, removal.is_done) == (True, True)
    assert not removal.remark


def test_the_end_is_soon_when_htcondors_configuration_has_gone(
    queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDOR_CONFIG", str(tmp_path / "gone"))
    monkeypatch.setattr("vine_sharedport.factory.jobs.removal._POOL_GONE_AFTER", 0.3)
    removal = Removal(queue, "told to end")
    began = time.monotonic()
    while not removal.is_over:
        removal.go_on()
    assert time.monotonic() - began < 10
    assert removal.is_done
    assert removal.remark == "HTCondor itself has ended, and its jobs with it"


def test_a_schedd_that_is_away_at_the_end_is_asked_less_and_less_and_told_of_once(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []
    now = [0.0]

    def wait(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=wait)
    monkeypatch.setattr("vine_sharedport.factory.jobs.removal.time", clock)
    monkeypatch.delenv("CONDOR_CONFIG", raising=False)
    queue.follow = lambda: None  # type: ignore[method-assign]
    removal = Removal(queue, "told to end")
    while not removal.is_over:
        removal.go_on()
    assert not removal.is_done
    assert "condor_rm -constraint 'VineSharedPortFactory =?= " in removal.remark
    assert (waits[0], waits[-1]) == (pytest.approx(0.3), 5.0)
    assert 1800 <= now[0] < 1810
    assert caplog.text.count("the schedd is not there") == 1


# --- other batch systems


def stock(tmp_path: Path, **options: Any) -> Any:
    pytest.importorskip("ndcctools.taskvine")
    reference = Reference(Sinful.parse(ADDRESS), directory=str(tmp_path))
    manager = SimpleNamespace(port=1234, shared_port=SimpleNamespace(reference=reference))
    factory = vine_sharedport.StockFactory("k8s", manager, **options)
    factory._config_file = "config"
    return factory


def test_the_stock_factory_gets_its_own_options_by_their_names(tmp_path: Path) -> None:
    there = str(tmp_path)
    line = stock(tmp_path, scratch_dir=there, k8s_image="vine")._construct_command_line()
    assert {f"--scratch-dir={there}", "--k8s-image=vine", "--wrapper=./launcher.sh"} <= {*line}
    line = stock(tmp_path, directory=there)._construct_command_line()
    assert f"--scratch-dir={there}" in line
    with pytest.raises(OptionError, match=naming("'k8s'", "spool", "'condor'")):
        stock(tmp_path, spool=True)
    with pytest.raises(OptionError, match=naming("max_workers")):
        stock(tmp_path, max_wrkers=1)


def test_a_wrapper_of_the_stock_factory_goes_around_the_launcher(tmp_path: Path) -> None:
    factory = stock(tmp_path, wrapper="nice")
    assert "--wrapper=nice ./launcher.sh" in factory._construct_command_line()
    factory.wrapper = "nice -n 5"
    for _ in range(2):
        assert "--wrapper=nice -n 5 ./launcher.sh" in factory._construct_command_line()
    assert factory.wrapper == "nice -n 5"


# --- the documentation


def test_the_documentation_has_each_option_once_with_what_becomes_of_it() -> None:
    text = (Path(__file__).parents[3] / "docs" / "factory.md").read_text()
    table = text.split("## Option by option")[1]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", table, re.MULTILINE)
    words = {
        Kind.SUPPORTED: "yes",
        Kind.CHANGEABLE: "changeable",
        Kind.MEANINGLESS: "without effect",
        Kind.REFUSED: "refused",
    }
    assert [(name, ours) for name, _, ours in rows] == [
        (name, words[kind]) for name, kind in KINDS.items()
    ]
    for name in ALIASES:
        assert name in ("master_name",) or f"`{name}`" in table
