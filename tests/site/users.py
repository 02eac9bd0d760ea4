"""The users of all hosts: HTCondor's own, and two ordinary ones."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

ORDINARY = {"ann": 2001, "ben": 2002}
CONDOR = 100
HOMES = {"root": "/root", "condor": "/var/lib/condor"}


def home(user: str) -> str:
    """Return the user's home directory."""
    return HOMES.get(user, f"/home/{user}")


def uid(user: str) -> int:
    """Return the user's number."""
    return {"root": 0, "condor": CONDOR, **ORDINARY}[user]


def add_users(files: Path) -> None:
    """Add them to a host, as adduser(8) and HTCondor's package do."""
    passwd, group = files / "etc/passwd", files / "etc/group"
    people, groups = passwd.read_text(), group.read_text()
    people += (
        f"condor:x:{CONDOR}:{CONDOR}:HTCondor Daemons:{HOMES['condor']}:/usr/sbin/nologin\n"
    )
    groups += f"condor:x:{CONDOR}:\n"
    for name, number in ORDINARY.items():
        people += f"{name}:x:{number}:{number}::/home/{name}:/bin/bash\n"
        groups += f"{name}:x:{number}:\n"
        directory = files / "home" / name
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        own(directory, name)
    passwd.write_text(people)
    group.write_text(groups)


def own(path: Path, user: str) -> None:
    """Give the file or directory to the user."""
    os.chown(path, uid(user), uid(user))


def give(source: Path, target: Path, user: str, mode: int = 0o644) -> None:
    """Copy a file for the user."""
    shutil.copyfile(source, target)
    target.chmod(mode)
    own(target, user)
