"""The submit description of worker jobs: what travels, and how they are started there."""

from __future__ import annotations

import functools
import logging
import os
import platform
import shlex
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vine_sharedport.bundle import shim_build
from vine_sharedport.bundle.package import LAUNCHER, PACKAGE, launcher_path
from vine_sharedport.bundle.worker_program import Program, find_program, read_program
from vine_sharedport.condor.submit_description import Commands, SubmitDescription, quote_path
from vine_sharedport.condor.worker_job.options import WorkerOptions
from vine_sharedport.condor.worker_job.relative_paths import brings_files_back, make_absolute
from vine_sharedport.environment import ADDRESS, PYTHON_ENV, SECRET_FILE
from vine_sharedport.errors import SettingError
from vine_sharedport.registry.reference import Reference
from vine_sharedport.trusted_files import (
    absolute,
    check_file,
    check_working_directory,
    working_directory,
)

__all__ = [
    "describe_workers",
    "find_worker",
]

log = logging.getLogger(__name__)

# With an image, HTCondor before 24 takes an absolute path for one inside the image.
_TRAVELLING_EXECUTABLE = {"transfer_executable": "true"}


def describe_workers(
    manager: Reference,
    directory: str,
    worker: WorkerOptions,
    *,
    more: Sequence[str] = (),
    commands: Mapping[str, str] | None = None,
    inputs: Sequence[str] = (),
) -> SubmitDescription:
    """Return the submit description that ``submit_workers`` uses; submits nothing.

    Args:
        manager: Whose workers they are.
        directory: For the jobs' logs, absolute.
        worker: What each of them is.
        more: Options of the worker before ``extra_options``; a ``Verbatim`` is left to
            HTCondor to fill in.
        commands: Further submit commands; the worker's own by default.
        inputs: Further files that travel.
    """
    given = Commands(worker.commands if commands is None else commands)
    for command in ("executable", "arguments", "args"):
        if command in given:
            raise SettingError(
                f"commands has {command}, which the launcher needs; name the worker's program "
                "by worker_binary= and its options by extra_options="
            )
    name, program = find_worker(manager, worker)
    inputs = [os.path.join(directory, PACKAGE), *map(absolute, inputs)]
    library = shim_build.library_path()
    if library is None:
        shim_build.warn_of_relay()
    else:
        inputs.append(library)
    described: dict[str, str | int] = {"universe": "vanilla"}
    if program is not None:
        inputs.append(program)
    cores = worker.cores or 1
    options = ["--cores", str(cores)]
    resources: dict[str, str | int] = {"request_cpus": cores}
    if worker.memory is not None:
        options += ["--memory", str(worker.memory)]
        resources["request_memory"] = worker.memory
    if worker.disk is not None:
        options += ["--disk", str(worker.disk)]
        resources["request_disk"] = f"{worker.disk * 1024}"  # in KiB
    if worker.timeout is not None:
        options += ["--timeout", str(worker.timeout)]
    gpus = [] if worker.gpus is None else ["--gpus", str(worker.gpus)]
    if worker.gpus:
        resources["request_gpus"] = worker.gpus
    try:
        extra = shlex.split(worker.extra_options or "")
    except ValueError as error:
        raise SettingError(
            f"extra_options is {worker.extra_options!r}: {error}; quote it as for a shell"
        ) from error
    there = manager
    if manager.password_file is not None:
        inputs.append(manager.password_file)
        there = replace(manager, password_file=os.path.basename(manager.password_file))
    options += there.worker_options([*gpus, *more, *extra])
    environment = {**dict(worker.env), ADDRESS: str(manager)}
    if manager.secret_file is not None:
        # The job's environment is public; a file of mode 0600 stays so on the way.
        inputs.append(manager.secret_file)
        environment[SECRET_FILE] = os.path.basename(manager.secret_file)
    if worker.python_env is not None:
        inputs.append(_check_python_env(worker.python_env))
        environment[PYTHON_ENV] = os.path.basename(worker.python_env)
    _check_inputs(inputs)
    if worker.container_image is not None:
        described.update(_describe_container(worker.container_image, given))
    elif "container_image" in given or "docker_image" in given:
        described.update(_TRAVELLING_EXECUTABLE)
    if program is not None:
        described.update(_needs_of(program, library))
    logs = os.path.join(quote_path(directory), "$(Cluster).$(Process)")
    if "initialdir" not in given:
        # Where files are to come back to somebody expects them where they stand.
        place = directory
        if brings_files_back(given):
            check_working_directory("bring the jobs' files back to where they are wanted,")
            place = working_directory()
        described["initialdir"] = quote_path(place)
        given = make_absolute(given)
    described.update(
        {
            "executable": quote_path(launcher_path()),
            "should_transfer_files": "YES",
            "when_to_transfer_output": "ON_EXIT",
            "transfer_output_files": '""',  # the workspace stays on the execute point
            **resources,
            "output": f"{logs}.out",
            "error": f"{logs}.err",
            "log": os.path.join(quote_path(directory), "workers.log"),
            "batch_name": f"workers of {manager.sock_id}",
            "My.VineSharedPort": f'"{manager.sock_id}"',
            # A suspended worker keeps its tasks and does nothing: rather lose the machine.
            # Machines that honour it evict the job at once (batch_queue_condor.c sets it too).
            "My.JobMaxSuspendTime": 0,
        }
    )
    return SubmitDescription(
        (name, *options), environment, tuple(inputs), Commands(described)
    ).with_commands(given)


