"""How a job becomes one of a grid: another schedd's, a CE's, a batch system's."""

from __future__ import annotations

from pathlib import Path

import pytest

from vine_sharedport.condor.submit_description import Commands, SubmitDescription, Verbatim
from vine_sharedport.errors import SettingError
from vine_sharedport.factory.submission.destination import Destination
from vine_sharedport.factory.submission.remote_description import ADDRESS_FILE

ADDRESS = "<192.0.2.1:9618?addrs=192.0.2.1-9618&noUDP&sock=vine_1>"


def described(*arguments: str, **commands: str) -> SubmitDescription:
    """Return a description such as ``describe_workers`` makes."""
    return SubmitDescription(
        arguments or ("vine_worker", "--cores", "2"),
        {"VINE_SHAREDPORT_ADDRESS": ADDRESS, "VINE_SHAREDPORT_SECRET_FILE": "s"},
        ("/opt/vine_worker", "/home/u/s"),
        Commands(
            {
                "universe": "vanilla",
                "executable": "/opt/launcher.sh",
                "request_cpus": "2",
                "request_memory": "500",
            }
        ),
    ).with_commands(commands)


def test_the_local_pools_description_stays_as_it_is(tmp_path: Path) -> None:
    for where in (Destination(), Destination(schedd="s"), Destination(schedd="s", spool=True)):
        assert where.adapt(described(), str(tmp_path), {}) == described()


def test_another_schedd_is_told_in_remote_attributes(tmp_path: Path) -> None:
    where = Destination(grid="condor s@h c")
    job = described(requirements="Arch == 7", allowed_job_duration="60")
    adapted = where.adapt(job, str(tmp_path), {})
    commands = adapted.commands
    assert commands["universe"] == "grid"
    assert commands["grid_resource"] == "condor s@h c"
    assert commands["my.remote_jobuniverse"] == "5"
    assert "(Arch == 7)" in commands["my.remote_requirements"]
    assert "TARGET.Memory >= RequestMemory" in commands["my.remote_requirements"]
    assert commands["my.remote_allowedjobduration"] == "60"
    assert not {"requirements", "allowed_job_duration"} & set(commands)
    assert adapted.environment["VINE_SHAREDPORT_ADDRESS"] == ADDRESS


def test_the_users_own_commands_win(tmp_path: Path) -> None:
    job = described(
        **{"+Remote_Requirements": "MINE", "grid_resource": "condor a b", "+xcount": "8"}
    )
    commands = Destination(grid="ce h").adapt(job, str(tmp_path), {}).commands
    assert commands["my.remote_requirements"] == "MINE"
    assert commands["grid_resource"] == "condor a b"
    assert commands["my.xcount"] == "8"
    assert "my.remote_xcount" not in commands


def test_a_ce_is_told_in_its_own_words(tmp_path: Path) -> None:
    job = described(batch_runtime="3600", batch_queue="long")
    commands = Destination(grid="ce h").adapt(job, str(tmp_path), {}).commands
    assert commands["my.remote_xcount"] == "2"
    assert commands["my.remote_maxmemory"] == "500"
    assert commands["my.remote_batchruntime"] == "3600"
    assert commands["my.remote_queue"] == '"long"'
    assert commands["my.remote_requirements"] == "True"


@pytest.mark.parametrize(
    ("image", "told", "sent"),
    [
        ("osdf:///a/x.sif", "x.sif", "osdf:///a/x.sif"),
        ("/home/u/x.sif", "x.sif", "/home/u/x.sif"),
        ("/cvmfs/a/x", "/cvmfs/a/x", "/home/u/s"),
        ("docker://a/b:1", "docker://a/b:1", "/home/u/s"),
    ],
)
def test_a_container_travels_to_another_schedd(
    tmp_path: Path, image: str, told: str, sent: str
) -> None:
    job = Destination(grid="condor s c").adapt(
        described(universe="container", container_image=image), str(tmp_path), {}
    )
    assert job.commands["My.remote_ContainerImage"] == f'"{told}"'
    assert job.inputs[-1] == sent
    assert "container_image" not in job.commands


