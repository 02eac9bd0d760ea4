"""A worker's submit description, changed for a grid resource.

What was read in the sources and not seen with a real CE, PBS or SGE has "Source" at it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from dataclasses import replace

from vine_sharedport import environment
from vine_sharedport.condor.submit_description import Commands, SubmitDescription, Verbatim
from vine_sharedport.errors import SettingError

__all__ = [
    "ADDRESS_FILE",
    "adapt_to_batch",
    "adapt_to_ce",
    "adapt_to_schedd",
    "take_container",
]

ADDRESS_FILE = "vine_sharedport.address"
"""The launcher's file with the manager's address, where no variable can carry it."""

# What blahp 23.9 changes in a variable's value. The first three get a backslash that nobody
# takes away again (source: ConvertArgs in server.c), the next five are special to the shell
# that the job's script runs in, and the rest to the one that writes it (source:
# bls_start_job_wrapper).
_BLAHP_CHANGES = re.compile(r"""[()&"$`\\'*?\[\t]|  """)

# An argument that all of blahp's scripts leave as it is. For "batch condor" blanks separate,
# and an empty one is lost (source: condor_submit.sh).
_PLAIN_ARGUMENT = re.compile(r"[A-Za-z0-9_./:=,@%+-]+")


def take_container(job: SubmitDescription) -> tuple[SubmitDescription, str | None]:
    """Return a grid job without what asks for a container, and its image."""
    names = ("container_image", "docker_image")
    universe = job.commands.get("universe", "vanilla").lower()
    images = [job.commands.get(name) for name in names]
    if universe not in ("vanilla", "container", "docker", "grid"):
        raise SettingError(
            f"universe is {universe!r}, which no grid resource takes; leave it away"
        )
    image = images[0] or (images[1] and f"docker://{images[1].split('://')[-1]}")
    return job.without(*names).with_commands({"universe": "grid"}), image or None


def adapt_to_schedd(
    job: SubmitDescription, image: str | None, *, ce: bool
) -> SubmitDescription:
    """Tell another schedd what the job is there.

    All attributes of the job go with it, but for those that are the first schedd's own
    business; the ones named ``remote_X`` arrive as ``X``. The files go to its spool.

    Source: HTCondor's manual, "HTCondor-C"; ``CondorJob::buildSubmitAd``.
    """
    # A CE has no machines of its own: its routes decide.
    needs = [] if ce else ['TARGET.OpSys == "LINUX"', "TARGET.HasFileTransfer"]
    commands, inputs = Commands(job.commands), job.inputs
    asked = commands.pop("requirements", None)
    if asked:
        needs.append(f"({asked})")
    elif not ce:
        needs.append(f'TARGET.Arch == "{platform.machine()}"')
    if image is not None:
        # As condor_submit does for its own pool.
        kind, has = (
            ("WantDockerImage", "HasDockerURL") if image.startswith("docker:")
            else ("WantSIF", "HasSIF") if image.endswith(".sif")
            else ("WantSandboxImage", "HasSandboxImage")
        )  # fmt: skip
        commands.setdefault("My.remote_WantContainer", "True")
        if not image.startswith(("docker:", "oras:", "/cvmfs/")):
            # Comes with the other files.
            inputs += (Verbatim(image),)
            image = os.path.basename(image)
        commands.setdefault("My.remote_ContainerImage", f'"{image}"')
        commands.setdefault(f"My.remote_{kind}", "True")
        if not ce:
            needs += ["TARGET.HasContainer", f"TARGET.{has}"]
    if not ce:
        needs += [
            f"TARGET.{what} >= Request{what}"
            for what in ("Cpus", "Memory", "Disk")
            if f"request_{what}" in commands
        ]
        schemes = {path.split("://")[0] for path in inputs if "://" in path}
        needs += [
            f'stringListIMember("{scheme}", TARGET.HasFileTransferPluginMethods)'
            for scheme in sorted(schemes)
        ]
    remote = {
        "JobUniverse": "5",  # vanilla
        "Requirements": " && ".join(needs) or "True",
        "ShouldTransferFiles": '"YES"',
        "WhenToTransferOutput": '"ON_EXIT"',
    }
    for command, attribute in (
        # The first schedd keeps these for itself, where they do nothing.
        ("allowed_execute_duration", "AllowedExecuteDuration"),
        ("allowed_job_duration", "AllowedJobDuration"),
    ):
        if command in commands:
            remote[attribute] = commands.pop(command)
    suspension = commands.get("My.JobMaxSuspendTime")
    if suspension is not None:
        remote["JobMaxSuspendTime"] = suspension
    job = replace(job, inputs=inputs, commands=commands)
    return job.with_defaults({f"My.remote_{name}": value for name, value in remote.items()})


