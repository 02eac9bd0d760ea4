"""The submit description of a factory's jobs: marks, lease, options, and what is refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.factory.fake_schedd import evaluate
from tests.values import naming
from vine_sharedport.bundle.package import launcher_path
from vine_sharedport.errors import SettingError
from vine_sharedport.factory.jobs.description import WRAPPED, describe, lease_time
from vine_sharedport.factory.options.schema import Options

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


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"peer_transfers": "site"}, ["--contact-hostport", "auto"]),
        ({"peer_transfers": "site", "transfer_port": "10:20"}, ["--contact-hostport", "auto"]),
        ({"peer_transfers": "site", "extra_options": "--contact-hostport h:1"}, []),
        ({"peer_transfers": "site", "extra_options": "--contact-hostport=h:1"}, []),
        ({"peer_transfers": "site", "system": "work_queue"}, []),
        ({"peer_transfers": "off"}, []),
        ({}, []),
    ],
)
def test_workers_that_share_one_lan_tell_their_own_address(
    tmp_path: Path, worker: str, given: dict[str, str], told: list[str]
) -> None:
    words = described(tmp_path, worker, **given).job.arguments
    assert [word for word in words if word in ("--contact-hostport", "auto")] == told or (
        not told and "auto" not in words
    )
