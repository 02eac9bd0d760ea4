"""A site for trying things out, or a command on a host of the one that is up.

tests/site/shell [HOST [USER] [COMMAND...]], and inside: on HOST [USER] [COMMAND...]
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from . import hosts, users
from .site import PLACES, Site

VENV = "~/vine/bin/activate"


def on(name: str, *command: str) -> list[str]:
    """Return the line that runs [USER] [COMMAND...] on a host: by default ann, a shell."""
    user = "ann"
    if command and command[0] in (*users.HOMES, *users.ORDINARY):
        user, *rest = command
        command = tuple(rest)
    pid = int((hosts.HOSTS / name / "pid").read_text())
    activate = f'[ ! -e {VENV} ] || . {VENV}; exec "$@"'
    environment = {"TERM": os.environ.get("TERM", "dumb")}
    if not command:
        environment["PS1"] = rf"{user}@{name}:\w\$ "
        command = ("bash", "--norc", "-i")
    return hosts.line(pid, ["bash", "-c", activate, name, *command], user, environment, "")


def main() -> int:
    """Bring it up, show it, give a shell."""
    begin = time.monotonic()
    with Site() as site:
        if len(sys.argv) > 1:
            return subprocess.run(on(*sys.argv[1:]), check=False).returncode
        print(f"up after {time.monotonic() - begin:.1f} s: {', '.join(site.hosts)}")
        print(site.run("ap", ["condor_status"], user="ann").stdout)
        print(f"on HOST [USER] [COMMAND...] runs something on a host: {', '.join(PLACES)}")
        program = f'on() {{ python -m {__package__}.by_hand on "$@"; }}\nPS1="site# "\n'
        read, write = os.pipe()
        os.write(write, program.encode())
        os.close(write)
        shell = ["bash", "--rcfile", f"/dev/fd/{read}", "-i"]
        return subprocess.run(shell, pass_fds=[read], check=False).returncode


if __name__ == "__main__":
    if sys.argv[1:2] == ["on"]:
        line = on(*sys.argv[2:])
        os.execvp(line[0], line)
    sys.exit(main())
