"""A worker's submit description, changed for a grid resource.

What was read in the sources and not seen with a real CE, PBS or SGE has "Source" at it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterator, MutableMapping

from vine_sharedport import environment
from vine_sharedport.errors import LaunchError
from vine_sharedport.pool.description import (
    Macro,
    quote_arguments,
    quote_environment,
    quote_path,
    read_items,
)

__all__ = [
    "ADDRESS_FILE",
    "Commands",
    "adapt_to_batch",
    "adapt_to_ce",
    "adapt_to_schedd",
    "read_description",
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


class Commands(MutableMapping[str, str]):
    """Submit commands by name, whatever letters and whichever ``+`` or ``My.`` it has.

    Written out with the spelling of each name's first use: an attribute's spelling gets
    into the file with the job's ad, which the launcher reads.
    """

    def __init__(self) -> None:
        self._items: dict[str, tuple[str, str]] = {}

    def __getitem__(self, name: str) -> str:
        return self._items[_plain(name)][1]

    def __setitem__(self, name: str, value: str) -> None:
        spelled = self._items.get(_plain(name), (name, ""))[0]
        self._items[_plain(name)] = (spelled, value)

    def __delitem__(self, name: str) -> None:
        del self._items[_plain(name)]

    def __iter__(self) -> Iterator[str]:
        return iter([spelled for spelled, _ in self._items.values()])

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _plain(name) in self._items


def read_description(description: str) -> Commands:
    """Return the commands of a submit description that has one in each line."""
    found = Commands()
    for line in description.splitlines():
        name, _, value = line.partition("=")
        if name.strip():
            found[name.strip()] = value.strip()
    return found


def _plain(name: str) -> str:
    """Return a submit command's name as HTCondor compares it."""
    return re.sub(r"^\+\s*", "my.", name.lower())


def take_container(commands: Commands) -> str | None:
    """Remove what asks for a container, and return its image."""
    universe = commands.get("universe", "vanilla").lower()
    images = [commands.pop(name, None) for name in ("container_image", "docker_image")]
    commands["universe"] = "grid"
    if universe not in ("vanilla", "container", "docker", "grid"):
        raise LaunchError(
            f"universe is {universe!r}, which no grid resource takes; leave it away"
        )
    image = images[0] or (images[1] and f"docker://{images[1].split('://')[-1]}")
    return image or None


def adapt_to_schedd(commands: Commands, image: str | None, *, ce: bool) -> None:
    """Tell another schedd what the job is there.

    All attributes of the job go with it, but for those that are the first schedd's own
    business; the ones named ``remote_X`` arrive as ``X``. The files go to its spool.

    Source: HTCondor's manual, "HTCondor-C"; ``CondorJob::buildSubmitAd``.
    """
    # A CE has no machines of its own: its routes decide.
    needs = [] if ce else ['TARGET.OpSys == "LINUX"', "TARGET.HasFileTransfer"]
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
            paths = [*_read_paths(commands), image]
            commands["transfer_input_files"] = ", ".join(paths)
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
        schemes = {path.split("://")[0] for path in _read_paths(commands) if "://" in path}
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
    for name, value in remote.items():
        commands.setdefault(f"My.remote_{name}", value)


def adapt_to_ce(commands: Commands, grid: str, directory: str) -> None:
    """Tell a CE in its own words how much the job needs.

    A CE hands the job to its pool, or to its batch system by blahp, which one cannot tell.

    Source: HTCondor-CE's ``config/01-ce-router-defaults.conf``: ``RequestMemory`` is not
    looked at, ``xcount`` becomes the batch system's cores, ``maxMemory`` its megabytes.
    """
    for command, attribute in (
        ("request_cpus", "xcount"),
        ("request_memory", "maxMemory"),
        ("batch_runtime", "BatchRuntime"),
    ):
        if command in commands and f"My.{attribute}" not in commands:
            commands.setdefault(f"My.remote_{attribute}", commands[command])
    if "batch_queue" in commands:
        queue = commands["batch_queue"].strip('"')
        commands.setdefault("My.remote_queue", f'"{queue}"')
    for command in ("batch_runtime", "batch_queue"):
        commands.pop(command, None)
    _adapt_to_blahp(commands, grid, directory)


