"""Worker jobs on a real execute point: what travels, what they are told, what holds them."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from vine_sharedport.bundle.package import PACKAGE, write_package
from vine_sharedport.bundle.worker_program import find_program
from vine_sharedport.condor.event_log import EventLog
from vine_sharedport.condor.schedd import Schedd
from vine_sharedport.condor.worker_job.options import WorkerOptions
from vine_sharedport.condor.worker_job.submit import describe_workers
from vine_sharedport.registry.run_file import running_managers

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")


@pytest.fixture
def probe(tmp_path: Path) -> str:
    """Return a worker that tells what it was started with, and ends."""
    path = tmp_path / "probe"
    path.write_text(
        textwrap.dedent(
            """\
            #!/bin/sh
            [ "$1" != --version ] || exec echo "probe version 1.0.0"
            echo "OPTIONS $*"
            sed 's/^/JOB /' "$_CONDOR_JOB_AD"
            ls -l | sed 's/^/FILE /'
            """
        )
    )
    path.chmod(0o755)
    return str(path)


def _output(jobs: Any) -> str:
    """Return what the only job printed, when it has ended."""
    helpers.wait_until(lambda: jobs.status().ended, timeout=60)
    directory = Path(jobs.directory)
    return "".join(
        (directory / f"{jobs.cluster}.0.{what}").read_text() for what in ("out", "err")
    )


def test_the_jobs_worker_is_the_stock_program_with_the_shim(manager: Any) -> None:
    look = "env; cat /proc/$PPID/comm; grep -o libvine_sharedport.so /proc/$PPID/maps"
    with vine.submit_workers(manager, 1, cores=1, memory=200, disk=500):
        (task,) = helpers.run_tasks(manager, [vine.Task(look)])
    lines = task.output.splitlines()
    assert "vine_worker" in lines
    assert "libvine_sharedport.so" in lines
    assert "VINE_SHAREDPORT" not in task.output
    assert "LD_PRELOAD" not in task.output
    assert manager.shared_port.accepted(task.addrport)


@pytest.mark.parametrize(
    ("command", "value", "line", "limit"),
    [
        ("allowed_execute_duration", 3600, "AllowedExecuteDuration = 3600", 3600),
        ("allowed_job_duration", 3600, "AllowedJobDuration = 3600", 3600),
        ("+JobDurationCategory", '"Medium"', 'JobDurationCategory = "Medium"', 72000),
        ("My.JobDurationCategory", '"Long"', 'JobDurationCategory = "Long"', 144000),
    ],
)
def test_a_jobs_limit_is_in_its_ad_and_becomes_the_workers(
    manager: Any, probe: str, command: str, value: str | int, line: str, limit: int
) -> None:
    with vine.submit_workers(
        manager, 1, worker_binary=probe, commands={command: value}
    ) as jobs:
        output = _output(jobs)
    assert f"JOB {line}\n" in output
    match = re.search(r"OPTIONS .*--wall-time (\d+)", output)
    assert match, output
    assert limit * 0.85 < int(match[1]) < limit


def test_a_reference_is_enough_for_workers_of_a_manager_with_a_password(
    manager: Any, tmp_path: Path
) -> None:
    file = tmp_path / "the password"
    file.write_text("open sesame")
    manager.set_password_file(str(file))
    reference = manager.shared_port.reference
    assert reference.password_file == str(file)
    assert f"--password '{file}'" in manager.shared_port.worker_command
    assert [reference] == running_managers("taskvine", reference.directory)
    with vine.submit_workers(reference, 1, cores=1, memory=200, disk=500) as jobs:
        (task,) = helpers.run_tasks(manager, [vine.Task("echo done")])
    assert task.output == "done\n"
    assert Path(jobs.directory).parent == Path(manager.logging_directory)


def test_without_a_limit_the_worker_gets_none(manager: Any, probe: str) -> None:
    with vine.submit_workers(manager, 1, worker_binary=probe) as jobs:
        output = _output(jobs)
    assert "OPTIONS " in output
    assert "--wall-time" not in output


def test_the_secret_stays_private_on_the_execute_point(manager: Any, probe: str) -> None:
    with vine.submit_workers(manager, 1, worker_binary=probe) as jobs:
        output = _output(jobs)
    name = Path(manager.shared_port.secret_file).name
    assert re.search(rf"FILE -rw-------.*{re.escape(name)}", output), output
    assert re.search(r"FILE .*libvine_sharedport\.so", output)


def test_the_workers_options_and_variables_arrive_byte_for_byte(
    manager: Any, tmp_path: Path
) -> None:
    program = tmp_path / "tell"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "$TOLD"\n')
    program.chmod(0o755)
    options = ["$$(X)", "$(X)", "$ENV(HOME)", 'it\'s "here"', "$$([1+1])"]
    job = describe_workers(
        manager.shared_port.reference, str(tmp_path),
        WorkerOptions.of(
            worker_binary=str(program), extra_options=options, env={"TOLD": "$$(X) $(X)"}
        ),
    )  # fmt: skip
    write_package(str(tmp_path / PACKAGE))
    schedd = Schedd()
    cluster = schedd.submit(job)
    try:
        helpers.wait_until(
            lambda: not schedd.query(f"ClusterId == {cluster}", ["ClusterId"]), timeout=60
        )
    finally:
        schedd.act("remove", f"ClusterId == {cluster}", "the test has ended")
    lines = (tmp_path / f"{cluster}.0.out").read_text().splitlines()
    found = lines.index(options[0])
    assert lines[found : found + len(options)] == options
    assert "$$(X) $(X)" in lines


def test_removed_jobs_tell_who_removed_them(manager: Any, probe: str) -> None:
    commands = {"requirements": "false"}
    with vine.submit_workers(manager, 1, worker_binary=probe, commands=commands) as jobs:
        pass
    with EventLog(Path(jobs.directory) / "workers.log") as log:
        (removed,) = [event for event in log.read() if event.type == "JOB_ABORTED"]
    assert "removed by vine_sharedport" in str(removed.reason)


@pytest.mark.parametrize("name", [None, "workers-of-wq"])
def test_work_queues_workers_have_their_directory_beside_its_log(
    pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    from vine_sharedport import work_queue

    monkeypatch.chdir(tmp_path)
    manager = work_queue.WorkQueue(0, shared_port=vine.SharedPort(name=name))
    try:
        with vine.submit_workers(manager, 1, commands={"requirements": "false"}) as jobs:
            assert Path(jobs.directory).parent == Path(manager.shared_port.log_file).parent
            assert (Path(jobs.directory) / "workers.log").exists()
        assert os.listdir(tmp_path) == ["work-queue-run-info"]
    finally:
        manager._free()


def test_a_python_environment_travels_and_is_active_for_tasks(
    manager: Any, tmp_path: Path
) -> None:
    path = tmp_path / "env.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        content = b"#!/bin/sh\necho from the environment\n"
        member = tarfile.TarInfo("bin/only-there")
        member.mode, member.size = 0o755, len(content)
        archive.addfile(member, io.BytesIO(content))
    with vine.submit_workers(manager, 1, python_env=str(path)):
        (task,) = helpers.run_tasks(manager, [vine.Task("only-there; env")])
    assert task.output.startswith("from the environment\n")
    assert "VINE_SHAREDPORT" not in task.output


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ("osdf:///ospool/images/vine-7.14.sif", "HasSIF"),
        ("docker://example.org/vine:7.14", "HasDockerURL"),
        ("/cvmfs/images/vine", "HasSandboxImage"),
    ],
)
def test_htcondor_takes_container_images_as_they_are(
    manager: Any, image: str, kind: str
) -> None:
    """No container runtime is here, so the job waits for a machine that has one."""
    import htcondor2

    with vine.submit_workers(manager, 1, container_image=image) as jobs:
        (ad,) = htcondor2.Schedd().query(f"ClusterId == {jobs.cluster}")
        # What HTCondor fetches lies beside the job, under its own name.
        told = (ad["ContainerImage"], ad.get("ContainerImageFullPath"))
        assert image in (*told, *str(ad.get("TransferInput")).split(","))
        assert ad.get("TransferExecutable", True) is True
        assert ad["Cmd"].endswith("launcher.sh")
        assert kind in str(ad.lookup("Requirements"))
        assert "HasContainer" in str(ad.lookup("Requirements"))
        assert image not in str(ad.get("Environment"))


def test_a_worker_of_the_image_alone_is_named_and_not_sent(
    manager: Any, tmp_path: Path
) -> None:
    job = describe_workers(
        manager.shared_port.reference, str(tmp_path),
        WorkerOptions.of(
            worker_binary="/opt/vine/bin/vine_worker",
            container_image="docker://example.org/vine:7.14",
        ),
    )  # fmt: skip
    assert job.arguments[0] == "/opt/vine/bin/vine_worker"
    assert not [path for path in job.inputs if "vine_worker" in path]


def test_no_warning_where_the_pools_machines_are_new_enough(
    manager: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # A program that nobody was told of yet.
    worker = shutil.copy(find_program("vine_worker", option="worker_binary="), tmp_path)
    with caplog.at_level("INFO"), vine.submit_workers(manager, 1, worker_binary=str(worker)):
        pass
    assert re.search(r"the worker \S*vine_worker needs \w+ and glibc 2\.\d+", caplog.text)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_machines_with_an_older_glibc_are_told_and_not_left_out(tmp_path: Path) -> None:
    """In a pool of its own, whose only machine tells the system of the OSPool's glideins."""
    program = textwrap.dedent(
        """
        import vine_sharedport as vine
        tell = {
            "OSGVO_OS_NAME": '"RHEL"',
            "OSGVO_OS_VERSION": '"7"',
            "STARTD_ATTRS": "OSGVO_OS_NAME, OSGVO_OS_VERSION",
        }
        with vine.PersonalPool(config=tell):
            m = vine.Manager(0, shared_port=True)
            m.submit(vine.Task("echo done"))
            with vine.submit_workers(m), vine.submit_workers(m):
                print(m.wait(60).output)
        """
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=tmp_path, env=dict(os.environ, PYTHONPATH=str(helpers.ROOT)),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.stdout.strip() == "done", result.stderr
    told = "1 of the pool's 1 slots have an older one (RHEL 7: glibc 2.17)"
    assert result.stderr.count(told) == 1  # once for a program, not at each submission
