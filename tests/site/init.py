"""The first process of a host: takes it into namespaces of its own and stays for them.

Usage: python3 init.py NAME ROOT; says "ready" when the host has its files.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import mounts


def main() -> None:
    name, root = sys.argv[1], Path(sys.argv[2])
    os.unshare(os.CLONE_NEWNET | os.CLONE_NEWUTS | os.CLONE_NEWIPC | os.CLONE_NEWNS)
    mounts.make_private()
    socket.sethostname(name)
    mounts.mount("proc", "proc", root / "proc")
    mounts.mount("sysfs", "sysfs", root / "sys")
    mounts.bind("/dev", root / "dev")
    mounts.bind("/wheels", root / "wheels", read_only=True)
    mounts.mount("tmpfs", name, root / "dev/shm", options="mode=1777")
    mounts.become_root(root)
    print("ready", flush=True)
    os.execv("/usr/bin/sleep", ["sleep", "infinity"])


if __name__ == "__main__":
    main()
