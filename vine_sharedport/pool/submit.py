"""Workers as HTCondor jobs that find their way back to the manager."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import vine_sharedport.worker
from vine_sharedport.errors import LaunchError
from vine_sharedport.pool import _htcondor
from vine_sharedport.pool.description import (
    format_description,
    quote_arguments,
    quote_environment,
    quote_path,
)
from vine_sharedport.wire.handoff import check_sock_id
from vine_sharedport.wire.sinful import Sinful
from vine_sharedport.worker.bundle import write_package
from vine_sharedport.worker.launch import ADDRESS_VARIABLE, SECRET_VARIABLE

__all__ = ["JobStates", "WorkerJobs", "describe_workers", "submit_workers"]

log = logging.getLogger(__name__)

_PACKAGE = "vine_sharedport.pyz"
# JobStatus in HTCondor's manual, appendix "Job ClassAd Attributes".
_IDLE, _RUNNING, _REMOVED, _COMPLETED, _HELD = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class JobStates:
    """How many of the worker jobs are in which state.

    Attributes:
        idle: Waiting for a machine.
        running: At work, or transferring their files.
        held: Stopped by HTCondor until somebody acts; see ``hold_reasons``.
        ended: Ended or removed.
        hold_reasons: HTCondor's reasons, each once.
    """

    idle: int = 0
    running: int = 0
    held: int = 0
    ended: int = 0
    hold_reasons: tuple[str, ...] = ()

    @property
    def left(self) -> int:
        """Jobs that have not ended."""
        return self.idle + self.running + self.held


@dataclass(frozen=True)
class WorkerJobs:
    """One submission of worker jobs; a context manager that removes what is left.

    Attributes:
        cluster: HTCondor's number of the submission; ``condor_q CLUSTER`` shows it.
        count: Jobs submitted.
        directory: Where the jobs' output, errors and event log are.
        description: The submit description as text.
    """

    cluster: int
    count: int
    directory: str
    description: str = field(repr=False)

    def __enter__(self) -> WorkerJobs:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.remove()

    def states(self) -> JobStates:
        """Ask the schedd what has become of the jobs.

        Raises:
            LaunchError: The schedd does not answer.
        """
        htcondor2 = _htcondor.load()
        with _schedd_errors(htcondor2, "ask for the worker jobs"):
            ads = htcondor2.Schedd().query(
                constraint=f"ClusterId == {self.cluster}",
                projection=["JobStatus", "HoldReason"],
            )
        numbers = [int(ad["JobStatus"]) for ad in ads]
        gone = sum(number in (_REMOVED, _COMPLETED) for number in numbers)
        held = numbers.count(_HELD)
        idle = numbers.count(_IDLE)
        return JobStates(
            idle=idle,
            running=len(numbers) - gone - held - idle,
            held=held,
            ended=self.count - len(numbers) + gone,
            hold_reasons=tuple(
                sorted(
                    {str(ad.get("HoldReason")) for ad in ads if int(ad["JobStatus"]) == _HELD}
                )
            ),
        )

    def remove(self, *, timeout: float = 30.0) -> None:
        """Remove the jobs that are left and wait until they are gone. Idempotent.

        Args:
            timeout: Seconds to wait for running jobs to end.

        Raises:
            LaunchError: The schedd does not answer, or the jobs stay.
        """
        htcondor2 = _htcondor.load()
        constraint = f"ClusterId == {self.cluster}"
        with _schedd_errors(htcondor2, "remove the worker jobs"):
            schedd = htcondor2.Schedd()
            if not schedd.query(constraint=constraint, projection=["ClusterId"]):
                return
            schedd.act(
                htcondor2.JobAction.Remove, constraint, reason="removed by vine_sharedport"
            )
            deadline = time.monotonic() + timeout
            while schedd.query(constraint=constraint, projection=["ClusterId"]):
                if time.monotonic() > deadline:
                    raise LaunchError(
                        f"jobs of cluster {self.cluster} are still there {timeout:g} s after "
                        f"their removal; look with 'condor_q {self.cluster}'"
                    )
                time.sleep(0.2)


def submit_workers(
    manager: Any,
    count: int = 1,
    *,
    cores: int | None = None,
    memory: int | None = None,
    disk: int | None = None,
    timeout: int | None = None,
    worker: str | None = None,
    worker_options: Sequence[str] = (),
    password_file: str | None = None,
    secret_file: str | None = None,
    directory: str | None = None,
    commands: Mapping[str, str | int] | None = None,
) -> WorkerJobs:
    """Submit workers of a manager as HTCondor jobs.

    The manager's address goes with them in their environment, the worker's program and
    this package as files; nothing needs to be installed on the execute point but a
    Python 3.9 or later and the shared libraries of the worker.

    Args:
        manager: A manager made with ``shared_port=``, or the address of one.
        count: Number of workers.
        cores: Cores of each worker and of its slot; 1 by default.
        memory: MB of each worker and of its slot; the pool's default for the slot.
        disk: MB of each worker and of its slot; the pool's default for the slot.
        timeout: Seconds without work after which a worker ends.
        worker: Program to run, a path or a name on PATH; ``work_queue_worker`` for a
            Work Queue, else ``vine_worker``, by default.
        worker_options: Further options of the worker.
        password_file: The manager's password file, sent along as a file.
        secret_file: The manager's secret, sent along as a file; known to the manager,
            needed only where its address stands in its place.
        directory: For the jobs' logs; below the manager's own logs by default.
        commands: Further submit commands, such as ``{"requirements": "..."}``; they
            win over ours.

    Returns:
        The jobs.

    Raises:
        LaunchError: The manager has no shared port, the worker's program is missing,
            or the schedd does not take the jobs.
        DiscoveryError: HTCondor is not configured here.
    """
    if not isinstance(count, int) or count < 1:
        raise LaunchError(f"cannot submit {count!r} workers; give a count of 1 or more")
    address = _address_of(manager)  # before anything is made
    htcondor2 = _htcondor.load()
    directory = _make_directory(manager, directory)
    description = describe_workers(
        manager,
        directory,
        cores=cores,
        memory=memory,
        disk=disk,
        timeout=timeout,
        worker=worker,
        worker_options=worker_options,
        password_file=password_file,
        secret_file=secret_file,
        commands=commands,
    )
    write_package(os.path.join(directory, _PACKAGE))
    with _schedd_errors(htcondor2, "submit the worker jobs"):
        result = htcondor2.Schedd().submit(htcondor2.Submit(description), count=count)
    jobs = WorkerJobs(int(result.cluster()), count, directory, description)
    log.info(
        "submitted %d workers cluster=%d manager=%s logs=%s",
        count,
        jobs.cluster,
        address.sock,
        directory,
    )
    return jobs


def describe_workers(
    manager: Any,
    directory: str,
    *,
    cores: int | None = None,
    memory: int | None = None,
    disk: int | None = None,
    timeout: int | None = None,
    worker: str | None = None,
    worker_options: Sequence[str] = (),
    password_file: str | None = None,
    secret_file: str | None = None,
    commands: Mapping[str, str | int] | None = None,
) -> str:
    """Return the submit description that ``submit_workers`` uses; submits nothing.

    The arguments are those of ``submit_workers``.
    """
    address = _address_of(manager)
    if worker is None:
        worker = "work_queue_worker" if hasattr(manager, "_work_queue") else "vine_worker"
    program = shutil.which(worker)
    if program is None:
        raise LaunchError(
            f"there is no worker program {worker!r} here to send along; give its path with "
            "worker=, or put its directory on PATH"
        )
    inputs = [os.path.join(directory, _PACKAGE), os.path.realpath(program)]
    cores = 1 if cores is None else cores
    for what, value in (("cores", cores), ("memory", memory), ("disk", disk)):
        if value is not None and value < 1:
            raise LaunchError(f"cannot submit workers with {what}={value}; give 1 or more")
    options = ["--cores", str(cores)]
    resources: dict[str, str | int] = {"request_cpus": cores}
    if memory is not None:
        options += ["--memory", str(memory)]
        resources["request_memory"] = memory
    if disk is not None:
        options += ["--disk", str(disk)]
        resources["request_disk"] = f"{disk * 1024}"  # in KiB
    if timeout is not None:
        options += ["--timeout", str(timeout)]
    if getattr(manager, "_using_ssl", False):
        options.append("--ssl")
    if password_file is not None:
        inputs.append(os.path.abspath(password_file))
        options += ["--password", os.path.basename(password_file)]
    environment = {ADDRESS_VARIABLE: str(address)}
    link = getattr(manager, "shared_port", None)
    secret_file = secret_file or getattr(link, "secret_file", None)
    if secret_file is not None:
        # The job's environment is public; a file of mode 0600 stays so on the way.
        inputs.append(os.path.abspath(secret_file))
        environment[SECRET_VARIABLE] = os.path.basename(secret_file)
    for path in inputs[1:]:  # nothing is checked at submit: a missing file is a held job
        if not os.access(path, os.R_OK):
            raise LaunchError(f"the file {path} is not there, or cannot be read")
    launcher = os.path.join(os.path.dirname(vine_sharedport.worker.__file__), "launcher.sh")
    arguments = [_PACKAGE, os.path.basename(inputs[1]), *options, *worker_options]
    logs = os.path.join(quote_path(directory), "$(Cluster).$(Process)")
    described: dict[str, str | int] = {
        "universe": "vanilla",
        "executable": quote_path(launcher),
        "arguments": quote_arguments(arguments),
        "environment": quote_environment(environment),
        "transfer_input_files": ", ".join(quote_path(path, in_list=True) for path in inputs),
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_output_files": '""',  # the workspace stays on the execute point
        **resources,
        "output": f"{logs}.out",
        "error": f"{logs}.err",
        "log": os.path.join(quote_path(directory), "workers.log"),
        "batch_name": f"workers of {address.sock}",
        "My.VineSharedPort": f'"{address.sock}"',
        **(commands or {}),
    }
    return format_description(described)


def _address_of(manager: Any) -> Sinful:
    """Return where the workers shall connect."""
    if isinstance(manager, (str, Sinful)):
        address = Sinful.parse(manager) if isinstance(manager, str) else manager
    else:
        link = getattr(manager, "shared_port", None)
        if link is None:
            raise LaunchError(
                "the manager has no shared port; make it with vine.Manager(shared_port=True)"
            )
        address = link.address
    if address.sock is None:
        raise LaunchError(f"the address {address} names no manager: it has no sock= parameter")
    check_sock_id(address.sock)
    return address


def _make_directory(manager: Any, directory: str | None) -> str:
    if directory is not None:
        os.makedirs(directory, exist_ok=True)
        return os.path.abspath(directory)
    logs = getattr(manager, "logging_directory", None) or os.getcwd()
    return tempfile.mkdtemp(prefix="workers-", dir=os.path.abspath(logs))


@contextlib.contextmanager
def _schedd_errors(htcondor2: Any, what: str) -> Any:
    try:
        yield
    except LaunchError:
        raise
    except _htcondor.failures(htcondor2) as error:
        raise LaunchError(
            f"cannot {what}: {error}; is the schedd running ('condor_q')?"
        ) from error
