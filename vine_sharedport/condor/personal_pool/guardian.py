"""The process above a personal pool's ``condor_master``.

It starts the master, and stops the pool when the program that wanted it ends,
however that happens; every process of the pool is its descendant, and it ends
when none is left. A pool without such a program runs until SIGTERM.

Run isolated (``python -I -S``), so that it needs nothing of the program's environment:
standard library only, and the package's ground floor.

How a process is known to belong to a pool: the master gets ``POOL_VARIABLE`` with
a random token in its environment, daemons inherit it, and the pool's
configuration gives it to every job. ``CONDOR_CONFIG`` would not do: the user's own
shell has it too.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import logging
import os
import select
import shutil
import signal
import stat
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vine_sharedport import records
from vine_sharedport.atomic_file import write_atomically
from vine_sharedport.errors import PoolError, SettingError
from vine_sharedport.supervision import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    Process,
    all_parents,
    descendants,
    find_process,
    is_alive,
    prctl,
    send_signal,
    with_descendants,
)

log = logging.getLogger(__name__)

# As in environment.py.
POOL_VARIABLE = "VINE_SHAREDPORT_POOL"
STATE_FILE = "pool.json"

# Directories whose contents end with the pool: its jobs' and its sockets'.
EPHEMERAL = ("execute", "lock", "run", "spool")

# In seconds. A fast shutdown takes 0.02 s on an idle machine; daemons under load
# and jobs that ignore SIGTERM get this long before SIGKILL.
SHUTDOWN_TIMEOUT = 10.0
STOP_TIMEOUT = 30.0
_STOP_INTERVAL = 0.05
_KILL_TIMEOUT = 10.0

# How often to look whether the program is still the parent, in seconds. The
# control pipe says so at once, unless a forked child keeps its other end open.
_PARENT_INTERVAL = 0.5

# How often to look whether the pool's notes are still there, where there is no program.
_NOTES_INTERVAL = 2.0


@dataclass(frozen=True)
class _Notes:
    token: str
    owner: int | None
    lock_dir: str
    status: str
    remove: list[str] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)
    cpus: int | None = None
    memory: int | None = None
    guardian: Process | None = None
    master: Process | None = None


def pool_processes(token: str) -> list[Process]:
    """Return the processes of the pool with this token, the calling one left out.

    Those that carry the token, and their descendants.
    """
    wanted = f"{POOL_VARIABLE}={token}".encode()
    parents = all_parents()
    members = set()
    for pid in parents:
        # Another user's, or gone.
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                members.add(pid)
    return with_descendants(members, parents)


def kill_pool(token: str, *, timeout: float = _KILL_TIMEOUT) -> list[Process]:
    """Kill every process of the pool; return those that are left after the timeout.

    Args:
        token: The pool's.
        timeout: How long to wait for them to be gone, in seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        # Again and again: a daemon may start another process meanwhile.
        left = pool_processes(token)
        if not left or time.monotonic() > deadline:
            return left
        for process in left:
            send_signal(process, signal.SIGKILL)
        time.sleep(0.02)


def stop_processes(directory: str, state: dict[str, Any]) -> None:
    """End what runs of the pool with these notes, in order or by force; clean up."""
    if "token" not in state:
        return
    guardian = noted_process(state, "guardian")
    if guardian is not None and send_signal(guardian, signal.SIGTERM):
        deadline = time.monotonic() + STOP_TIMEOUT
        while is_alive(guardian) and time.monotonic() < deadline:
            time.sleep(_STOP_INTERVAL)
    left = kill_pool(state["token"])
    if left:
        raise PoolError(
            f"processes {', '.join(str(p.pid) for p in left)} of the pool in {directory} do "
            "not end, even by SIGKILL; they may wait for a disk or a network file system"
        )
    clean_up(directory, state)


def read_state(directory: str) -> dict[str, Any]:
    """Return what the pool's starter and guardian noted down, ``{}`` without a pool."""
    try:
        notes = records.read(_Notes, os.path.join(directory, STATE_FILE))
    except OSError:
        return {}
    except SettingError as error:
        log.warning("cannot use the notes of the pool in %s: %s", directory, error)
        return {}
    # Those two are noted only when they have started.
    return {n: v for n, v in vars(notes).items() if v or n not in ("guardian", "master")}


def write_state(directory: str, state: dict[str, Any]) -> None:
    """Replace the notes in one step."""
    write_atomically(os.path.join(directory, STATE_FILE), records.encode(state))


def noted_process(state: dict[str, Any], name: str) -> Process | None:
    """Return the process noted under this name if it still runs."""
    try:
        process = Process(*state[name])
    except (KeyError, TypeError):
        return None
    return process if is_alive(process) else None


def remove_tree(directory: str) -> None:
    """Remove a directory of ours, even where a job has made its own read-only."""

    def unlock(_function: object, path: str, _error: object) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(path), stat.S_IRWXU)
            if os.path.isdir(path) and not os.path.islink(path):
                os.chmod(path, stat.S_IRWXU)
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)

    if sys.version_info >= (3, 12):
        shutil.rmtree(directory, onexc=unlock)
    else:
        shutil.rmtree(directory, onerror=unlock)


def clean_up(directory: str, state: dict[str, Any]) -> None:
    """Remove what a stopped pool leaves in the file system.

    The jobs and sockets with the notes, and all directories that were made for this
    pool alone. Its log and configuration stay in a directory that the user named.
    """
    for name in (STATE_FILE, *EPHEMERAL):
        path = os.path.join(directory, name)
        if os.path.isdir(path) and not os.path.islink(path):
            remove_tree(path)
        else:
            with contextlib.suppress(OSError):
                os.unlink(path)
    clean_up_made(state)


