"""A personal HTCondor pool with a shared port, for a machine that has none.

Why not ``htcondor2.personal``: it is missing before 25.0, its master outlives a
killed Python, its ``attach`` rewrites the configuration, and it changes the
environment when it is made. The configuration here is much the same.

A pool belongs to the program that started it and ends with it, or stands alone
(``vine_sharedport pool start``) until it is stopped. In both cases a small process,
the guardian, keeps watch; see ``_guardian``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from vine_sharedport.errors import PoolError, SinfulError
from vine_sharedport.link.ad_file import parse_my_address
from vine_sharedport.pool import _guardian, _htcondor
from vine_sharedport.pool._pool_config import Installation, find_installation, format_config

__all__ = [
    "PersonalPool",
    "PoolStatus",
    "default_directory",
    "pool_status",
    "start_pool",
    "stop_pool",
    "usage_text",
]

log = logging.getLogger(__name__)

# In characters: with a longer directory, a sock id of 41 characters no longer fits
# a socket's path (107) in <directory>/lock/daemon_sock/.
_MAX_DIRECTORY = 48

# A pool is ready in 1.5 s on an idle machine of two cores.
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 30.0
_POLL_INTERVAL = 0.05

# What the collector must know before a job can be submitted and matched.
_WANTED_ADS = {"Scheduler": "schedd", "Machine": "slot", "Negotiator": "negotiator"}

_LOGS = ("GuardianLog", "MasterLog", "SharedPortLog", "CollectorLog", "SchedLog", "StartLog")
_LOG_LINES = 8


@dataclass(frozen=True)
class PoolStatus:
    """What there is of a personal pool.

    Attributes:
        running: Whether its master runs.
        directory: Where it is, or would be.
        config_file: Its configuration, for ``CONDOR_CONFIG``; None if not running.
        address: The shared port's address; None if not running.
        owner: Process id of the program it ends with; None if it stands alone.
        processes: Its processes, as ``(pid, name)``.
        ads: How many ads of each type its collector has.
    """

    running: bool
    directory: str
    config_file: str | None = None
    address: str | None = None
    owner: int | None = None
    processes: tuple[tuple[int, str], ...] = ()
    ads: Mapping[str, int] | None = None


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
        detach: Let the pool stand alone; it runs until ``stop``.
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
        self._directory = None if directory is None else os.path.abspath(directory)
        self._cpus = max(4, len(os.sched_getaffinity(0))) if cpus is None else cpus
        self._memory = memory
        self._extra = dict(config or {})
        self._detach = detach
        self._attached = False
        self._token = ""
        self._state: dict[str, Any] = {}
        self._guardian: subprocess.Popen[bytes] | None = None
        self._starter_pid = os.getpid()
        self._saved_environment: dict[str, str | None] | None = None

    @classmethod
    def attach(cls, directory: str | os.PathLike[str] | None = None) -> PersonalPool:
        """Return the pool that runs in this directory, changing nothing of it.

        As a context manager it is used, but neither started nor stopped.

        Args:
            directory: By default the one of ``vine_sharedport pool start``.

        Raises:
            PoolError: No pool runs there.
        """
        place = default_directory() if directory is None else os.path.abspath(directory)
        state = _guardian.read_state(place)
        if _guardian.noted_process(state, "master") is None:
            raise PoolError(
                f"no pool runs in {place}; start one with {_command('start', place)}"
            )
        pool = cls(place)
        pool._state = state
        pool._token = state["token"]
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
        return os.path.join(self.directory, "condor_config")

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make HTCondor's tools and bindings use this pool."""
        return {"CONDOR_CONFIG": self.config_file}

    def start(self, *, timeout: float = _START_TIMEOUT) -> PersonalPool:
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
        _check_user()
        installation = find_installation()
        made = self._directory is None
        if self._directory is None:
            self._directory = tempfile.mkdtemp(prefix="vine-pool-")
        directory = self._directory
        if not made and directory == default_directory():
            made = True
        _make_private(directory)
        lock_fd = _lock(directory)
        try:
            # What a guardian that was killed has left. The directory itself stays.
            _stop_processes(directory, {**_guardian.read_state(directory), "remove": []})
            self._state = {
                "directory": directory,
                "lock_dir": _lock_dir(directory),
                "owner": None if self._detach else os.getpid(),
                "status": installation.status,
                "token": secrets.token_hex(16),
            }
            made_dirs = [directory] if made else []
            if os.path.dirname(self._state["lock_dir"]) != directory:
                made_dirs.append(self._state["lock_dir"])
            self._state["remove"] = made_dirs
            self._prepare(installation)
            self._launch(installation, lock_fd)
        except BaseException:
            if self._state:
                _guardian.clean_up(directory, self._state)
            self._state = {}
            raise
        finally:
            os.close(lock_fd)
        try:
            self._wait_until_ready(timeout)
        except BaseException:
            self.stop()
            raise
        log.info("personal pool started directory=%s", directory)
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
                self._guardian.wait(_STOP_TIMEOUT)
        # One that stands alone has noted down its own number since.
        _stop_processes(self.directory, {**_guardian.read_state(self.directory), **state})
        if self._guardian is not None:
            self._guardian.wait()
        self._guardian = None
        self._state = {}
        log.info("personal pool stopped directory=%s", self.directory)

    def status(self) -> PoolStatus:
        """Return what there is of the pool."""
        return pool_status(self.directory)

    def activate(self) -> None:
        """Make this the pool of the present process and its future children.

        Sets ``CONDOR_CONFIG``, takes away ``_CONDOR_…`` variables, which would win
        over the pool's own settings, and lets loaded bindings read it.
        """
        if self._saved_environment is not None:
            return
        changed = [name for name in os.environ if name.upper().startswith("_CONDOR_")]
        changed += self.environment
        self._saved_environment = {name: os.environ.get(name) for name in changed}
        for name in changed:
            os.environ.pop(name, None)
        os.environ.update(self.environment)
        _htcondor.refresh()

    def deactivate(self) -> None:
        """Undo ``activate``."""
        if self._saved_environment is None:
            return
        for name, value in self._saved_environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._saved_environment = None
        _htcondor.refresh()

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
        """Deactivate and stop; an attached or detached pool goes on."""
        self.deactivate()
        if not self._attached and not self._detach:
            self.stop()

    def __repr__(self) -> str:
        """Show where it is and whether it was started."""
        state = "attached" if self._attached else "started" if self._state else "not started"
        return f"<PersonalPool {self._directory or 'without directory'}: {state}>"

    def _prepare(self, installation: Installation) -> None:
        """Write the configuration and the notes, make the directories."""
        lock_dir = self._state["lock_dir"]
        for path in (
            *(os.path.join(self.directory, name) for name in (*_guardian.EPHEMERAL, "log")),
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
            cpus=self._cpus,
            memory=self._memory,
            job_environment={_guardian.POOL_VARIABLE: self._state["token"]},
            extra=self._extra,
        )
        Path(self.config_file).write_text(text)
        _guardian.write_state(self.directory, self._state)

    def _launch(self, installation: Installation, lock_fd: int) -> None:
        """Start the guardian, which starts ``condor_master``."""
        if not sys.executable:
            raise PoolError(
                "sys.executable is empty: this program embeds Python; start the pool with "
                f"{_command('start', self.directory)} and use PersonalPool.attach()"
            )
        command = [sys.executable, "-I", "-S", _guardian.__file__]
        command += ["--directory", self.directory, "--master", installation.master]
        command += ["--lock-fd", str(lock_fd)]
        if not self._detach:
            command += ["--parent", str(os.getpid())]
        environment = _clean_environment()
        environment.update(self.environment)
        environment[_guardian.POOL_VARIABLE] = self._state["token"]
        with open(os.path.join(self.directory, "log", "GuardianLog"), "ab") as output:
            self._guardian = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if self._detach else subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(lock_fd,),
                env=environment,
                # The terminal's Ctrl-C is for the program, which then says stop.
                start_new_session=True,
                cwd="/",
            )

    def _wait_until_ready(self, timeout: float) -> None:
        """Poll until the daemons' ads are there."""
        deadline = time.monotonic() + timeout
        address_files = (
            os.path.join(self._state["lock_dir"], "shared_port_ad"),
            os.path.join(self.directory, "log", ".schedd_address"),
        )
        missing = list(_WANTED_ADS.values())
        while time.monotonic() < deadline:
            state = _guardian.read_state(self.directory)
            if self._ended_early(state):
                raise PoolError(
                    f"condor_master in {self.directory} ended by itself; "
                    f"the logs say:\n{_log_tails(self.directory)}"
                )
            # Cheaper than the tool, and it comes first.
            if all(map(os.path.exists, address_files)):
                ads = _count_ads(state["status"], self.config_file)
                missing = [word for kind, word in _WANTED_ADS.items() if kind not in ads]
                if not missing:
                    return
            time.sleep(_POLL_INTERVAL)
        raise PoolError(
            f"the pool in {self.directory} is not ready after {timeout:g} s: no "
            f"{', no '.join(missing)} yet; try a longer timeout on a busy machine; "
            f"the logs say:\n{_log_tails(self.directory)}"
        )

    def _ended_early(self, state: dict[str, Any]) -> bool:
        """Whether the guardian or the master is gone already."""
        assert self._guardian is not None
        code = self._guardian.poll()
        if code is not None and (code != 0 or not self._detach):
            return True
        return "master" in state and _guardian.noted_process(state, "master") is None


