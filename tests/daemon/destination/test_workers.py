"""Workers in another place than the local pool, each with real daemons and a real manager."""

from __future__ import annotations

import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from vine_sharedport.factory.submission.destination import Destination

from . import where_helpers
from .where_helpers import SECOND, submitted

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")


@pytest.fixture(scope="module")
def pool() -> Iterator[Any]:
    """Return a pool with two schedds, instead of the other tests' pool."""
    with where_helpers.pool_with_second_schedd() as running:
        yield running


def _collector() -> str:
    import htcondor2

    return str(htcondor2.param["COLLECTOR_HOST"])


def _place(kind: str) -> Destination:
    return {
        "schedd": Destination(schedd=SECOND),
        "pool": Destination(schedd=SECOND, pool=_collector()),
        "spool": Destination(schedd=SECOND, spool=True),
        "condor": Destination(grid=f"condor {SECOND} {_collector()}"),
        "ce": Destination(grid="ce localhost"),
        "batch": Destination(grid="batch condor"),
    }[kind]


def _commands(kind: str) -> dict[str, str | int]:
    """Return the user's own commands, which put the second schedd in the CE's place.

    Only root's schedd can have its host's name, as a CE's has.
    """
    return {"grid_resource": f"condor {SECOND} {_collector()}"} if kind == "ce" else {}


@pytest.fixture
def probe(tmp_path: Path) -> str:
    """Return a worker that tells what it was started with, and ends."""
    path = tmp_path / "probe"
    path.write_text(
        textwrap.dedent(
            """\
            #!/bin/sh
            [ "$1" != --version ] || exec echo "probe version 1.0.0"
            printf OPTIONS; printf '[%s]' "$@"; echo
            printf 'VALUE %s\\n' "$VALUE"
            ls -l | sed 's/^/FILE /'
            """
        )
    )
    path.chmod(0o755)
    return str(path)


def _output(jobs: where_helpers.Submitted) -> str:
    """Return what the only job printed, when it has ended."""

    def ended() -> bool:
        return jobs.states() in (["ended"], [])

    helpers.wait_until(ended, timeout=90)
    if jobs.where.spool:
        jobs.schedd.retrieve(f"ClusterId == {jobs.cluster}")
    out = jobs.directory / f"{jobs.cluster}.0.out"
    helpers.wait_until(out.exists)
    return out.read_text()


@pytest.mark.parametrize("kind", ["spool", "condor", "ce", "batch"])
def test_what_a_worker_is_told_arrives_there(
    manager: Any, tmp_path: Path, probe: str, kind: str
) -> None:
    values = ["a  b,c;d%e:f<g>h?i=j#k[l]{m}~n|o*p^q@r+s", "", "'\"$HOME `$(x)` & \\ \u00e9"]
    variable = "a b,c;d%e:f<g>h=j#k]{m}~n|o^p@q+r\u00e9"
    description = {
        "worker_binary": probe,
        "extra_options": [word for value in values for word in ("--feature", value)],
        "env": {"VALUE": variable},
        "commands": {"+JobDurationCategory": '"Medium"', **_commands(kind)},
    }
    with submitted(manager, _place(kind), tmp_path / "jobs", **description) as jobs:
        output = _output(jobs)
        assert "".join(f"[--feature][{value}]" for value in values) in output
        assert f"VALUE {variable}\n" in output
        name = Path(manager.shared_port.secret_file).name
        assert re.search(rf"FILE -rw-------.*{re.escape(name)}", output), output
        assert f"manager {manager.shared_port.address.sock}" in jobs.errors()
    if kind != "batch":
        assert re.search(r"OPTIONS.*\[--wall-time\]\[\d{5}\]", output)


@pytest.mark.parametrize("kind", ["condor", "ce"])
def test_another_schedd_is_told_what_the_worker_needs(
    manager: Any, tmp_path: Path, kind: str
) -> None:
    commands = {"allowed_execute_duration": 7200, "request_gpus": 0, "batch_queue": "long"}
    commands.update(_commands(kind))
    if kind == "condor":
        del commands["batch_queue"]
        commands["requirements"] = "TARGET.Memory > 1"
    with submitted(
        manager, _place(kind), tmp_path / "jobs", cores=2, memory=300, commands=commands
    ):
        (ad,) = helpers.wait_until(
            lambda: [job for job in where_helpers.second_jobs() if job["JobStatus"] in (1, 2)],
            timeout=60,
        )
    assert ad["RequestCpus"] == 2
    assert ad["AllowedExecuteDuration"] == 7200
    assert ad["JobUniverse"] == 5
    if kind == "ce":
        assert (ad["xcount"], ad["maxMemory"], ad["queue"]) == (2, 300, "long")
        assert "ADDRESS" not in ad["Environment"]
    else:
        assert "TARGET.Memory > 1" in str(ad.lookup("Requirements"))
        assert "ADDRESS" in ad["Environment"]


