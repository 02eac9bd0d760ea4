"""Which of this process's descriptors a manager listens on."""

from __future__ import annotations

import contextlib
import os

from vine_sharedport.errors import HookError

__all__ = ["find_listener", "who_listens"]

# Characters of a command; the rest is arguments.
_SHOWN = 60


def find_listener(port: int) -> int:
    """Return the descriptor of the one TCP socket listening on a port in this process.

    Args:
        port: As the manager tells it.

    Raises:
        HookError: There is none, or more than one.
    """
    inodes = _listening_inodes(port)
    found = [
        int(name)
        for name in os.listdir("/proc/self/fd")
        if inodes & {_link_target(f"/proc/self/fd/{name}")}
    ]
    if len(found) != 1:
        raise HookError(
            f"{len(found)} descriptors of this process listen on TCP port {port}, not one: "
            "cannot tell which is the manager's"
        )
    return found[0]


def who_listens(port: int) -> str:
    """Return in words who listens on a TCP port of this host, as far as /proc tells it.

    Other users' processes cannot be told, nor those outside of this container.
    """
    inodes = _listening_inodes(port)
    for pid in filter(str.isdigit, os.listdir("/proc") if inodes else ()):
        with contextlib.suppress(OSError):
            fds = os.listdir(f"/proc/{pid}/fd")
            if inodes.isdisjoint(_link_target(f"/proc/{pid}/fd/{fd}") for fd in fds):
                continue
            if int(pid) == os.getpid():
                return "this program itself"
            with open(f"/proc/{pid}/cmdline", errors="replace") as file:
                command = file.read().replace("\0", " ").strip()
            if len(command) > _SHOWN:
                command = f"{command[:_SHOWN]}..."
            return f"process {pid} ({command})"
    return "another program of this host"


def _listening_inodes(port: int) -> set[str]:
    """Return the link targets of the TCP sockets that listen on a port (proc(5)).

    The kernel's tables are asked and not the sockets: a Python object made for a
    descriptor may change it (``socket.setdefaulttimeout``), and most are the program's.
    """
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/self/net/{table}") as lines:
            for line in lines:
                fields = line.split()
                # sl local_address rem_address st ... inode; 0A is TCP_LISTEN
                if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return found


def _link_target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # closed meanwhile, as the directory's own descriptor
        return ""
