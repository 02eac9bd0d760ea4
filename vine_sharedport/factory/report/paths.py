"""A factory's directory: its lock, its id, its configuration and its status."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hmac
import os
import re
import shlex
import socket
import struct
import time
import uuid
from collections.abc import Iterator

from vine_sharedport import records
from vine_sharedport.atomic_file import write_atomically
from vine_sharedport.errors import NoStatusError, SettingError
from vine_sharedport.factory.report.snapshot import Snapshot
from vine_sharedport.trusted_files import reason_of

__all__ = [
    "CONFIG",
    "LOCK",
    "LOG",
    "STATUS",
    "factory_id",
    "has_ended",
    "inherit_lock",
    "is_running",
    "lock_directory",
    "manager_lock",
    "read_status",
    "write_file",
    "write_status",
]

CONFIG = "config.json"
LOCK = "factory.lock"
LOG = "factory.log"
STATUS = "status.json"
_ID = "factory.id"

_MAX_STATUS = 256 << 20

# Who looks whether a factory runs has the lock for some microseconds.
_LOOK_TIMEOUT = 0.2

# Between bind() and listen() nobody can be asked; those two take microseconds.
_BIND_TIMEOUT = 1.0

# How long a name may be one of ours while nobody can be asked whose it is. Who looks takes a
# place in the holder's queue of connections until that gives the name back; so slow a
# submission is rare, and who takes a name for ever to stop others fills the queue as well.
_FULL_TIMEOUT = 30.0
_full_since: dict[str, float] = {}


def factory_id(directory: str) -> str:
    """Return the id of the directory's factory, the mark in its jobs; made when missing.

    Raises:
        SettingError: It cannot be read or written, or is damaged: with another id, the jobs
            that are there would be others' for ever.
    """
    path = os.path.join(directory, _ID)
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            found = file.read(64).strip()
    except FileNotFoundError:
        made = uuid.uuid4().hex
        write_file(path, made + "\n", durable=True)
        return made
    except OSError as error:
        raise SettingError(f"cannot read {path}: {error.strerror}") from error
    if not re.fullmatch(r"[0-9a-f]{32}", found):
        jobs = os.path.join(directory, "workers.log")
        which = f'VineSharedPortFactory isnt undefined && UserLog == "{jobs}"'
        raise SettingError(
            f"{path} is damaged: it has {found!r}, wanted is the id of the factory's jobs, 32 "
            f"hexadecimal digits; remove the jobs by condor_rm -constraint "
            f"{shlex.quote(which)}, then the file"
        )
    return found


def lock_directory(directory: str) -> int | None:
    """Return a descriptor that holds the directory's lock; None if a factory has it.

    The lock goes with the last process that has the descriptor.

    Raises:
        SettingError: There can be no lock.
    """
    path = os.path.join(directory, LOCK)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingError(f"cannot use the factory's {path}: {error.strerror}") from error
    deadline = time.monotonic() + _LOOK_TIMEOUT
    try:
        while not _flock(fd, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                os.close(fd)
                return None
            time.sleep(0.005)
    except OSError as error:
        os.close(fd)
        raise SettingError(
            f"cannot lock {path}: {error.strerror}; put the factory's directory on a file "
            "system that has locks"
        ) from error
    return fd


def _flock(fd: int, how: int) -> bool:
    """Take a lock without waiting; False if somebody has it."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def inherit_lock(directory: str, fd: int) -> None:
    """Keep a descriptor with the directory's lock, as it came to us, from our children.

    Raises:
        SettingError: It is something else.
    """
    path = os.path.join(directory, LOCK)
    try:
        if not os.path.samestat(os.fstat(fd), os.stat(path)):
            raise SettingError(f"descriptor {fd} is not the factory's {path}; leave out --lock")
        os.set_inheritable(fd, False)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise SettingError(
            f"cannot use descriptor {fd} as {path}: {why}; leave out --lock"
        ) from error


