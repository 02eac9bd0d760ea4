"""Programs of ordinary users on the access point, and workers that are started by hand."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

from . import users
from .hosts import PATH
from .site import Site

PROGRAMS = Path(__file__).with_name("programs")


class Flow:
    """A program of ``programs/`` that runs for a user, in a directory of its own.

    Attributes:
        port: The manager's own TCP port, which the firewall counts.
        worker_command: What the manager says starts a worker.
        last_log: What the worker that was started last says.
    """

    def __init__(self, site: Site, user: str, program: str, **settings: Any) -> None:
        self.site, self.user = site, user
        self._name = f"{Path(program).stem}-{random.randrange(10**9)}"
        self._home = Path("home", user)
        self.directory = site["ap"].files / self._home / self._name
        shutil.copytree(PROGRAMS, self.directory)
        users.own(self.directory, user)
        self._workers: list[subprocess.Popen[Any]] = []
        self._errors = open(self.directory / "stderr", "w+")
        self._process: subprocess.Popen[str] = site.start(
            "ap",
            [f"/home/{user}/vine/bin/python", program, json.dumps(settings)],
            user=user, cwd=f"/{self._home / self._name}", text=True,
            environment={"PATH": f"/home/{user}/vine/bin:{PATH}", "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        said = self.read()
        self.port, self.worker_command = int(said["port"]), str(said["worker_command"])
        site.firewall.watch(self.port)

    def read(self) -> dict[str, Any]:
        """Return the next line that the program prints; Work Queue's own are none of its."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        while line and not line.startswith("{"):
            line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._errors.seek(0)
            said = self._errors.read()[-3000:]
            raise AssertionError(f"{self.user}: {self._name}: status {status}: {said}")
        return dict(json.loads(line))

    def start_worker(
        self, host: str, *options: str, **environment: str
    ) -> subprocess.Popen[Any]:
        """Start a worker on a host, from what ``worker --bundle`` writes."""
        number = len(self._workers)
        place = f"{self._home}/{self._name}-{number}"
        ours, _, of_worker = self.worker_command.partition(" -- ")
        command = f"{ours} --bundle /{place} --worker vine_worker"
        path = {"PATH": f"/home/{self.user}/vine/bin:{PATH}"}
        self.site.run("ap", ["sh", "-c", command], user=self.user, environment=path)
        target = self.site[host].files / place
        source = self.site["ap"].files / place
        subprocess.run(["cp", "-a", source, target.parent], check=True)
        self.last_log = target / "stdout"
        log = open(self.last_log, "w")
        with log:
            worker: subprocess.Popen[Any] = self.site.start(
                host,
                ["./launcher.sh", "vine_worker", "--cores", "1", "--memory", "300",
                 "--disk", "1000", "--workspace", f"/{place}/work",
                 *of_worker.split(), *options],
                user=self.user, cwd=f"/{place}", stdin=subprocess.DEVNULL,
                environment={f"VINE_SHAREDPORT_{k}": text for k, text in environment.items()},
                stdout=log, stderr=log,
            )  # fmt: skip
        self._workers.append(worker)
        return worker

    def packets_to_its_port(self) -> int:
        """Return what the firewall has seen for the manager's own TCP port."""
        return self.site.firewall.packets()[f"port-{self.port}"]

    def __enter__(self) -> Flow:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._process, *self._workers):
            process.terminate()
        for process in (self._process, *self._workers):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()
        shutil.rmtree(self.directory)