def default_directory() -> str:
    """Return the directory of a pool that stands alone, one for each user."""
    return os.path.join(tempfile.gettempdir(), f"vine-pool-{os.geteuid()}")


def start_pool(
    directory: str | os.PathLike[str] | None = None,
    *,
    cpus: int | None = None,
    memory: int | None = None,
) -> PersonalPool:
    """Start a pool that stands alone: it runs until ``stop_pool``.

    Args:
        directory: By default ``default_directory()``.
        cpus: See ``PersonalPool``.
        memory: See ``PersonalPool``.

    Raises:
        PoolError: One runs there already, or it does not start.
    """
    place = default_directory() if directory is None else directory
    return PersonalPool(place, cpus=cpus, memory=memory, detach=True).start()


def stop_pool(directory: str | os.PathLike[str] | None = None) -> bool:
    """Stop the pool in a directory, whoever started it, and wait for its end.

    Returns:
        Whether there was one.

    Raises:
        PoolError: A process of it could not be killed.
    """
    place = default_directory() if directory is None else os.path.abspath(directory)
    state = _guardian.read_state(place)
    if not state:
        return False
    _stop_processes(place, state)
    return True


def pool_status(directory: str | os.PathLike[str] | None = None) -> PoolStatus:
    """Return what there is of the pool in a directory; never raises for its absence."""
    place = default_directory() if directory is None else os.path.abspath(directory)
    state = _guardian.read_state(place)
    if not state or _guardian.noted_process(state, "master") is None:
        return PoolStatus(running=False, directory=place)
    config_file = os.path.join(place, "condor_config")
    address = None
    with contextlib.suppress(OSError, SinfulError):
        text = Path(state["lock_dir"], "shared_port_ad").read_text(errors="replace")
        address = str(parse_my_address(text))
    processes = []
    for process in _guardian.pool_processes(state["token"]):
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{process.pid}/comm").read_text(errors="replace").strip()
            processes.append((process.pid, name))
    return PoolStatus(
        running=True,
        directory=place,
        config_file=config_file,
        address=address,
        owner=state["owner"],
        processes=tuple(processes),
        ads=_count_ads(state["status"], config_file),
    )