def test_names_keep_the_users_spelling(tmp_path: Path) -> None:
    job = described(**{"+JobDurationCategory": '"Medium"'})
    adapted = Destination(grid="condor s c").adapt(job, str(tmp_path), {})
    assert '\n+JobDurationCategory = "Medium"\n' in adapted.format()


@pytest.mark.parametrize("grid", ["batch slurm", "ce h"])
def test_the_address_goes_as_a_file_where_blahp_would_change_it(
    tmp_path: Path, grid: str
) -> None:
    files: dict[str, str] = {}
    job = Destination(grid=grid).adapt(described(), str(tmp_path), files)
    assert ADDRESS not in job.format()
    assert job.inputs[-1] == f"{tmp_path}/{ADDRESS_FILE}"
    assert files == {ADDRESS_FILE: ADDRESS + "\n"}
    assert not list(tmp_path.iterdir())
    assert job.environment == {"VINE_SHAREDPORT_SECRET_FILE": "s"}


def test_a_batch_system_is_told_the_cores_and_the_worker_the_time(tmp_path: Path) -> None:
    job = Destination(grid="batch pbs").adapt(
        described(batch_runtime="7200"), str(tmp_path), {}
    )
    assert job.commands["my.nodenumber"] == job.commands["my.smpgranularity"] == "2"
    assert job.arguments[-2:] == ("--wall-time", "6900")
    assert job.commands["batch_runtime"] == "7200"


@pytest.mark.parametrize("grid", ["batch slurm", "ce h"])
@pytest.mark.parametrize("word", ["", "a b", "(x)", "~", "$(Cpus)", "'\"", "a*", "\u00e9"])
def test_arguments_that_blahp_would_change_go_as_a_file(
    tmp_path: Path, grid: str, word: str
) -> None:
    arguments = ["vine_worker", "--feature", word, "--cores", "2"]
    files: dict[str, str] = {}
    job = Destination(grid=grid).adapt(described(*arguments), str(tmp_path), files)
    (name,) = job.arguments
    assert f"{tmp_path}/{name[1:]}" in job.inputs
    assert files[name[1:]] == "".join(f"{each}\n" for each in arguments)
    Destination(grid=grid).adapt(described(*arguments, "more"), str(tmp_path), files)
    assert len([name for name in files if name.endswith(".arguments")]) == 2, (
        "waiting jobs would get the new ones"
    )


@pytest.mark.parametrize(
    ("grid", "commands", "words"),
    [
        ("batch slurm", {"requirements": "Memory > 1"}, "batch_extra_submit_args"),
        ("batch slurm", {"container_image": "docker://a/b"}, "'batch slurm'"),
        ("batch slurm", {"error": "/home/a b/x"}, "'/home/a b/x'"),
        ("batch slurm", {"environment": "\"A='x&y'\""}, " A "),
        ("batch slurm", {"environment": "A=1;B=2"}, "'A=1;B=2'"),
        ("ce h", {"environment": "\"A='(x)'\""}, "'('"),
        ("batch slurm", {"environment": "\"A='a  b'\""}, "'  '"),
        ("batch slurm", {"environment": "\"A='a *'\""}, "'*'"),
        ("condor s c", {"universe": "parallel"}, "parallel"),
    ],
)
def test_what_a_place_cannot_do_is_said(
    tmp_path: Path, grid: str, commands: dict[str, str], words: str
) -> None:
    with pytest.raises(SettingError) as raised:
        Destination(grid=grid).adapt(described(**commands), str(tmp_path), {})
    assert words in str(raised.value)


def test_no_macro_of_an_argument_is_filled_in_for_a_batch_system(tmp_path: Path) -> None:
    job = described("w", "--cores", Verbatim("$$(Cpus)"))
    with pytest.raises(SettingError, match=r"'\$\$\(Cpus\)' is a macro"):
        Destination(grid="batch slurm").adapt(job, str(tmp_path), {})