def adapt_to_batch(commands: Commands, grid: str, directory: str) -> None:
    """Tell blahp what the job is.

    Source: ``INFNBatchJob::buildSubmitAd`` for what it is told at all; the scripts
    ``*_submit.sh`` of blahp for what becomes of it.
    """
    if commands.pop("requirements", None):
        raise LaunchError(
            f"{grid!r} knows no requirements; choose nodes with the submit commands "
            "batch_queue, batch_project and batch_extra_submit_args"
        )
    cores = commands.get("request_cpus", "1")
    # request_cpus is not among what blahp is told. Both, or Slurm may spread the cores
    # over several nodes.
    commands.setdefault("My.NodeNumber", cores)
    commands.setdefault("My.SMPGranularity", cores)
    runtime = commands.get("batch_runtime", "")
    arguments = read_items(commands.get("arguments", ""))
    if runtime.isdigit() and not any(item.startswith("--wall-time") for item in arguments):
        # Not every batch system tells the job this limit. As in the launcher: a tenth of
        # it, at most five minutes, to say goodbye.
        margin = min(int(runtime) // 10, 300)
        arguments += ["--wall-time", str(max(int(runtime) - margin, 1))]
        commands["arguments"] = quote_arguments(arguments)
    _adapt_to_blahp(commands, grid, directory)
    for path in (*_read_paths(commands), *map(commands.get, ("executable", "output", "error"))):
        if re.search(r"\s", path or ""):
            raise LaunchError(
                f"the path {path!r} has a blank in it, at which {grid!r} cuts it; move the "
                "file, or give the factory another directory"
            )


def _adapt_to_blahp(commands: Commands, grid: str, directory: str) -> None:
    """Keep from blahp what it would not bring unchanged to the job."""
    items = read_items(commands.get("environment", ""))
    variables = dict(item.partition("=")[::2] for item in items)
    address = variables.pop(environment.ADDRESS, None)
    if address is not None:
        # It has an "&" in it.
        path = os.path.join(directory, ADDRESS_FILE)
        with open(path, "w") as file:
            file.write(address + "\n")
        _send_file(commands, path)
        commands["environment"] = quote_environment(variables)
    for name, value in variables.items():
        changed = _BLAHP_CHANGES.search(value)
        if changed:
            raise LaunchError(
                f"the environment variable {name} of the worker is {value!r}, in which "
                f"{grid!r} changes {changed[0]!r}; put it into a file, sent with wrapper_input"
            )
    _send_arguments(commands, grid, directory)


def _send_arguments(commands: Commands, grid: str, directory: str) -> None:
    """Send the worker's arguments as a file if blahp would change one of them."""
    arguments = read_items(commands.get("arguments", ""))
    macros = [item for item in arguments if isinstance(item, Macro)]
    if macros:
        raise LaunchError(
            f"the worker's argument {macros[0]!r} is a macro, for which {grid!r} has no value; "
            "leave it out (or autosize, where it comes from: give cores and memory)"
        )
    if all(map(_PLAIN_ARGUMENT.fullmatch, arguments)):
        return
    content = "".join(f"{argument}\n" for argument in arguments).encode()
    # By its content: jobs that wait keep theirs when an option changes.
    mark = hashlib.sha256(content).hexdigest()[:12]
    path = os.path.join(directory, f"worker-{mark}.arguments")
    with open(path, "wb") as file:
        file.write(content)
    _send_file(commands, path)
    commands["arguments"] = quote_arguments([f"@{os.path.basename(path)}"])


def _send_file(commands: Commands, path: str) -> None:
    """Have one more file sent to the job."""
    paths = [*_read_paths(commands), quote_path(path, in_list=True)]
    commands["transfer_input_files"] = ", ".join(paths)


def _read_paths(commands: Commands) -> list[str]:
    paths = commands.get("transfer_input_files", "").split(",")
    return [path.strip() for path in paths if path.strip()]