def usage_text(pool: PersonalPool) -> str:
    """Return what to tell the user of a pool that has just been started."""
    exports = "\n".join(
        f"  export {name}={shlex.quote(value)}" for name, value in pool.environment.items()
    )
    return (
        f"A personal HTCondor pool runs in {pool.directory}. Use it in this shell with\n"
        f"{exports}\n"
        f"and stop it with\n  {_command('stop', pool.directory)}"
    )


def _command(verb: str, directory: str) -> str:
    """Return the command line that does this to the pool in a directory."""
    command = f"vine_sharedport pool {verb}"
    if directory != default_directory():
        command += f" --directory {shlex.quote(directory)}"
    return command


def _check_user() -> None:
    """Refuse a user whose jobs HTCondor would refuse."""
    user = os.geteuid()
    if user == 0:
        raise PoolError(
            "a personal pool does not run as root, whose jobs HTCondor refuses; run this as an "
            "ordinary user, for example with 'runuser -u NAME -- COMMAND'"
        )
    try:
        pwd.getpwuid(user)
    except KeyError as error:
        raise PoolError(
            f"user id {user} has no name, and HTCondor needs one; add a line for it to "
            "/etc/passwd, or run this as a user who has one"
        ) from error


def _make_private(directory: str) -> None:
    """Make the directory if need be; refuse one that is not fit for a pool."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        info = os.lstat(directory)
        names = set(os.listdir(directory))
    except OSError as error:
        raise PoolError(
            f"the directory {directory} cannot be used: {error.strerror}; give another one"
        ) from error
    if info.st_uid != os.geteuid() or info.st_mode & 0o022 or not os.path.isdir(directory):
        raise PoolError(
            f"{directory} belongs to user id {info.st_uid} and has mode "
            f"{info.st_mode & 0o7777:04o}; wanted a directory that you own and nobody else can "
            "write to; give another one"
        )
    if names and not names & {"condor_config", _guardian.STATE_FILE}:
        raise PoolError(
            f"{directory} is not empty and has no pool in it; give a new or empty directory"
        )


def _lock(directory: str) -> int:
    """Return the descriptor that holds the directory's lock."""
    try:
        return _guardian.lock_directory(directory)
    except BlockingIOError as error:
        raise PoolError(
            f"a pool runs in {directory} already; use it with PersonalPool.attach(), or stop "
            f"it with {_command('stop', directory)}"
        ) from error
    except OSError as error:
        raise PoolError(
            f"{directory} cannot be locked ({error.strerror}), as on some network file "
            "systems; give a directory on a local disk"
        ) from error


