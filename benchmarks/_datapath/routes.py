"""Real workers, each started as a user would, by the route it takes to its manager."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vine_sharedport
from vine_sharedport import environment
from vine_sharedport.bundle import shim_build
from vine_sharedport.bundle.package import write_package

ROUTES = ("tcp", "shim", "relay")
"""The routes that are compared; the first is what the others are measured by."""

STOCK = "stock"
"""The control: plain TCP to a manager that has no shared port."""

IDLE = "idle"
"""Plain TCP, for a worker that gets nothing to do."""

_BY_TCP = ("tcp", STOCK, IDLE)


@dataclass
class Worker:
    """A running worker and what its route put between it and the manager.

    Attributes:
        route: How it reaches its manager.
        process: What was started; the worker itself unless a relay is in between.
        feature: Tasks that ask for it run here and nowhere else.
    """

    route: str
    process: subprocess.Popen[bytes]
    feature: str
    log: Path = field(repr=False)

    def pids(self) -> dict[str, int]:
        """Return the processes by what they are: ``worker``, and ``relay`` if there is one."""
        if self.route != "relay":
            return {"worker": self.process.pid}
        children = children_of(self.process.pid)
        found = {"relay": self.process.pid}
        if children:
            found["worker"] = children[0]
        return found

    def explain(self) -> str:
        """Return what the worker wrote last."""
        status = self.process.poll()
        said = self.log.read_text(errors="replace")[-2000:].strip() or "(nothing)"
        state = "is running" if status is None else f"has ended with status {status}"
        return f"the worker by {self.route} {state}; it wrote: {said}"

    def stop(self) -> None:
        """End it and wait for it. Idempotent."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def children_of(pid: int) -> list[int]:
    """Return the children of a process, of all of its threads."""
    found = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/task/{thread}/children").read_text()
                found += [int(child) for child in text.split()]
    return found


class Kit:
    """The files that travel to an execute point, and how workers are started with them.

    Args:
        directory: Where the kit and the workers' workspaces are put.
        routes: Those that will be used: the shim is built only if it is one of them.
        cores: Processors for the worker and what belongs to it; None for any.
    """

    def __init__(
        self, directory: Path, routes: Sequence[str], *, cores: set[int] | None = None
    ) -> None:
        self._directory = directory
        self._cores = cores
        self._count = 0
        self._launcher = directory / "launcher.sh"
        shutil.copy(
            Path(vine_sharedport.__file__).parent / "worker/launcher.sh", self._launcher
        )
        self._launcher.chmod(0o755)
        if "shim" in routes:
            shim_build.build(str(directory / shim_build.LIBRARY))
        if "relay" in routes:
            write_package(str(directory / "vine_sharedport.pyz"))

    @contextlib.contextmanager
    def worker(
        self, route: str, manager: Any, *, disk_mb: int = 500, options: Sequence[str] = ()
    ) -> Iterator[Worker]:
        """Run a worker for the length of the block.

        Args:
            route: One of ``ROUTES`` or ``STOCK``.
            manager: Whose worker it is; with a shared port unless by TCP.
            disk_mb: What the worker reports, in MiB.
            options: More of the worker's own options.
        """
        self._count += 1
        workspace = self._directory / f"worker-{self._count}"
        workspace.mkdir()
        log = self._directory / f"worker-{self._count}.log"
        options = (
            "--cores", "1", "--memory", "500", "--disk", str(disk_mb), "--feature", route,
            "--workspace", str(workspace), "--single-shot", *options,
        )  # fmt: skip
        with open(log, "wb") as output, _on_processors(self._cores):
            process = subprocess.Popen(
                self._command(route, manager, options),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=self._directory, env=self._environment(route, manager),
            )  # fmt: skip
        worker = Worker(route, process, route, log)
        try:
            yield worker
        finally:
            worker.stop()
            shutil.rmtree(workspace, ignore_errors=True)

    def _command(self, route: str, manager: Any, options: Sequence[str]) -> list[str]:
        if route in _BY_TCP:
            return ["vine_worker", *options, "127.0.0.1", str(manager.port)]
        return [str(self._launcher), "vine_worker", *options]

    def _environment(self, route: str, manager: Any) -> dict[str, str]:
        variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(environment.PREFIX)
        }
        if route in _BY_TCP:
            return variables
        link = manager.shared_port
        variables[environment.ADDRESS] = str(link.address)
        variables[environment.SECRET_FILE] = os.path.abspath(link.secret_file)
        variables[environment.TRANSPORT] = route
        variables[environment.CONNECT_TIMEOUT] = "60"
        return variables


@contextlib.contextmanager
def _on_processors(cores: set[int] | None) -> Iterator[None]:
    """Let children that are started in the block run on these processors."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