def is_running(directory: str) -> bool | None:
    """Whether a factory runs in the directory; None if it is no factory's, or not ours."""
    try:
        fd = os.open(os.path.join(directory, LOCK), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Shared: those who look do not see each other.
        if not _flock(fd, fcntl.LOCK_SH):
            return True
        fcntl.flock(fd, fcntl.LOCK_UN)  # a fork by another thread may have it too
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def has_ended(directory: str, factory: str) -> bool:
    """Whether the directory is this user's factory's of that id, which does not run any more.

    Where it cannot be seen, or is another's by now, it has not.
    """
    try:
        with open(os.path.join(directory, _ID), encoding="ascii") as file:
            ours = os.fstat(file.fileno()).st_uid == os.getuid()
            found = file.read(64).strip()
    except (OSError, ValueError):
        return False
    return ours and found == factory and is_running(directory) is False


@contextlib.contextmanager
def manager_lock(manager: str, secret_file: str | None = None) -> Iterator[bool]:
    """Keep this user's other factories of the manager on this host from submitting.

    Yields whether we may submit. Does not wait for others.

    The lock is the name of an abstract Unix socket. The kernel keeps it for every process
    of the host's network, whatever directories it has (the starter gives a job a /tmp and
    /dev/shm of its own), wherever its copy of the secret is, and gives it back with the
    process, so nothing is left to remove.

    Another user can take the name once it is known: nobody can tell it beforehand without
    the secret, but ``/proc/net/unix`` shows it to all while it is in use. So a name that
    another user has, or of which nobody says for half a minute whose it is, stops nobody.
    We then go on without it, as factories on two hosts have to.

    Args:
        manager: Its sock id.
        secret_file: File with its secret, if it has one.
    """
    name = _lock_name(manager, secret_file)
    deadline = time.monotonic() + _BIND_TIMEOUT
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        while not _bind(lock, name):
            try:
                owner = _owner_of(name)
            except BlockingIOError:
                full = time.monotonic() - _full_since.setdefault(name, time.monotonic())
                yield full > _FULL_TIMEOUT
                return
            if owner == os.getuid():
                _full_since.pop(name, None)
                yield False
                return
            if owner is not None:
                _full_since[name] = float("-inf")  # let it be full from now on
                yield True
                return
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        else:
            _full_since.pop(name, None)
        yield True


def _lock_name(manager: str, secret_file: str | None) -> str:
    secret = b""
    if secret_file is not None:
        with contextlib.suppress(OSError), open(secret_file, "rb") as file:
            secret = file.read(4096)
    mark = f"submission\0{os.getuid()}\0{manager}"
    return f"\0vine_sharedport-{hmac.new(secret, mark.encode(), 'sha256').hexdigest()[:32]}"


def _bind(lock: socket.socket, name: str) -> bool:
    """Take a socket's name; False if somebody has it."""
    try:
        lock.bind(name)
        lock.listen(4096)  # so that others can see whose it is
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


def _owner_of(name: str) -> int | None:
    """Return the user who listens at a socket's name; None while nobody does.

    Raises:
        BlockingIOError: So many have asked that no more can.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.setblocking(False)
        try:
            peer.connect(name)
        except BlockingIOError:
            raise
        except OSError:
            return None
        found = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", found)[1])  # pid, uid, gid


def write_file(path: str, text: str, *, durable: bool = False, mode: int | None = None) -> None:
    """Write a file; see ``write_atomically``.

    Raises:
        SettingError: It cannot be written.
    """
    try:
        write_atomically(path, text, durable=durable, mode=mode)
    except OSError as error:
        raise SettingError(f"cannot write {path}: {error.strerror}") from error


def write_status(directory: str, snapshot: Snapshot) -> None:
    """Write ``status.json``.

    Raises:
        SettingError: It cannot be written.
    """
    write_file(os.path.join(directory, STATUS), records.encode(snapshot))


def read_status(directory: str) -> Snapshot:
    """Return what the directory's factory has written last.

    Raises:
        NoStatusError: There is nothing to read.
    """
    path = os.path.join(directory, STATUS)
    try:
        return Snapshot.from_dict(records.read_values(path, limit=_MAX_STATUS))
    except FileNotFoundError as error:
        raise NoStatusError(
            f"there is no factory's status in {directory}; give the directory that the "
            "factory named when it started, or see 'vine_sharedport factory list'"
        ) from error
    except (OSError, SettingError) as error:
        raise NoStatusError(
            f"cannot read the factory's status {path}: {reason_of(error)}"
        ) from error
