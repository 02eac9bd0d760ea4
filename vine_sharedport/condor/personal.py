"""A personal HTCondor pool with a shared port, for a machine that has none.

Why not ``htcondor2.personal``: it is missing before 25.0, its master outlives a
killed Python, its ``attach`` rewrites the configuration, and it changes the
environment when it is made. The configuration here is much the same.

A pool belongs to the program that started it and ends with it, or stands alone
(``vine_sharedport pool start``) until it is stopped. In both cases a small process,
the guardian, keeps watch; see ``personal_pool.guardian``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from vine_sharedport.condor import bindings
from vine_sharedport.condor.personal_pool import guardian
from vine_sharedport.condor.personal_pool.config import (
    CPUS,
    MEMORY,
    Installation,
    check_size,
    find_installation,
    format_config,
)
from vine_sharedport.condor.personal_pool.directory import (
    check_user,
    command,
    default_directory,
    is_running,
    lock,
    make_private,
    record,
    reserve_port,
    short_lock_dir,
)
from vine_sharedport.condor.personal_pool.status import (
    PoolStatus,
    clean_environment,
    count_ads,
    log_tails,
    pool_status,
)
from vine_sharedport.environment import POOL
from vine_sharedport.errors import PoolError
from vine_sharedport.supervision import isolated_command
from vine_sharedport.trusted_files import absolute

__all__ = ["POLL_INTERVAL", "START_TIMEOUT", "PersonalPool"]

log = logging.getLogger(__name__)

START_TIMEOUT = 60.0
"""Seconds for a pool to be ready: 1.5 on an idle machine of two cores."""

POLL_INTERVAL = 0.05
"""Seconds between two looks at it meanwhile."""

_CONFIG = "condor_config"

# What the collector must know before a job can be submitted and matched.
_WANTED_ADS = {"Scheduler": "schedd", "Machine": "slot", "Negotiator": "negotiator"}


class PersonalPool:
    """A personal pool: one machine, one user, loopback only, its own shared port.

    As a context manager it starts the pool, makes it the one that this process
    and its children use (``CONDOR_CONFIG``), and stops it at the end. The pool ends
    with this process in any case, even by SIGKILL, unless ``detach`` is set.

    Args:
        directory: Where to keep it: short, on a local disk, owned by the user. By
            default a new one below ``tempfile.gettempdir()``, removed at the end.
        cpus: Cores to offer; by default the machine's, but at least 4, so that a
            few workers run at once on a laptop.
        memory: Megabytes to offer, as in ``request_memory``; by default all.
        config: Further HTCondor settings.
        detach: Let the pool stand alone; it runs until ``stop``, and programs of this user
            to which no HTCondor is named may find it.

    Raises:
        SettingError: ``cpus`` or ``memory`` is nothing that a pool can offer.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        cpus: int | None = None,
        memory: int | None = None,
        config: Mapping[str, str] | None = None,
        detach: bool = False,
    ) -> None:
        """Note down what is wanted; nothing happens before ``start``."""
        self._directory = None if directory is None else absolute(directory)
        self._temporary = directory is None
        if cpus is None:
            cpus = max(4, len(os.sched_getaffinity(0)))
        self._cpus = check_size("cpus", cpus, CPUS)
        self._memory = None
        if memory is not None:
            self._memory = check_size("memory", memory, MEMORY, " megabytes")
        self._extra = dict(config or {})
        self._detach = detach
        self._attached = False
        self._state: dict[str, Any] = {}
        self._guardian: subprocess.Popen[bytes] | None = None
        self._starter_pid = os.getpid()
        self._saved_environment: dict[str, str | None] | None = None

    @classmethod
    def find(cls, directory: str | os.PathLike[str] | None = None) -> PersonalPool:
        """Return the pool that runs in this directory, changing nothing of it.

        As a context manager it is used, but neither started nor stopped.

        Args:
            directory: By default the one of ``vine_sharedport pool start``; the configuration
                in it will do, too.

        Raises:
            PoolError: No pool runs there.
        """
        place = default_directory() if directory is None else absolute(directory)
        if os.path.basename(place) == _CONFIG:  # as CONDOR_CONFIG names it
            place = os.path.dirname(place)
        state = guardian.read_state(place)
        if not is_running(place):
            raise PoolError(
                f"no pool runs in {place}; start one with {command('start', place)}"
            )
        pool = cls(place)
        pool._state = state
        pool._attached = True
        return pool

    @property
    def directory(self) -> str:
        """Absolute path of the pool's directory.

        Raises:
            PoolError: There is none before ``start``, unless one was given.
        """
        if self._directory is None:
            raise PoolError("the pool has no directory yet; call start() first, or give one")
        return self._directory

    @property
    def config_file(self) -> str:
        """Path of the pool's HTCondor configuration."""
        return os.path.join(self.directory, _CONFIG)

    @property
    def token(self) -> str:
        """What every process of the pool has in its environment; "" before ``start``."""
        return str(self._state.get("token", ""))

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make HTCondor's tools and bindings use this pool."""
        return {"CONDOR_CONFIG": self.config_file}

    def start(self, *, timeout: float = START_TIMEOUT) -> PersonalPool:
        """Start the pool and wait until a job can be submitted and will be matched.

        Does nothing if it has been started, or is attached. Jobs that an earlier
        pool in the same directory left behind are gone.

        Args:
            timeout: For the pool to be ready, in seconds.

        Raises:
            PoolError: With the cause, the remedy and the end of the daemons' logs.
        """
        if self._state:
            return self
        check_user()
        installation = find_installation()
        # Directories that exist for this pool alone, and go with it.
        made: list[str] = []
        if self._temporary:
            self._directory = tempfile.mkdtemp(prefix="vine-pool-")
        if self._temporary or self.directory == default_directory():
            made.append(self.directory)
        make_private(self.directory)
        lock_fd = lock(self.directory)
        port = reserve_port()
        try:
            # What a guardian that was killed has left. The directory itself stays.
            guardian.stop_processes(
                self.directory, {**guardian.read_state(self.directory), "remove": []}
            )
            lock_dir = short_lock_dir(self.directory)
            if os.path.dirname(lock_dir) != self.directory:
                made.append(lock_dir)
            self._state = {
                "lock_dir": lock_dir,
                "owner": None if self._detach else os.getpid(),
                "remove": made,
                "cpus": self._cpus,
                "memory": self._memory,
                "status": installation.status,
                "programs": [installation.bin, installation.sbin],
                "token": secrets.token_hex(16),
            }
            self._prepare(installation, port.getsockname()[1])
            self._launch(installation, (lock_fd, port.fileno()))
        except BaseException:
            guardian.clean_up(self.directory, {"remove": made})
            self._state = {}
            raise
        finally:
            # The guardian holds both from here on.
            os.close(lock_fd)
            port.close()
        try:
            self.wait_until_ready(timeout)
        except BaseException:
            self.stop()
            raise
        if self._detach:
            record(self.directory)
        # Who asked for one that stands alone tells the user of it.
        level = logging.DEBUG if self._detach else logging.INFO
        log.log(level, "personal pool started directory=%s", self.directory)
        return self

    def stop(self) -> None:
        """Stop the pool; return when no process of it is left.

        Jobs are killed. Does nothing if the pool is not running, or in a forked
        child of the process that started it.

        Raises:
            PoolError: A process could not be killed.
        """
        if not self._state or os.getpid() != self._starter_pid:
            return
        state = self._state
        if self._guardian is not None:
            # The guardian's order to stop is the end of this pipe.
            if self._guardian.stdin is not None:
                self._guardian.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._guardian.wait(guardian.STOP_TIMEOUT)
        # One that stands alone has noted down its own number since.
        guardian.stop_processes(
            self.directory, {**guardian.read_state(self.directory), **state}
        )
        if self._guardian is not None:
            self._guardian.wait()
        self._guardian = None
        self._state = {}
        log.info("personal pool stopped directory=%s", self.directory)

    @property
    def programs(self) -> tuple[str, ...]:
        """The directories of HTCondor's programs; none before ``start``."""
        return tuple(self._state.get("programs", ()))

    def status(self) -> PoolStatus:
        """Return what there is of the pool."""
        return pool_status(self.directory)

    def activate(self) -> None:
        """Make this the pool of the present process and its future children.

        Sets ``CONDOR_CONFIG``, takes away ``_CONDOR_…`` variables, which would win
        over the pool's own settings, and lets loaded bindings read it.
        """
        if self._saved_environment is None:
            self._saved_environment = bindings.use_environment(self.environment)

    def deactivate(self) -> None:
        """Undo ``activate``."""
        if self._saved_environment is not None:
            saved, self._saved_environment = self._saved_environment, None
            bindings.restore_environment(saved)

    def __enter__(self) -> PersonalPool:
        """Start and activate."""
        self.start()
        self.activate()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Deactivate and stop; an attached or detached pool goes on.

        What cannot be stopped is warned of: the program's own result or exception stays.
        """
        try:
            self.deactivate()
            if not self._attached and not self._detach:
                self.stop()
        except Exception as failed:
            log.warning(
                "the personal pool may still run: %s; stop it by '%s'",
                failed, command("stop", self.directory),
            )  # fmt: skip

    def __repr__(self) -> str:
        """Show where it is and whether it was started."""
        state = "attached" if self._attached else "started" if self._state else "not started"
        return f"<PersonalPool {self._directory or 'without directory'}: {state}>"

    def _prepare(self, installation: Installation, port: int) -> None:
        """Write the configuration and the notes, make the directories."""
        lock_dir = self._state["lock_dir"]
        for path in (
            *(os.path.join(self.directory, name) for name in (*guardian.EPHEMERAL, "log")),
            *(
                os.path.join(self.directory, f"{name}.d")
                for name in ("passwords", "tokens", "system_tokens")
            ),
            os.path.join(lock_dir, "daemon_sock"),
        ):
            os.makedirs(path, mode=0o700, exist_ok=True)
        text = format_config(
            installation,
            self.directory,
            lock_dir,
            port=port,
            cpus=self._cpus,
            memory=self._memory,
            job_environment={POOL: self._state["token"]},
            extra=self._extra,
        )
        Path(self.config_file).write_text(text)
        guardian.write_state(self.directory, self._state)

    def _launch(self, installation: Installation, kept: tuple[int, ...]) -> None:
        """Start the guardian, which starts ``condor_master``."""
        if not sys.executable:
            raise PoolError(
                "sys.executable is empty: this program embeds Python; start the pool with "
                f"{command('start', self.directory)} and use PersonalPool.find()"
            )
        argv = isolated_command(guardian.__name__, "--directory", self.directory)
        argv += ["--master", installation.master]
        argv += ["--keep", *map(str, kept)]
        if not self._detach:
            argv += ["--parent", str(os.getpid())]
        environment = clean_environment()
        environment.update(self.environment)
        environment[POOL] = self._state["token"]
        with open(os.path.join(self.directory, "log", "GuardianLog"), "ab") as output:
            self._guardian = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL if self._detach else subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=kept,
                env=environment,
                # The terminal's Ctrl-C is for the program, which then says stop.
                start_new_session=True,
                cwd="/",
            )

    def wait_until_ready(self, timeout: float) -> None:
        """Poll until the daemons' ads are there."""
        deadline = time.monotonic() + timeout
        address_files = (
            os.path.join(self._state["lock_dir"], "shared_port_ad"),
            os.path.join(self.directory, "log", ".schedd_address"),
        )
        missing = list(_WANTED_ADS.values())
        while time.monotonic() < deadline:
            state = guardian.read_state(self.directory)
            if self._ended_early(state):
                raise PoolError(
                    f"condor_master in {self.directory} ended by itself; "
                    f"the logs say:\n{log_tails(self.directory)}"
                )
            # Cheaper than the tool, and it comes first.
            if all(map(os.path.exists, address_files)):
                ads = count_ads(state["status"], self.config_file)
                missing = [word for kind, word in _WANTED_ADS.items() if kind not in ads]
                if not missing:
                    return
            time.sleep(POLL_INTERVAL)
        raise PoolError(
            f"the pool in {self.directory} is not ready after {timeout:g} s: no "
            f"{', no '.join(missing)} yet; try a longer timeout on a busy machine; "
            f"the logs say:\n{log_tails(self.directory)}"
        )

    def _ended_early(self, state: dict[str, Any]) -> bool:
        """Whether the guardian or the master is gone already."""
        code = None if self._guardian is None else self._guardian.poll()
        if code is not None and (code != 0 or not self._detach):
            return True
        return "master" in state and guardian.noted_process(state, "master") is None
