"""Workers as HTCondor jobs that find their way back to the manager."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from vine_sharedport.bundle.package import PACKAGE, write_package
from vine_sharedport.bundle.worker_program import read_program
from vine_sharedport.condor import bindings, machines
from vine_sharedport.condor.own_pool import use_own_pool
from vine_sharedport.condor.schedd import Schedd
from vine_sharedport.condor.worker_job.converters import to_integer
from vine_sharedport.condor.worker_job.description import (
    describe_workers,
    find_worker,
)
from vine_sharedport.condor.worker_job.options import WorkerOptions
from vine_sharedport.errors import ScheddError, SettingError
from vine_sharedport.registry.reference import Reference
from vine_sharedport.trusted_files import absolute, check_working_directory

__all__ = ["JobStates", "WorkerJobs", "describe_workers", "said_after_ctrl_c", "submit_workers"]

log = logging.getLogger(__name__)

# Submit commands with which the pool's machines say nothing about where a worker will run:
# chosen by the user, in a container, or beyond a gateway.
_ELSEWHERE = {"requirements", "container_image", "docker_image", "universe", "grid_resource"}

# Seconds after which who has pressed Ctrl-C wonders.
_PATIENCE = 1.0

# JobStatus in HTCondor's manual, appendix "Job ClassAd Attributes".
_IDLE, _RUNNING, _REMOVED, _COMPLETED, _HELD = 1, 2, 3, 4, 5


@contextlib.contextmanager
def said_after_ctrl_c(kind: type[BaseException] | None, what: str) -> Iterator[None]:
    """Say what a program does that does not end at once by Ctrl-C."""
    timer = threading.Timer(_PATIENCE, log.warning, (what,))
    timer.daemon = True
    if kind is not None and issubclass(kind, KeyboardInterrupt):
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


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
        """Return itself; at the end what cannot be removed is warned of, and nothing raised."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with said_after_ctrl_c(kind, f"removing the worker jobs of cluster {self.cluster} ..."):
            try:
                self.remove()
            except Exception as error:  # the program's own result or exception is worth more
                log.warning(
                    "the worker jobs of cluster %d may still be there: %s; remove them by "
                    "'condor_rm %d'",
                    self.cluster, error, self.cluster,
                )  # fmt: skip

    def status(self) -> JobStates:
        """Ask the schedd what has become of the jobs.

        Raises:
            ScheddError: The schedd does not answer.
        """
        ads = Schedd().query(self._constraint, ["JobStatus", "HoldReason"])
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
            ScheddError: The schedd does not answer, or the jobs stay.
        """
        schedd = Schedd()
        if not schedd.query(self._constraint, ["ClusterId"]):
            return
        schedd.act("remove", self._constraint, "removed by vine_sharedport")
        deadline = time.monotonic() + timeout
        while schedd.query(self._constraint, ["ClusterId"]):
            if time.monotonic() > deadline:
                raise ScheddError(
                    f"jobs of cluster {self.cluster} are still there {timeout:g} s after "
                    f"their removal; look with 'condor_q {self.cluster}'"
                )
            time.sleep(0.2)

    @property
    def _constraint(self) -> str:
        return f"ClusterId == {self.cluster}"


def submit_workers(
    manager: object,
    count: int = 1,
    *,
    cores: float | str | None = None,
    memory: float | str | None = None,
    disk: float | str | None = None,
    gpus: float | str | None = None,
    timeout: float | str | None = None,
    worker_binary: str | os.PathLike[str] | None = None,
    extra_options: str | Sequence[str] | None = None,
    env: str | Mapping[str, str] | Sequence[str] | None = None,
    password_file: str | None = None,
    secret_file: str | None = None,
    container_image: str | None = None,
    python_env: str | None = None,
    directory: str | None = None,
    commands: Mapping[str, str | int] | None = None,
) -> WorkerJobs:
    """Submit workers of a manager as HTCondor jobs.

    The worker's program travels as a file, with a launcher and the library that takes it
    through the shared port; the manager's address goes in the job's environment, its
    secret as a file. An execute point needs a shell and what the worker itself needs;
    ``docs/workers.md`` has the details.

    Args:
        manager: A manager made with ``shared_port=``, its ``shared_port.reference``, or the
            address of one.
        count: Number of workers.
        cores: Cores of each worker and of its slot; 1 by default.
        memory: MB of each worker and of its slot, or such as ``"2GB"``; the pool's default
            for the slot.
        disk: The same.
        gpus: GPUs of each worker and of its slot.
        timeout: Seconds without work after which a worker ends, or such as ``"10m"``.
        worker_binary: Program to run, a path or a name on PATH; ``work_queue_worker`` for a
            Work Queue, else ``vine_worker``, by default. With ``container_image``, one
            that is not here is one of the image's.
        extra_options: Further options of the worker: words, or text quoted as for a shell.
        env: Environment variables of the workers, as ``{"A": "1"}``. They are public.
        password_file: The manager's password file, sent along as a file; like its secret,
            needed only where its address stands in its place.
        secret_file: The manager's secret, sent along as a file.
        container_image: Image to run the worker in, as HTCondor's command of that name
            takes it: ``osdf:///...sif``, ``docker://...``, a file or a directory. If the
            worker that travels does not run there, the image's own ``vine_worker`` does.
        python_env: Tarball of a Python environment (``poncho_package_create``,
            ``conda-pack``), or a URL of one that HTCondor can transfer; sent along,
            unpacked and activated for the worker and its tasks.
        directory: For the jobs' logs; by default below the manager's own logs, or where
            its secret is.
        commands: Further submit commands, such as ``{"requirements": "..."}``; they
            win over ours.

    Returns:
        The jobs.

    Raises:
        SettingError: The manager has no shared port, a value is none for its option, or a
            file is missing or is not what it should be.
        ScheddError: The schedd does not take the jobs.
        DiscoveryError: HTCondor is not configured here.

    HTCondor is the one that ``discover`` finds.
    """
    if isinstance(manager, int) and not isinstance(count, int):
        raise SettingError(
            "the manager comes first, and then the number of workers: write "
            f"submit_workers(MANAGER, {manager}) with your manager's name for MANAGER"
        )
    count = to_integer(1, "workers")("count", count)
    worker = WorkerOptions.of(
        cores=cores, memory=memory, disk=disk, gpus=gpus, timeout=timeout,
        worker_binary=worker_binary, extra_options=extra_options, env=env,
        container_image=container_image, python_env=python_env, commands=commands,
    )  # fmt: skip
    reference = Reference.of(manager, secret_file=secret_file, password_file=password_file)
    use_own_pool()
    htcondor2 = bindings.load()
    directory = _make_directory(reference, directory)
    description = describe_workers(reference, directory, worker)
    here = not any(name.lower() in _ELSEWHERE for name, _ in worker.commands)
    if container_image is None and here:
        _, program = find_worker(reference, worker)
        if program is not None:
            _warn_of_older_machines(htcondor2, program)
    if here:
        found = machines.query_too_large(htcondor2, description.commands)
        if found is not None:
            log.warning(
                "the workers will wait for ever: %s; give %s=%d",
                found.explanation, found.option, found.most,
            )  # fmt: skip
    write_package(os.path.join(directory, PACKAGE))
    cluster = Schedd().submit(description, count)
    jobs = WorkerJobs(cluster, count, directory, description.format())
    log.info(
        "submitted %d workers cluster=%d manager=%s logs=%s",
        count,
        jobs.cluster,
        reference.sock_id,
        directory,
    )
    return jobs


@functools.cache  # once for a program: a factory submits again and again
def _warn_of_older_machines(htcondor2: Any, path: str) -> None:
    """Warn if machines of this pool have a glibc that is too old for the worker.

    They are not left out by a requirement of ours: what they tell is the system that
    HTCondor's daemon runs in, which may not be the job's.
    """
    program = read_program(path)
    if program is None or program.glibc is None:
        return
    slots, older = machines.query_older_systems(htcondor2, program.glibc)
    if older:
        log.warning(
            "the worker %s %s, and %d of the pool's %d slots have an older one (%s): workers "
            "end there with status 127; leave them out with commands={'requirements': ...}, "
            "give a worker_binary= that was built on an older system, or a container_image=",
            path,
            program,
            sum(count for count, _ in older.values()),
            slots,
            ", ".join(
                f"{system}: glibc {glibc[0]}.{glibc[1]}" for system, (_, glibc) in older.items()
            ),
        )


def _make_directory(manager: Reference, directory: str | None) -> str:
    # Of a manager elsewhere only the address is known.
    base = directory or manager.directory or "."
    if not os.path.isabs(base):
        check_working_directory("make the directory of the jobs' logs")
    base = absolute(base)
    try:
        if directory is None:
            return tempfile.mkdtemp(prefix="workers-", dir=base)
        os.makedirs(base, exist_ok=True)
    except OSError as error:
        raise SettingError(
            f"cannot make the directory of the jobs' logs in {base}: {error.strerror}; give "
            "another directory="
        ) from error
    return base