def adapt_to_ce(
    job: SubmitDescription, grid: str, directory: str, files: dict[str, str]
) -> SubmitDescription:
    """Tell a CE in its own words how much the job needs.

    A CE hands the job to its pool, or to its batch system by blahp, which one cannot tell.

    Source: HTCondor-CE's ``config/01-ce-router-defaults.conf``: ``RequestMemory`` is not
    looked at, ``xcount`` becomes the batch system's cores, ``maxMemory`` its megabytes.
    """
    told = {
        f"My.remote_{attribute}": job.commands[command]
        for command, attribute in (
            ("request_cpus", "xcount"),
            ("request_memory", "maxMemory"),
            ("batch_runtime", "BatchRuntime"),
        )
        if command in job.commands and f"My.{attribute}" not in job.commands
    }
    if "batch_queue" in job.commands:
        queue = job.commands["batch_queue"].strip('"')
        told["My.remote_queue"] = f'"{queue}"'
    job = job.without("batch_runtime", "batch_queue").with_defaults(told)
    return _adapt_to_blahp(job, grid, directory, files)


def adapt_to_batch(
    job: SubmitDescription, grid: str, directory: str, files: dict[str, str]
) -> SubmitDescription:
    """Tell blahp what the job is.

    Source: ``INFNBatchJob::buildSubmitAd`` for what it is told at all; the scripts
    ``*_submit.sh`` of blahp for what becomes of it.
    """
    if job.commands.get("requirements"):
        raise SettingError(
            f"{grid!r} knows no requirements; choose nodes with the submit commands "
            "batch_queue, batch_project and batch_extra_submit_args"
        )
    cores = job.commands.get("request_cpus", "1")
    # request_cpus is not among what blahp is told. Both, or Slurm may spread the cores
    # over several nodes.
    job = job.with_defaults({"My.NodeNumber": cores, "My.SMPGranularity": cores})
    runtime = job.commands.get("batch_runtime", "")
    if runtime.isdigit() and not any(item.startswith("--wall-time") for item in job.arguments):
        # Not every batch system tells the job this limit. As in the launcher: a tenth of
        # it, at most five minutes, to say goodbye.
        margin = min(int(runtime) // 10, 300)
        seconds = str(max(int(runtime) - margin, 1))
        job = replace(job, arguments=(*job.arguments, "--wall-time", seconds))
    job = _adapt_to_blahp(job.without("requirements"), grid, directory, files)
    for path in (*job.inputs, *map(job.commands.get, ("executable", "output", "error"))):
        if re.search(r"\s", path or ""):
            raise SettingError(
                f"the path {path!r} has a blank in it, at which {grid!r} cuts it; move the "
                "file, or give the factory another directory"
            )
    return job


def _adapt_to_blahp(
    job: SubmitDescription, grid: str, directory: str, files: dict[str, str]
) -> SubmitDescription:
    """Keep from blahp what it would not bring unchanged to the job."""
    variables, inputs = dict(job.environment), job.inputs
    address = variables.pop(environment.ADDRESS, None)
    if address is not None:
        # It has an "&" in it.
        files[ADDRESS_FILE] = f"{address}\n"
        inputs += (os.path.join(directory, ADDRESS_FILE),)
    for name, value in variables.items():
        changed = _BLAHP_CHANGES.search(value)
        if changed:
            raise SettingError(
                f"the environment variable {name} of the worker is {value!r}, in which "
                f"{grid!r} changes {changed[0]!r}; put it into a file, sent with wrapper_input"
            )
    macros = [item for item in job.arguments if isinstance(item, Verbatim)]
    if macros:
        raise SettingError(
            f"the worker's argument {macros[0]!r} is a macro, for which {grid!r} has no "
            "value; leave it out (or autosize, where it comes from: give cores and memory)"
        )
    arguments = job.arguments
    if not all(map(_PLAIN_ARGUMENT.fullmatch, arguments)):
        # blahp would change one of them: all go as a file.
        content = "".join(f"{argument}\n" for argument in arguments)
        # By its content: jobs that wait keep theirs when an option changes.
        name = f"worker-{hashlib.sha256(content.encode()).hexdigest()[:12]}.arguments"
        files[name] = content
        inputs += (os.path.join(directory, name),)
        arguments = (f"@{name}",)
    return replace(job, arguments=arguments, environment=variables, inputs=inputs)
