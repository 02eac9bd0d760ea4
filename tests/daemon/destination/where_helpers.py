"""A pool with a second schedd, and workers submitted to any place, for the tests of it."""

from __future__ import annotations

import contextlib
import getpass
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vine_sharedport as vine
from tests.daemon.helpers import wait_until
from vine_sharedport.bundle.package import PACKAGE, write_package
from vine_sharedport.condor.submit_description import SubmitDescription
from vine_sharedport.condor.worker_job.options import WorkerOptions
from vine_sharedport.condor.worker_job.submit import describe_workers
from vine_sharedport.factory.jobs.table import JobTable
from vine_sharedport.factory.submission.destination import Destination

SECOND = "second@localhost"
PROJECT = "MyProject"

# All of a gridmanager's patience, in seconds. As they are by default, a Condor-C job takes
# half a minute to start.
_SWIFT = {
    "GRIDMANAGER_JOB_PROBE_INTERVAL": "1",
    "GRIDMANAGER_CONTACT_SCHEDD_DELAY": "1",
    "GRIDMANAGER_EMPTY_RESOURCE_DELAY": "1",
    "GRIDMANAGER_SELECTION_EXPR": "",
    "C_GAHP_CONTACT_SCHEDD_DELAY": "1",
    "CGAHP_SCHEDD_INTERACTION_TIME": "1",
}


_SLURM = {
    "sbatch": """\
#!/bin/sh
# Accept a job script, and run it at once in a session of its own, in the home directory.
cd "$(dirname "$0")" || exit 1
id=1
until mkdir "$id" 2>/dev/null; do id=$((id + 1)); done
cp "$1" "$id/script"
job=$PWD/$id
cd && setsid sh -c 'echo $$ >"$0/pid"; exec bash "$0/script"' "$job" >/dev/null 2>&1 &
echo "Submitted batch job $id"
""",
    "scancel": """\
#!/bin/sh
for id in "$@"; do :; done
kill -TERM -- "-$(cat "$(dirname "$0")/$id/pid")"
""",
    "squeue": """\
#!/bin/sh
echo JOBID STATE
cd "$(dirname "$0")" || exit 1
for pid in */pid; do
    ! kill -0 "$(cat "$pid")" || echo "${pid%/pid} RUNNING"
done
""",
}


def slurm_directory() -> Path:
    """Return where the tests' ``sbatch`` keeps its jobs, one directory each."""
    return Path(os.environ["BLAHPD_CONFIG_LOCATION"]).parent


@contextlib.contextmanager
def _slurm(directory: Path) -> Iterator[None]:
    """Make a Slurm that blahp finds: one node, at once, no accounting."""
    directory.mkdir()
    for name, text in _SLURM.items():
        path = directory / name
        path.write_text(text)
        path.chmod(0o755)
    system = Path("/etc/blah.config")
    text = system.read_text() if system.exists() else ""
    config = directory / "blah.config"
    config.write_text(f"{text}\nslurm_binpath={directory}\n")
    os.environ["BLAHPD_CONFIG_LOCATION"] = str(config)
    try:
        yield
    finally:
        del os.environ["BLAHPD_CONFIG_LOCATION"]


@contextlib.contextmanager
def pool_with_second_schedd() -> Iterator[vine.PersonalPool]:
    """Run a personal pool whose second schedd keeps its jobs in a place of its own."""
    with tempfile.TemporaryDirectory(prefix="vsp-where-") as directory:
        spool = f"{directory}/spool2"
        os.mkdir(spool)
        second = {
            "SCHEDD_NAME": SECOND,
            "SPOOL": spool,
            "HISTORY": f"{spool}/history",
            "JOB_QUEUE_LOG": f"{spool}/job_queue.log",
            "SCHEDD_LOG": "$(LOG)/SchedLog.second",
            "SCHEDD_ADDRESS_FILE": "$(LOG)/.schedd2_address",
            "SCHEDD_DAEMON_AD_FILE": "$(LOG)/.schedd2_classad",
        }
        config = {
            "DAEMON_LIST": "MASTER COLLECTOR NEGOTIATOR STARTD SCHEDD SCHEDD2",
            "SCHEDD2": "$(SCHEDD)",
            "SCHEDD2_ARGS": "-local-name second",
            **{f"SECOND.{name}": value for name, value in second.items()},
            **_SWIFT,
            "GRIDMANAGER_LOG": "$(LOG)/GridmanagerLog",
            "GRIDMANAGER_DEBUG": "D_FULLDEBUG",
            # By default all of a user's are in /tmp.
            "C_GAHP_LOG": "$(LOG)/CGAHPLog",
            "C_GAHP_LOCK": "$(LOCK)/CGAHPLock",
            "C_GAHP_WORKER_THREAD_LOG": "$(LOG)/CGAHPWorkerLog",
            "C_GAHP_WORKER_THREAD_LOCK": "$(LOCK)/CGAHPWorkerLock",
            # What FEATURE:AssignProjectName sets on an access point of the OSPool.
            "SCHEDD_CLASSAD_USER_MAP_NAMES": "ProjectMap",
            "CLASSAD_USER_MAPFILE_ProjectMap": f"{directory}/projects",
            "JOB_TRANSFORM_NAMES": "SetProjectName",
            "JOB_TRANSFORM_SetProjectName": (
                'EVALSET ProjectName usermap("ProjectMap",Owner,ProjectName)'
            ),
        }
        Path(directory, "projects").write_text(
            f"* nobody Other\n* {getpass.getuser()} {PROJECT}\n"
        )
        slurm = _slurm(Path(directory, "slurm"))
        with slurm, vine.PersonalPool(f"{directory}/p", config=config) as pool:
            wait_until(lambda: locate(SECOND))
            _keep_gridmanager()
            yield pool


