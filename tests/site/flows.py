"""Workflows of an ordinary user on the access point, by a program beside this module."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from . import users
from .hosts import PATH
from .site import Site

PROGRAMS = Path(__file__).with_name("programs")


class Flow:
    """A program of ``programs/`` that runs for a user, and what it reported.

    Attributes:
        port: The manager's own TCP port, which the firewall counts.
        report: What it printed at its end.
    """

    def __init__(self, site: Site, user: str, program: str, **settings: Any) -> None:
        self._site, self._user, self._name = site, user, program
        home = site["ap"].files / "home" / user
        self._directory = home / f"{Path(program).stem}-{settings['seed']}"
        self._directory.mkdir(exist_ok=True)
        users.own(self._directory, user)
        shutil.copy(PROGRAMS / program, self._directory)
        self._errors = open(self._directory / "stderr", "w+")
        self._process: subprocess.Popen[str] = site.start(
            "ap",
            [f"/home/{user}/vine/bin/python", program, json.dumps(settings)],
            user=user, cwd=f"/home/{user}/{self._directory.name}",
            environment={"PATH": f"/home/{user}/vine/bin:{PATH}", "PYTHONWARNINGS": "ignore"},
            text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        self.report: dict[str, Any] = {}
        self.port = int(self._line()["port"])
        site.firewall.watch(self.port)

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._errors.seek(0)
            said = self._errors.read()[-3000:]
            raise AssertionError(f"{self._user}: {self._name}: status {status}: {said}")
        return dict(json.loads(line))

    def __enter__(self) -> Flow:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.terminate()
        self._process.wait(30)
        self._errors.close()
        shutil.rmtree(self._directory)

    def finish(self) -> dict[str, Any]:
        """Return its report when it has ended."""
        self.report = self._line()
        return self.report

    def packets_to_its_port(self) -> int:
        """Return what the firewall has seen for the manager's own TCP port."""
        return self._site.firewall.packets()[f"port-{self.port}"]