def find_worker(manager: Reference, worker: WorkerOptions) -> tuple[str, str | None]:
    """Return what the launcher shall start, and the file to send along, if there is one."""
    name = worker.worker_binary or manager.worker
    try:
        program = os.path.realpath(find_program(name, option="worker_binary="))
    except SettingError:
        if worker.container_image is None:
            raise
        log.info("the worker %s is not here; it has to be in %s", name, worker.container_image)
        return name, None
    return os.path.basename(program), program


def _needs_of(path: str, library: str | None) -> dict[str, str | int]:
    """Tell what the worker needs; return the submit commands that follow from it."""
    program = read_program(path)
    if program is None:
        return {}
    _tell_needs(path, program, library)
    if program.arch is not None and program.arch.lower() != platform.machine().lower():
        # condor_submit asks for the architecture of the machine that it runs on, unless
        # the requirements name one.
        return {"requirements": f'(TARGET.Arch == "{program.arch}")'}
    return {}


@functools.cache  # once for a process: a factory describes its jobs again and again
def _tell_needs(path: str, program: Program, library: str | None) -> None:
    log.info("for information: the worker %s %s", path, program)
    if program.left_behind:
        log.warning(
            "the worker %s finds %s in a directory of its own here (%s), which does not "
            "travel; where machines do not have them, use container_image= or python_env=",
            path,
            ", ".join(program.left_behind),
            ":".join(program.search),
        )
    if not program.preloadable:
        log.info("%s cannot load the shim: workers use the relay, which needs Python", path)
    elif library is not None and program.arch is not None:
        own = read_program(library)
        if own is not None and own.arch != program.arch:
            log.warning(
                "the worker %s is for %s and the shim %s for %s: workers use the relay, "
                "which needs Python 3.9 or later on the execute point",
                path,
                program.arch,
                library,
                own.arch,
            )


def _check_python_env(path: str) -> str:
    """Return the tarball's full path, or its URL as it is."""
    if "://" in path:  # fetched by one of HTCondor's plugins on the execute point
        return path
    path = absolute(path)
    try:
        good = tarfile.is_tarfile(path)
    except OSError as error:
        raise SettingError(
            f"cannot read the Python environment {path}: {error.strerror}; {_pack(path)}"
        ) from error
    if not good:
        raise SettingError(
            f"the Python environment {path} is no tar archive (plain, or compressed by gzip, "
            f"bzip2 or xz); {_pack(path)}"
        )
    return path


def _pack(path: str) -> str:
    """Return how to make the tarball of a Python environment."""
    return (
        "make it where your conda environment is active, with 'conda install -y -c conda-forge "
        f"conda-pack' and 'conda-pack --force -o {shlex.quote(path)}'"
    )


def _check_inputs(paths: Sequence[str]) -> None:
    """Refuse what would become a held job: HTCondor checks nothing when jobs are submitted."""
    seen = {LAUNCHER: launcher_path()}
    for path in paths:
        name = os.path.basename(path)
        if name in seen:
            raise SettingError(
                f"{seen[name]} and {path} would both be {name} on the execute point; "
                "rename one of them"
            )
        seen[name] = path
        # The package is written when the jobs are submitted.
        if name != PACKAGE and "://" not in path:
            check_file(path, "file")


def _describe_container(image: str, given: Commands) -> dict[str, str | int]:
    """Return the submit commands for a container.

    Source: HTCondor 25's manual, "Container Universe Jobs"; ``SetExecutable`` in
    src/condor_utils/submit_utils.cpp.
    """
    if "://" not in image and not image.startswith("docker:"):
        # Elsewhere it is looked for on the execute point, and the job is held.
        travels = given.get("transfer_container", "true").strip().lower() in ("true", "t", "1")
        there = image.startswith("/cvmfs/") or not travels
        if not there and not os.path.exists(image):
            raise SettingError(
                f"the container image {image} is not there; give its path, a URL such as "
                "osdf:///... or docker://..., or commands={'transfer_container': 'false'} "
                "if the execute points have it"
            )
        link = None if there else _find_link(image)
        if link is not None:
            raise SettingError(
                f"the container image {image} has {link}, a link to a directory, which "
                f"HTCondor does not transfer; make one file of it ('apptainer build IMAGE.sif "
                f"{image}'), or give commands={{'transfer_container': 'false'}} if the execute "
                "points see it at that path"
            )
        image = image if there else absolute(image)
    return {
        "universe": "container",
        "container_image": quote_path(image),
        **_TRAVELLING_EXECUTABLE,
    }


def _find_link(image: str) -> str | None:
    """Return a symbolic link to a directory in an unpacked image; /bin is one in most."""
    for folder, folders, _ in os.walk(image):
        for name in folders:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                return path
    return None
