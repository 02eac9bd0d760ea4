"""A host: network, name and files of its own, and commands that run on it as one of its users.

Hosts see each other's processes and share the clock, the memory and the cores.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import mounts, users

# Made by enter.sh.
LOWER, HOSTS = Path("/lower"), Path("/site")
INIT = Path(__file__).with_name("init.py")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def line(
    pid: int, command: Sequence[object], user: str, environment: Mapping[str, str], cwd: str
) -> list[str]:
    """Return the line that runs a command on the host with that first process."""
    home = users.home(user)
    variables = {
        "HOME": home, "USER": user, "LOGNAME": user, "SHELL": "/bin/bash",
        "LANG": "C.UTF-8", "PATH": PATH, **environment,
    }  # fmt: skip
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"]
    return [
        "nsenter", "--target", str(pid), "--net", "--uts", "--ipc", "--mount", "--",
        *([] if user == "root" else become),
        "env", "-i", "-C", cwd or home, *(f"{k}={v}" for k, v in variables.items()),
        *map(str, command),
    ]  # fmt: skip


def descendants(pid: int) -> set[int]:
    """Return the process, on whichever host, and all that came of it."""
    found = {pid}
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found |= descendants(int(child))
    return found


class Host:
    """One machine of the site.

    Args:
        name: Its name, without a domain.
        layers: Directories that lie over the files that all hosts begin with.

    Attributes:
        files: Its root directory, as we see it.
        pid: Its first process.
    """

    def __init__(self, name: str, layers: Sequence[Path] = ()) -> None:
        self.name = name
        self._directory = HOSTS / name
        self.files = self._directory / "root"
        for part in ("upper", "work", "root"):
            (self._directory / part).mkdir(parents=True)
        lower = ":".join(map(str, (*layers, LOWER)))
        upper, work = self._directory / "upper", self._directory / "work"
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        mounts.mount("overlay", name, self.files, options=options)
        (self.files / "etc/hostname").write_text(f"{name}\n")
        (self.files / "run/lock").mkdir(parents=True)
        for place in ("tmp", "var/tmp", "run/lock"):
            (self.files / place).mkdir(exist_ok=True)
            (self.files / place).chmod(0o1777)
        # Not the sandbox: root here is root.
        (self.files / "etc/vine_sharedport_sandbox").unlink()
        # A resolver that answers at once that it is none.
        (self.files / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
        users.add_users(self.files)
        self._init = subprocess.Popen(
            [sys.executable, "-I", INIT, name, self.files], stdout=subprocess.PIPE, text=True
        )
        self.pid = self._init.pid
        (self._directory / "pid").write_text(str(self.pid))

    def wait_until_up(self) -> None:
        """Return when its namespaces are there."""
        assert self._init.stdout is not None
        said = self._init.stdout.readline()
        assert said == "ready\n", f"host {self.name}: {said!r}"

    def command(
        self, command: Sequence[object], user: str, environment: Mapping[str, str], cwd: str
    ) -> list[str]:
        """Return the line that runs the command here."""
        return line(self.pid, command, user, environment, cwd)

    def start(
        self,
        command: Sequence[object],
        *,
        user: str = "root",
        environment: Mapping[str, str] | None = None,
        cwd: str = "",
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Start the command here; it has the pid of what is returned."""
        return subprocess.Popen(self.command(command, user, environment or {}, cwd), **options)

    def run(
        self,
        command: Sequence[object],
        *,
        user: str = "root",
        environment: Mapping[str, str] | None = None,
        cwd: str = "",
        timeout: float = 60,
        check: bool = True,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run the command here and return what it said; with ``check`` it must succeed."""
        options.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(
            self.command(command, user, environment or {}, cwd),
            text=True, capture_output=True, timeout=timeout,
            check=False, **options,
        )  # fmt: skip
        if check and done.returncode:
            line = " ".join(map(str, command))
            raise AssertionError(
                f"{self.name}: {user}: {line}: status {done.returncode}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done

    def set_kernel(self, settings: Mapping[str, object], *, missing_ok: bool = False) -> None:
        """Set what is the network namespace's own, by its path below /proc/sys/net."""
        lines = []
        for name, value in settings.items():
            file = f"/proc/sys/net/{name}"
            unless = f"[ ! -e {file} ] || " if missing_ok else ""
            lines.append(f"{unless}echo {value} >{file}")
        self.run(["sh", "-ec", "\n".join(lines)])

    def processes(self) -> list[int]:
        """Return what runs here."""
        ours = os.stat(f"/proc/{self.pid}/ns/net").st_ino
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{entry}/ns/net").st_ino == ours:
                    found.append(int(entry))
        return found

    def end(self) -> None:
        """End all that runs here, and remove its files."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with contextlib.suppress(OSError):  # no first process any more
                for pid in self.processes():
                    if pid != self.pid:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                if self.processes() != [self.pid]:
                    time.sleep(0.02)
                    continue
            break
        self._init.kill()
        self._init.wait()
        if self._init.stdout is not None:
            self._init.stdout.close()
        mounts.detach(str(self.files))
        shutil.rmtree(self._directory)
