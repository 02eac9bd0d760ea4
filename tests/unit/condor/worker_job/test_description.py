"""The submit description of worker jobs, without HTCondor."""

from __future__ import annotations

import logging
import platform
import re
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.values import naming
from vine_sharedport.bundle import shim_build
from vine_sharedport.condor.submit_description import SubmitDescription
from vine_sharedport.condor.worker_job.options import WorkerOptions
from vine_sharedport.condor.worker_job.submit import describe_workers
from vine_sharedport.errors import SettingError, SinfulError
from vine_sharedport.registry.reference import Reference

ADDRESS = "<192.0.2.7:9618?addrs=192.0.2.7-9618&sock=vine_42>"


@pytest.fixture
def worker(tmp_path: Path) -> str:
    path = tmp_path / "vine_worker"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def _describe(tmp_path: Path, **kwargs: Any) -> SubmitDescription:
    files = {x: kwargs.pop(x, None) for x in ("secret_file", "password_file")}
    reference = Reference.of(ADDRESS, **files)
    return describe_workers(reference, str(tmp_path), WorkerOptions.of(**kwargs))


def test_what_travels_is_what_the_launcher_looks_for(
    tmp_path: Path, worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "install" / shim_build.LIBRARY
    library.parent.mkdir()
    library.write_bytes(b"")
    monkeypatch.setattr(shim_build, "library_path", lambda: str(library))
    secret = tmp_path / "vine_42.secret"
    secret.write_bytes(bytes(32))
    job = _describe(tmp_path, worker_binary=worker, secret_file=str(secret))
    assert job.commands["executable"].endswith("/launcher.sh")
    assert job.arguments == ("vine_worker", "--cores", "1")
    assert job.inputs == (
        f"{tmp_path}/vine_sharedport.pyz",
        str(library),
        worker,
        str(secret),
    )
    assert job.environment == {
        "VINE_SHAREDPORT_ADDRESS": ADDRESS,
        "VINE_SHAREDPORT_SECRET_FILE": "vine_42.secret",
    }


def test_without_the_shim_the_relay_alone_travels(
    tmp_path: Path, worker: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(shim_build, "library_path", lambda: None)
    shim_build.warn_of_relay.cache_clear()
    for _ in range(2):  # as a factory does
        assert _describe(tmp_path, worker_binary=worker).inputs == (
            f"{tmp_path}/vine_sharedport.pyz",
            worker,
        )
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "pip install --force-reinstall" in record.getMessage()


def test_an_address_without_a_port_is_refused() -> None:
    with pytest.raises(SinfulError, match=naming("<192.0.2.7:0?sock=vine_42>")):
        Reference.of("<192.0.2.7:0?sock=vine_42>")


@pytest.mark.parametrize(
    "image", ["osdf:///ospool/a.sif", "docker://library/debian:13", "/cvmfs/x/y"]
)
def test_an_image_is_named_as_it_is(tmp_path: Path, worker: str, image: str) -> None:
    job = _describe(tmp_path, worker_binary=worker, container_image=image)
    assert job.commands["container_image"] == image
    assert job.commands["universe"] == "container"
    assert job.commands["transfer_executable"] == "true"
    assert worker in job.inputs


def test_the_launcher_travels_into_an_image_named_by_a_command(
    tmp_path: Path, worker: str
) -> None:
    given = {"Container_Image": "docker://library/debian:13"}
    job = _describe(tmp_path, worker_binary=worker, commands=given)
    assert job.commands["transfer_executable"] == "true"
    assert "transfer_executable" not in _describe(tmp_path, worker_binary=worker).commands


def test_an_image_on_this_machine_has_its_full_path(
    tmp_path: Path, worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my.sif").write_bytes(b"")
    (tmp_path / "sandbox").mkdir()
    monkeypatch.chdir(tmp_path)
    for image in ("my.sif", "sandbox", "sandbox/"):
        job = _describe(tmp_path, worker_binary=worker, container_image=image)
        assert job.commands["container_image"] == str(tmp_path / image)


def test_a_missing_image_is_refused_unless_the_machines_have_it(
    tmp_path: Path, worker: str
) -> None:
    image = "/images/vine.sif"
    with pytest.raises(SettingError, match=naming(image, "commands={'transfer_container'")):
        _describe(tmp_path, worker_binary=worker, container_image=image)
    given = {"transfer_container": "True"}
    with pytest.raises(SettingError, match=naming(image, "commands={'transfer_container'")):
        _describe(tmp_path, worker_binary=worker, container_image=image, commands=given)
    job = _describe(
        tmp_path, worker_binary=worker, container_image=image,
        commands={"transfer_container": "false"},
    )  # fmt: skip
    assert job.commands["container_image"] == image


def test_an_unpacked_image_with_links_to_directories_is_refused_if_it_would_travel(
    tmp_path: Path, worker: str
) -> None:
    image = tmp_path / "image"
    (image / "usr/bin").mkdir(parents=True)
    (image / "usr/bin/sh").symlink_to("dash")
    _describe(tmp_path, worker_binary=worker, container_image=str(image))
    (image / "bin").symlink_to("usr/bin")
    with pytest.raises(SettingError, match=naming(image / "bin", "apptainer build IMAGE.sif")):
        _describe(tmp_path, worker_binary=worker, container_image=str(image))
    given = {"transfer_container": "false"}
    _describe(tmp_path, worker_binary=worker, container_image=str(image), commands=given)


def test_a_worker_that_is_not_here_must_be_in_an_image(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError,
        match=naming("'/opt/vine_worker'", "worker_binary="),
    ):
        _describe(tmp_path, worker_binary="/opt/vine_worker")
    job = _describe(
        tmp_path, worker_binary="/opt/vine_worker", container_image="docker://example.org/vine"
    )
    assert job.arguments[0] == "/opt/vine_worker"
    assert not [path for path in job.inputs if path.endswith("vine_worker")]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_python_environment_travels(tmp_path: Path, worker: str, mode: str) -> None:
    path = tmp_path / "env.tar"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # any of them
        archive.add(worker, "bin/python")
    job = _describe(tmp_path, worker_binary=worker, python_env=str(path))
    assert str(path) in job.inputs
    assert job.environment["VINE_SHAREDPORT_PYTHON_ENV"] == "env.tar"


def test_an_environments_url_is_htcondors_to_fetch(tmp_path: Path, worker: str) -> None:
    url = "osdf:///ospool/env.tar.gz"
    job = _describe(tmp_path, worker_binary=worker, python_env=url)
    assert url in job.inputs
    assert job.environment["VINE_SHAREDPORT_PYTHON_ENV"] == "env.tar.gz"


def test_what_is_no_tarball_is_refused(tmp_path: Path, worker: str) -> None:
    path = tmp_path / "env.zip"
    path.write_bytes(b"PK\x03\x04" + bytes(600))
    with pytest.raises(SettingError, match=r"env\.zip .*conda-pack"):
        _describe(tmp_path, worker_binary=worker, python_env=str(path))
    with pytest.raises(SettingError, match=naming(tmp_path / "gone")):
        _describe(tmp_path, worker_binary=worker, python_env=str(tmp_path / "gone"))


def test_two_files_of_one_name_are_refused(tmp_path: Path, worker: str) -> None:
    other = tmp_path / "elsewhere" / "vine_worker"
    other.parent.mkdir()
    other.write_text("the password")
    with pytest.raises(SettingError, match=naming(worker, other, "vine_worker")):
        _describe(tmp_path, worker_binary=worker, password_file=str(other))


@pytest.mark.skipif(
    shutil.which("aarch64-linux-gnu-gcc") is None or platform.machine() == "aarch64",
    reason="no compiler for another architecture",
)
def test_a_worker_of_another_architecture_asks_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("elftools")
    source = tmp_path / "main.c"
    source.write_text("int main(void) { return 0; }\n")
    program, library = tmp_path / "arm_worker", tmp_path / shim_build.LIBRARY
    subprocess.run(["aarch64-linux-gnu-gcc", "-o", program, source], check=True)
    subprocess.run(["gcc", "-shared", "-o", library, source], check=True)
    monkeypatch.setattr(shim_build, "library_path", lambda: str(library))
    with caplog.at_level(logging.WARNING):
        job = _describe(tmp_path, worker_binary=str(program))
    assert job.commands["requirements"] == '(TARGET.Arch == "aarch64")'
    assert re.search(naming("aarch64", "X86_64"), caplog.text)
    own = _describe(tmp_path, worker_binary=str(program), commands={"requirements": "true"})
    assert own.commands["requirements"] == "true"


def test_variables_and_files_of_the_user_are_added_to_ours(tmp_path: Path, worker: str) -> None:
    job = _describe(
        tmp_path,
        worker_binary=worker,
        commands={
            "Environment": "\"A='x y' B=1 VINE_SHAREDPORT_ADDRESS=mine\"",
            "TRANSFER_INPUT_FILES": "/data/more, /data/most",
            "Request_Cpus": 3,
        },
    )
    assert job.environment == {"A": "x y", "B": "1", "VINE_SHAREDPORT_ADDRESS": ADDRESS}
    assert job.inputs[-2:] == ("/data/more", "/data/most")
    assert worker in job.inputs
    names = [line.split(" = ")[0].lower() for line in job.format().splitlines()]
    assert job.commands["request_cpus"] == "3"
    assert {*names} >= {"environment", "transfer_input_files", "request_cpus"}
    assert len({*names}) == len(names)


@pytest.mark.parametrize(
    ("commands", "says"),
    [
        ({"Executable": "/bin/true"}, "worker_binary="),
        ({"arguments": "x"}, "extra_options="),
        ({"env": "A=1;B=2"}, "'A=1;B=2'"),
    ],
)
def test_what_no_worker_could_start_with_is_refused(
    tmp_path: Path, worker: str, commands: dict[str, str | int], says: str
) -> None:
    with pytest.raises(SettingError, match=says):
        _describe(tmp_path, worker_binary=worker, commands=commands)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory", 0), ("memory", "much"), ("cores", True), ("cores", float("nan")),
        ("disk", [1]), ("gpus", -1), ("env", "A"), ("container_image", ""),
    ],
)  # fmt: skip
def test_what_is_no_value_is_named(
    tmp_path: Path, worker: str, name: str, value: object
) -> None:
    with pytest.raises(SettingError, match=naming(name, repr(value))):
        _describe(tmp_path, **{"worker_binary": worker, name: value})


def test_the_words_of_a_workers_options_are_the_same_as_text_and_as_a_list(
    tmp_path: Path, worker: str
) -> None:
    words = ["--feature", "a b", "", "$HOME 'x'"]
    for given in (words, tuple(words), shlex.join(words)):
        job = _describe(tmp_path, worker_binary=worker, extra_options=given)
        assert job.arguments[-4:] == tuple(words)


def test_numbers_with_a_fraction_are_rounded_up(tmp_path: Path, worker: str) -> None:
    job = _describe(tmp_path, worker_binary=worker, memory=2000.1, cores=2.0, timeout=0)
    assert (job.commands["request_memory"], job.commands["request_cpus"]) == ("2001", "2")
    assert job.arguments[-2:] == ("--timeout", "0")


@pytest.mark.parametrize(
    ("commands", "start", "log"),
    [
        ({}, "logs", "logs/workers.log"),
        ({"log": "a/../my.log"}, "logs", "here/my.log"),
        ({"initialdir": "/elsewhere", "log": "my.log"}, "/elsewhere", "my.log"),
        ({"transfer_output_files": "result"}, "here", "logs/workers.log"),
        ({"transfer_output_files": '""'}, "logs", "logs/workers.log"),
    ],
)
def test_jobs_start_in_their_directory_and_relative_paths_are_the_users(
    tmp_path: Path, worker: str, monkeypatch: pytest.MonkeyPatch,
    commands: dict[str, str], start: str, log: str,
) -> None:  # fmt: skip
    for name in ("here", "logs"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    job = _describe(tmp_path / "logs", worker_binary=worker, commands=commands)

    def full(path: str) -> str:
        return str(tmp_path / path) if path.startswith(("here", "logs")) else path

    assert (job.commands["initialdir"], job.commands["log"]) == (full(start), full(log))
