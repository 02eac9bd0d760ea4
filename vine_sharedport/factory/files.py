"""A factory's directory: its lock, its id, its configuration and its status."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import socket
import struct
import time
import uuid
from collections.abc import Iterator

from vine_sharedport.errors import LaunchError
from vine_sharedport.factory.report import Snapshot

__all__ = [
    "CONFIG",
    "LOCK",
    "LOG",
    "STATUS",
    "factory_id",
    "inherit_lock",
    "is_running",
    "lock_directory",
    "manager_lock",
    "read_status",
    "write_atomically",
    "write_status",
]

CONFIG = "config.json"
LOCK = "factory.lock"
LOG = "factory.log"
STATUS = "status.json"
_ID = "factory.id"

_MAX_STATUS = 256 << 20

# Between bind() and listen() nobody can be asked; those two take microseconds.
_BIND_TIMEOUT = 1.0


def factory_id(directory: str) -> str:
    """Return the id of the directory's factory, the mark in its jobs; made when missing."""
    path = os.path.join(directory, _ID)
    try:
        with open(path) as file:
            found = file.read(64).strip()
        if re.fullmatch(r"[0-9a-f]{32}", found):
            return found
    except FileNotFoundError:
        pass
    except OSError as error:
        raise LaunchError(f"cannot read {path}: {error.strerror}") from error
    made = uuid.uuid4().hex
    write_atomically(path, made + "\n")
    return made


def lock_directory(directory: str) -> int | None:
    """Return a descriptor that holds the directory's lock; None if a factory has it.

    The lock goes with the last process that has the descriptor.
    """
    path = os.path.join(directory, LOCK)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LaunchError(f"cannot use the factory's {path}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError as error:
        os.close(fd)
        raise LaunchError(
            f"cannot lock {path}: {error.strerror}; put the factory's directory on a file "
            "system that has locks"
        ) from error
    return fd


def inherit_lock(directory: str, fd: int) -> None:
    """Keep a descriptor with the directory's lock, as it came to us, from our children.

    Raises:
        LaunchError: It is something else.
    """
    path = os.path.join(directory, LOCK)
    try:
        if not os.path.samestat(os.fstat(fd), os.stat(path)):
            raise LaunchError(f"descriptor {fd} is not the factory's {path}; leave out --lock")
        os.set_inheritable(fd, False)
    except OSError as error:
        raise LaunchError(f"cannot use descriptor {fd} as {path}: {error.strerror}") from error


def is_running(directory: str) -> bool | None:
    """Whether a factory runs in the directory; None if it is no factory's, or not ours."""
    try:
        fd = os.open(os.path.join(directory, LOCK), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(fd)


@contextlib.contextmanager
def manager_lock(manager: str) -> Iterator[bool]:
    """Keep this user's other factories of the manager on this host from submitting.

    Yields whether we have the lock; never waits for it.

    The lock is the name of an abstract Unix socket. The kernel keeps it for every process
    of the host's network, whatever directories it has (the starter gives a job a /tmp and
    /dev/shm of its own), wherever its copy of the secret is, and gives it back with the
    process, so nothing is left to remove. Another user can have taken the name: then we go
    on without it, as factories on two hosts have to.
    """
    mark = f"{os.getuid()}\0{manager}"
    name = f"\0vine_sharedport-{hashlib.sha256(mark.encode()).hexdigest()[:32]}"
    deadline = time.monotonic() + _BIND_TIMEOUT
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        while not _bind(lock, name):
            owner = _owner_of(name)
            if owner is not None:
                yield owner != os.getuid()
                return
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        yield True


def _bind(lock: socket.socket, name: str) -> bool:
    """Take a socket's name; False if somebody has it."""
    try:
        lock.bind(name)
        lock.listen(4096)  # so that others can see whose it is
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


def _owner_of(name: str) -> int | None:
    """Return the user who listens at a socket's name; None while nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.setblocking(False)
        try:
            peer.connect(name)
        except BlockingIOError:  # so many have looked: most likely for one of ours
            return os.getuid()
        except OSError:
            return None
        found = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", found)[1])  # pid, uid, gid


def write_atomically(path: str, text: str) -> None:
    """Write a file, whole or not at all; readable as the user's mask says."""
    new = f"{path}.{os.getpid()}.new"
    try:
        try:
            with open(new, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(new, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
    except OSError as error:
        raise LaunchError(f"cannot write {path}: {error.strerror}") from error


def write_status(directory: str, snapshot: Snapshot) -> None:
    """Write ``status.json``.

    Raises:
        LaunchError: It cannot be written.
    """
    text = json.dumps(snapshot.as_dict(), indent=1) + "\n"
    write_atomically(os.path.join(directory, STATUS), text)


def read_status(directory: str) -> Snapshot:
    """Return what the directory's factory has written last.

    Raises:
        LaunchError: There is nothing to read.
    """
    path = os.path.join(directory, STATUS)
    try:
        with open(path, encoding="utf-8") as file:
            values = json.loads(file.read(_MAX_STATUS))
        return Snapshot.from_dict(values)
    except FileNotFoundError as error:
        raise LaunchError(
            f"there is no factory's status in {directory}; give the directory that the "
            "factory named when it started, or see 'vine_sharedport factory list'"
        ) from error
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise LaunchError(f"cannot read the factory's status {path}: {error}") from error