def clean_up_made(state: dict[str, Any]) -> None:
    """Remove the directories that were made for a pool alone."""
    for made in state.get("remove", []):
        if os.path.isdir(made) and os.stat(made).st_uid == os.geteuid():
            remove_tree(made)


class _Guardian:
    """One running pool, seen from above its master."""

    def __init__(self, parent: int | None, directory: str) -> None:
        self._parent = parent
        self._directory = directory
        self._inode = os.stat(directory).st_ino
        self._master = 0
        self._master_status: int | None = None
        # Signals arrive as bytes in this pipe, so that the one poll() sees them.
        self._awake, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        # Whatever loses its parent in the pool becomes our child: when wait() says
        # that we have none, the pool has none.
        prctl(PR_SET_CHILD_SUBREAPER, 1)

    def start(self, program: str) -> Process | None:
        """Start ``condor_master`` so that it also ends if we are killed."""
        own = os.getpid()
        self._master = os.fork()
        if self._master == 0:
            try:
                signal.set_wakeup_fd(-1)
                # Python ignores these two, and exec() hands that on.
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
                os.chdir("/")
                if os.getppid() == own:
                    os.execv(program, [program, "-f"])
            finally:
                os._exit(127)
        return find_process(self._master)

    def wait(self) -> bool:
        """Wait for the order to stop (False) or the master's own end (True)."""
        poll = select.poll()
        poll.register(self._awake, select.POLLIN)
        timeout = int(_NOTES_INTERVAL * 1000)
        if self._parent is not None:
            poll.register(0, select.POLLIN)
            timeout = int(_PARENT_INTERVAL * 1000)
        while True:
            known_to_have_ended = self._master_status is not None
            self._reap()
            if self._master_status is not None and not known_to_have_ended:
                log.error("condor_master ended by itself, status %s", self._master_status)
                return True
            if self._parent is not None and os.getppid() != self._parent:
                return False
            if self.is_lost:
                log.error("%s was removed, so the pool ends", self._directory)
                return False
            for fd, _ in poll.poll(timeout):
                if fd == 0:
                    return False  # The program closed it, or ended.
                if set(os.read(self._awake, 4096)) - {signal.SIGCHLD}:
                    return False

    @property
    def is_lost(self) -> bool:
        """Whether somebody has removed the directory: without the notes nobody finds the pool.

        There may be another pool's by now.
        """
        try:
            os.stat(os.path.join(self._directory, STATE_FILE))
            return os.stat(self._directory).st_ino != self._inode
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # such as a file system that does not answer
            return False

    def stop(self, *, by_force: bool = False) -> None:
        """End the master and all that descends from us, by force after a while or at once."""
        if self._master_status is None and not by_force:
            # The fast shutdown: jobs are killed, not waited for.
            os.kill(self._master, signal.SIGQUIT)
        deadline = time.monotonic() + (0 if by_force else SHUTDOWN_TIMEOUT)
        # The master ends last; what is there without it, nobody ends.
        while time.monotonic() < deadline and self._master_status is None:
            self._reap()
            time.sleep(0.01)
        deadline = time.monotonic() + _KILL_TIMEOUT
        while self._reap() and time.monotonic() < deadline:
            for process in descendants(os.getpid()):
                log.warning("killing process %s of the pool", process.pid)
                send_signal(process, signal.SIGKILL)
            time.sleep(0.02)

    def _reap(self) -> bool:
        """Collect ended children; return whether any is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._master:
                self._master_status = status


def main(argv: list[str] | None = None) -> int:
    """Guard one pool; return 0 if it was stopped, 1 if its master ended by itself."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", required=True)
    parser.add_argument("--master", required=True)
    # Descriptors that are ours until we end, and no daemon's: the directory's lock,
    # the reserved port.
    parser.add_argument("--keep", type=int, nargs="*", default=[])
    # The program the pool belongs to; without one the pool stands alone.
    parser.add_argument("--parent", type=int)
    options = parser.parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    for fd in options.keep:
        os.set_inheritable(fd, False)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if options.parent is None:
        _leave_the_terminal()
    guardian = _Guardian(options.parent, options.directory)
    state = read_state(options.directory)
    state["guardian"] = find_process(os.getpid())
    state["master"] = guardian.start(options.master)
    write_state(options.directory, state)
    by_itself = guardian.wait()
    is_lost = guardian.is_lost
    # In order, daemons would remove files by their paths, which may be another pool's by now.
    guardian.stop(by_force=is_lost)
    if by_itself and options.parent is not None:
        # A broken pool's logs stay until the program that has it goes.
        guardian.wait()
    if is_lost:
        state["remove"] = [path for path in state["remove"] if path != options.directory]
        clean_up_made(state)
    elif not by_itself or options.parent is not None:
        clean_up(options.directory, state)
    return 1 if by_itself else 0


def _leave_the_terminal() -> None:
    """Become a daemon: no parent to be waited for, no terminal, no open directory."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")


def lock_directory(directory: str) -> int:
    """Return a descriptor that locks the directory as long as it is open anywhere.

    The lock says that a pool runs there. It also keeps ``systemd-tmpfiles`` from
    removing old files of a pool under ``/tmp``.

    Raises:
        BlockingIOError: Somebody else has it.
        OSError: The file system has no such locks.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(fd), os.stat(directory)):
            # A pool that was ending has removed the directory under our hands.
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), directory)
    except BaseException:
        os.close(fd)
        raise
    return fd