def _keep_gridmanager() -> None:
    """Submit a job that never starts: a gridmanager without jobs ends.

    A new one takes 10 s until it has handed over its first job.
    """
    import htcondor2

    description = {
        "universe": "grid",
        "grid_resource": f"condor {SECOND} {htcondor2.param['COLLECTOR_HOST']}",
        "executable": "/bin/true",
        "My.remote_JobUniverse": "5",
        "My.remote_Requirements": "False",
        "My.KeepsGridmanager": "True",
    }
    htcondor2.Schedd().submit(htcondor2.Submit(description))


def second_jobs() -> list[Any]:
    """Return the second schedd's jobs."""
    return list(locate(SECOND).query("KeepsGridmanager =!= True"))


def locate(name: str | None) -> Any:
    """Return the schedd of this name, None while the collector knows none."""
    import htcondor2

    if name is None:
        return htcondor2.Schedd()
    try:
        ad = htcondor2.Collector().locate(htcondor2.DaemonType.Schedd, name)
    except Exception:  # the bindings' own, which differ between versions
        return None
    return None if ad is None else htcondor2.Schedd(ad)


@dataclass
class Submitted:
    """Worker jobs in a schedd's queue."""

    where: Destination
    schedd: Any
    cluster: int
    directory: Path
    description: SubmitDescription

    def ads(self) -> list[Any]:
        """Return what the schedd tells of the jobs."""
        return list(self.schedd.query(f"ClusterId == {self.cluster}"))

    def states(self) -> list[str]:
        """Return the jobs' states."""
        table = JobTable()
        table.update(self.ads(), asked=time.time())
        return [job.state for job in table]

    def events(self) -> list[int]:
        """Return the numbers of the events in the jobs' log."""
        import htcondor2

        log = self.directory / "workers.log"
        if not log.exists():
            return []
        with htcondor2.JobEventLog(str(log)) as events:
            return [int(event.type) for event in events.events(0)]

    def errors(self) -> str:
        """Return what the jobs' launchers said."""
        return "".join(path.read_text() for path in self.directory.glob("*.err"))

    def remove(self) -> None:
        """Remove the jobs and wait until they are gone."""
        import htcondor2

        constraint = f"ClusterId == {self.cluster}"
        self.schedd.act(htcondor2.JobAction.Remove, constraint, reason="test")
        until = time.monotonic() + 60
        while self.schedd.query(constraint, projection=["JobStatus"]):
            assert time.monotonic() < until, "the jobs stay in the queue"
            time.sleep(0.2)


@contextlib.contextmanager
def submitted(
    manager: Any, where: Destination, directory: Path, count: int = 1, **options: Any
) -> Iterator[Submitted]:
    """Submit workers to a place, for the length of the block."""
    import htcondor2

    directory.mkdir(exist_ok=True)
    options.setdefault("timeout", 60)
    described = describe_workers(
        manager.shared_port.reference, str(directory), WorkerOptions.of(**options)
    )
    files: dict[str, str] = {}
    description = where.adapt(described, str(directory), files)
    for name, text in files.items():
        (directory / name).write_text(text)
    write_package(str(directory / PACKAGE))
    schedd = locate(where.schedd)
    submit = htcondor2.Submit(description.format())
    result = schedd.submit(submit, count=count, spool=where.spool)
    if where.spool:
        schedd.spool(result)
    jobs = Submitted(where, schedd, int(result.cluster()), directory, description)
    try:
        yield jobs
    finally:
        jobs.remove()