def _lock_dir(directory: str) -> str:
    """Return a path short enough for sockets; made, if it is not in the directory."""
    if len(os.fsencode(directory)) <= _MAX_DIRECTORY:
        return os.path.join(directory, "lock")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    short = runtime and len(os.fsencode(runtime)) <= _MAX_DIRECTORY - len("/vine-12345678")
    base = runtime if short and os.access(runtime, os.W_OK | os.X_OK) else "/tmp"
    return tempfile.mkdtemp(prefix="vine-", dir=base)


def _clean_environment() -> dict[str, str]:
    """Return the environment without what would change HTCondor's configuration.

    Also without what a daemon hands to its children, should this run in a job.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("_CONDOR_", "CONDOR_"))
    }


def _count_ads(program: str, config_file: str) -> dict[str, int]:
    """Return how many ads of each type the pool's collector has; none if unreachable."""
    environment = {**_clean_environment(), "CONDOR_CONFIG": config_file}
    try:
        said = subprocess.run(
            [program, "-any", "-af", "MyType"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    kinds = said.stdout.split() if said.returncode == 0 else []
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def _stop_processes(directory: str, state: dict[str, Any]) -> None:
    """End what runs of the pool with these notes, in order or by force; clean up."""
    if "token" not in state:
        return
    guardian = _guardian.noted_process(state, "guardian")
    if guardian is not None and _guardian.send_signal(guardian, signal.SIGTERM):
        deadline = time.monotonic() + _STOP_TIMEOUT
        while _guardian.is_alive(guardian) and time.monotonic() < deadline:
            time.sleep(_POLL_INTERVAL)
    left = _guardian.kill_pool(state["token"])
    if left:
        raise PoolError(
            f"processes {', '.join(str(p.pid) for p in left)} of the pool in {directory} do "
            "not end, even by SIGKILL; they may wait for a disk or a network file system"
        )
    _guardian.clean_up(directory, state)


def _log_tails(directory: str) -> str:
    """Return the end of each daemon's log, for a message."""
    parts = []
    for name in _LOGS:
        with contextlib.suppress(OSError):
            text = Path(directory, "log", name).read_text(errors="replace")
            lines = text.splitlines()[-_LOG_LINES:]
            if lines:
                parts.append("\n".join([f"--- {name}", *lines]))
    return "\n".join(parts) or "(nothing)"
