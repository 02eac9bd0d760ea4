"""The directory of a personal pool, and the user whose pool it is."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import pwd
import shlex
import socket
import tempfile
from pathlib import Path

from vine_sharedport.condor.personal_pool import guardian
from vine_sharedport.errors import PoolError, SettingError

__all__ = [
    "TakenError",
    "check_user",
    "command",
    "default_directory",
    "is_pool_directory",
    "is_running",
    "lock",
    "make_private",
    "record",
    "reserve_port",
    "running_pools",
    "short_lock_dir",
    "way_to_own_pool",
]

# In characters: with a longer directory, a sock id of 41 characters no longer fits
# a socket's path (107) in <directory>/lock/daemon_sock/.
_MAX_DIRECTORY = 48


def default_directory() -> str:
    """Return the directory of a pool that stands alone, one for each user."""
    return os.path.join(tempfile.gettempdir(), f"vine-pool-{os.geteuid()}")


def is_pool_directory(directory: str) -> bool:
    """Whether a pool runs, or ran, in a directory."""
    return os.path.exists(os.path.join(directory, guardian.STATE_FILE))


def is_running(directory: str) -> bool:
    """Whether a pool runs in a directory."""
    return guardian.noted_process(guardian.read_state(directory), "master") is not None


def command(verb: str, directory: str) -> str:
    """Return the command line that does this to the pool in a directory."""
    command = f"vine_sharedport pool {verb}"
    if directory != default_directory():
        command += f" --directory {shlex.quote(directory)}"
    return command


def record(directory: str) -> None:
    """Leave word of a pool that stands alone, for ``running_pools`` in other shells.

    Without it a pool is found all the same in its default directory, unless ``TMPDIR``
    differs.
    """
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    # Where there is no home directory to write to, nobody looks there either.
    with contextlib.suppress(OSError):
        os.makedirs(_records(), mode=0o700, exist_ok=True)
        Path(_records(), name).write_bytes(os.fsencode(directory))


def running_pools() -> list[str]:
    """Return the directories of this user's running pools that stand alone, newest first."""
    noted: list[tuple[float, str]] = []
    for path in glob.glob(f"{glob.escape(_records())}/*"):
        with contextlib.suppress(OSError):
            directory = os.fsdecode(Path(path).read_bytes())
            if _stands_alone(directory):
                noted.append((os.stat(path).st_mtime, directory))
            elif not os.path.exists(directory):
                os.unlink(path)
    places = [directory for _, directory in sorted(noted, reverse=True)]
    if default_directory() not in places and _stands_alone(default_directory()):
        places.append(default_directory())
    return places


def way_to_own_pool() -> str:
    """Return what to do, where HTCondor cannot be used, to have a pool of one's own."""
    for directory in running_pools():
        return f"""use your own pool by 'eval "$({command("env", directory)})"'"""
    return "start a pool of your own with 'vine_sharedport pool start'"


def _records() -> str:
    """Return the directory of the notes. Of this host: homes are shared by several."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.local/state")
    return os.path.join(base, "vine_sharedport", "pools", socket.gethostname())


def _stands_alone(directory: str) -> bool:
    """Whether a pool of this user runs there that belongs to no program.

    A place in /tmp can be made by anybody who knows its name; only what nobody else can
    have written is believed.
    """
    try:
        info = os.lstat(directory)
    except (OSError, ValueError):
        return False
    if (
        not os.path.isabs(directory)
        or info.st_uid != os.geteuid()
        or info.st_mode & 0o022  # as every link has
    ):
        return False
    state = guardian.read_state(directory)
    return state.get("owner", 0) is None and guardian.noted_process(state, "master") is not None


def check_user() -> None:
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


def make_private(directory: str) -> None:
    """Make the directory if need be; refuse one that is not fit for a pool."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        info = os.lstat(directory)
        names = set(os.listdir(directory))
    except OSError as error:
        raise SettingError(
            f"the directory {directory} cannot be used: {error.strerror}; give another one"
        ) from error
    if info.st_uid != os.geteuid() or info.st_mode & 0o022 or not os.path.isdir(directory):
        raise SettingError(
            f"{directory} belongs to user id {info.st_uid} and has mode "
            f"{info.st_mode & 0o7777:04o}; wanted a directory that you own and nobody else can "
            "write to; give another one"
        )
    if names and not names & {"condor_config", guardian.STATE_FILE}:
        raise SettingError(
            f"{directory} is not empty and has no pool in it; give a new or empty directory"
        )


class TakenError(PoolError):
    """A pool runs in the directory already, or is just starting or ending."""


def lock(directory: str) -> int:
    """Return the descriptor that holds the directory's lock.

    Raises:
        TakenError: A pool has it.
        SettingError: It cannot be locked.
    """
    try:
        return guardian.lock_directory(directory)
    except BlockingIOError as error:
        raise TakenError(
            f"a pool runs in {directory} already; use it with PersonalPool.find(), or stop "
            f"it with {command('stop', directory)}"
        ) from error
    except OSError as error:
        raise SettingError(
            f"{directory} cannot be locked ({error.strerror}), as on some network file "
            "systems; give a directory on a local disk"
        ) from error


def short_lock_dir(directory: str) -> str:
    """Return a path short enough for sockets; made, if it is not in the directory."""
    if len(os.fsencode(directory)) <= _MAX_DIRECTORY:
        return os.path.join(directory, "lock")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    short = runtime and len(os.fsencode(runtime)) <= _MAX_DIRECTORY - len("/vine-12345678")
    base = runtime if short and os.access(runtime, os.W_OK | os.X_OK) else "/tmp"
    return tempfile.mkdtemp(prefix="vine-", dir=base)


def reserve_port() -> socket.socket:
    """Return a socket that keeps a free port of 127.0.0.1 for the shared port.

    Bound, but not listening, and with SO_REUSEADDR: Linux then lets the shared port
    bind it and listen, whose sockets have that option too (ALWAYS_REUSEADDR), and
    gives it to nobody who asks for any port. So it is still ours after a restart.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
    except OSError as error:
        sock.close()
        raise PoolError(
            f"no free port on 127.0.0.1: {error.strerror}; is the interface 'lo' up?"
        ) from error
    return sock