def test_a_batch_job_has_the_workers_cores_and_memory(manager: Any, tmp_path: Path) -> None:
    import htcondor2

    schedd = htcondor2.Schedd()
    before = {job["ClusterId"] for job in schedd.query()}
    with submitted(manager, _place("batch"), tmp_path / "jobs", cores=3, memory=150) as jobs:

        def inner() -> list[Any]:
            known = {*before, jobs.cluster}
            return [job for job in schedd.query() if job["ClusterId"] not in known]

        (ad,) = helpers.wait_until(inner, timeout=60)
    assert (ad["RequestCpus"], ad["RequestMemory"]) == (3, 150)


def _blahp_reads_its_configuration() -> bool:
    """Whether blahp can ask for states: that of 23.9 cannot with Python 3.12 or later."""
    part = Path("/usr/libexec/blahp/blah.py")
    python = subprocess.run(
        ["/usr/bin/python3", "-c", "import configparser as c; c.RawConfigParser.readfp"],
        stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    return python.returncode == 0 or (part.exists() and "readfp" not in part.read_text())


def test_a_slurm_job_is_one_that_a_worker_runs_in(manager: Any, tmp_path: Path) -> None:
    """Blahp's own scripts make the job; Slurm's commands are ours."""
    where = Destination(grid="batch slurm")
    commands = {"batch_queue": "long", "batch_project": "physics", "batch_runtime": 7200}
    with submitted(
        manager, where, tmp_path / "jobs", cores=2, memory=150, commands=commands
    ) as jobs:
        tasks = [vine.Task("pwd; ls -la ..; ls -la $PWD/../..") for _ in range(2)]
        helpers.run_tasks(manager, tasks, timeout=60)
        script = (where_helpers.slurm_directory() / "1" / "script").read_text()
        job_id = str(jobs.ads()[0].get("GridJobId"))
        if _blahp_reads_its_configuration():
            helpers.wait_until(lambda: jobs.states() == ["running"])
    asked = re.findall("^#SBATCH (.*)$", script, re.MULTILINE)
    assert {"-n 2", "--ntasks-per-node 2", "--mem=150", "-p long", "-A physics"} <= set(asked)
    assert "-t 120" in asked
    assert "--wall-time" in script
    assert job_id.startswith("batch slurm ")


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ("osdf:///ospool/images/vine-7.14.sif", "WantSIF"),
        ("docker://example.org/vine:7.14", "WantDockerImage"),
    ],
)
def test_another_schedd_gets_the_container_that_its_own_job_would_have(
    manager: Any, tmp_path: Path, image: str, kind: str
) -> None:
    """No container runtime is here; both jobs wait for a machine that has one."""
    named = ["WantContainer", "ContainerImage", kind, "JobUniverse"]
    direct = Destination(schedd=SECOND)
    with submitted(manager, direct, tmp_path / "a", container_image=image) as jobs:
        (own,) = jobs.schedd.query(f"ClusterId == {jobs.cluster}")
    with submitted(manager, _place("condor"), tmp_path / "b", container_image=image):
        (ad,) = helpers.wait_until(
            lambda: [job for job in where_helpers.second_jobs() if job["JobStatus"] in (1, 2)],
            timeout=60,
        )
    assert [ad.get(name) for name in named] == [own.get(name) for name in named]
    assert (image in ad["TransferInput"]) == (image in own["TransferInput"])
    for word in set(re.findall(r"TARGET\.(Has\w+)", str(own.lookup("Requirements")))):
        if word != "HasFileTransfer":
            assert word in str(ad.lookup("Requirements"))


def test_the_project_is_found_as_the_schedd_finds_it(manager: Any, tmp_path: Path) -> None:
    from vine_sharedport.factory.options.preset import load_preset

    commands = load_preset("ospool").commands()
    assert commands["+ProjectName"] == f'"{where_helpers.PROJECT}"'
    with submitted(manager, Destination(), tmp_path / "jobs", commands=commands) as jobs:
        (ad,) = jobs.schedd.query(f"ClusterId == {jobs.cluster}")
    assert ad["ProjectName"] == where_helpers.PROJECT
    assert ad["JobDurationCategory"] == "Medium"
