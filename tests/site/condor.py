"""HTCondor as the distribution's package and an administrator set it up, started by root.

Of the package: programs, ``/etc/condor/condor_config``, ``config.d/00-htcondor-9.0.config``. Of
the administrator: a file ``50-site.config``, the pool's password, a token. README.md has the
table of what is other here than in a pool of one's own.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from . import users
from .hosts import PATH, Host

DOMAIN = "site.test"
CENTRAL = "ap"
SERVICE = {"PATH": PATH}

# What makes a site of it.
COMMON = f"""
CONDOR_HOST = {CENTRAL}.{DOMAIN}
UID_DOMAIN = {DOMAIN}
TRUST_UID_DOMAIN = True
FILESYSTEM_DOMAIN = $(FULL_HOSTNAME)
# The kernel's settings are the machine's, not the site's.
LINUX_KERNEL_TUNING_SCRIPT =
# What the tests would wait for: matches, and jobs' ends.
UPDATE_INTERVAL = 5
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_MIN_INTERVAL = 0
NEGOTIATOR_CYCLE_DELAY = 0
SCHEDD_INTERVAL = 2
SCHEDD_MIN_INTERVAL = 1
MASTER_UPDATE_INTERVAL = 60
RUNBENCHMARKS = False
# Programs that every start would run, and that find nothing here.
FILETRANSFER_PLUGINS = $(LIBEXEC)/curl_plugin, $(LIBEXEC)/data_plugin
STARTD_CRON_JOBLIST =
MAIL = /bin/true
"""
ACCESS_POINT = """
use ROLE: CentralManager
use ROLE: Submit
"""
EXECUTE_POINT = """
use ROLE: Execute
use FEATURE: PartitionableSlot
NUM_CPUS = 8
MEMORY = 8000
STARTD_ATTRS = $(STARTD_ATTRS) Place
Place = "{place}"
"""
# Behind NAT: the daemons keep a connection to the collector, and others ask it for them.
BEHIND_NAT = """
CCB_ADDRESS = $(COLLECTOR_HOST)
"""


class Condor:
    """HTCondor of all hosts."""

    def __init__(self) -> None:
        self._password = os.urandom(48)
        self._token = ""
        self._masters: list[subprocess.Popen[bytes]] = []

    def set_up(self, host: Host, settings: str) -> None:
        """Make on a host what installing the package and an administrator make."""
        files = host.files
        for place in (
            "var/lib/condor", "var/lib/condor/execute", "var/log/condor", "var/spool/condor",
            "run/condor", "run/lock/condor",
        ):  # fmt: skip
            directory = files / place
            directory.mkdir(parents=True, exist_ok=True)
            users.own(directory, "condor")
        for place in ("etc/condor/passwords.d", "etc/condor/tokens.d"):
            (files / place).mkdir(mode=0o700, exist_ok=True)
        _write(files / "etc/condor/passwords.d/POOL", self._password, 0o600)
        _write(
            files / "etc/condor/config.d/50-site.config", (COMMON + settings).encode(), 0o644
        )
        if not self._token:
            # The same password and the same domain everywhere: so one token is good for all.
            name = f"condor@{DOMAIN}"
            self._token = host.run(
                ["condor_token_create", "-identity", name, "-key", "POOL"]
            ).stdout
        _write(files / "etc/condor/tokens.d/condor", self._token.encode(), 0o600)

    def let_users_listen(self, host: Host) -> None:
        """Make the one directory that ``condor/README.md`` asks an administrator for."""
        directory = host.files / "run/lock/condor/daemon_sock"
        directory.mkdir()
        directory.chmod(0o1733)

    def start(self, host: Host) -> None:
        """Start the daemons, as the service does."""
        log = open(host.files / "var/log/condor/service", "wb")
        with log:
            master = host.start(
                ["condor_master", "-f"], environment=SERVICE, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, preexec_fn=_limit_files,
            )  # fmt: skip
        self._masters.append(master)

    def forget(self) -> None:
        """Take note of daemons that have ended with their hosts."""
        for master in self._masters:
            master.wait()
        self._masters.clear()

    def wait_for_access_point(self, host: Host, *, timeout: float = 60) -> None:
        """Return when the shared port and the schedd can be used."""
        _wait(
            lambda: (host.files / "run/lock/condor/shared_port_ad").exists()
            and not host.run(["condor_q", "-total"], user="ann", check=False).returncode,
            f"no schedd on {host.name}", timeout,
        )  # fmt: skip

    def wait_for_slots(self, asked: Host, count: int, *, timeout: float = 60) -> None:
        """Return when so many execute points have told the collector of themselves."""

        def told() -> bool:
            said = asked.run(
                ["condor_status", "-startd", "-af", "Machine"], check=False
            ).stdout  # fmt: skip
            return len(set(said.split())) >= count

        _wait(told, f"fewer than {count} execute points", timeout)


def _limit_files() -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(32768, hard), hard))


def _write(path: Path, content: bytes, mode: int) -> None:
    path.write_bytes(content)
    path.chmod(mode)


def _wait(what: Callable[[], bool], problem: str, timeout: float) -> None:
    until = time.monotonic() + timeout
    while not what():
        if time.monotonic() > until:
            raise AssertionError(f"{problem} after {timeout:g} s")
        time.sleep(0.1)
