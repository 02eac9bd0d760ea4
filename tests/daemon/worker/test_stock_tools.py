"""The tools of cctools, unmodified, with a bundle: what it prints is what runs here."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers
from vine_sharedport.bundle.package import write_bundle

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")


def _bundle(manager: Any, directory: Path, **kwargs: Any) -> str:
    link = manager.shared_port
    kwargs.setdefault("options", ["--cores", "1", "--memory", "200", "--disk", "500"])
    return write_bundle(
        str(directory), str(link.address), secret_file=link.secret_file, **kwargs
    )


def _command(text: str, title: str) -> str:
    """Return the lines that stand below a title."""
    (part,) = [part for part in text.split("\n\n") if part.startswith(title)]
    return "\n".join(line[2:] for line in part.splitlines()[1:])


@contextlib.contextmanager
def _running(command: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a shell command that ends by itself when it is interrupted."""
    log = directory / "command.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            cwd=directory, stdout=output, stderr=subprocess.STDOUT, text=True,
        ) as process,
    ):  # fmt: skip
        try:
            yield process
        except BaseException as error:
            raise AssertionError(f"{command}\nprinted:\n{log.read_text()[:2000]}") from error
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            finally:
                process.kill()


def _run(manager: Any, count: int = 3) -> list[Any]:
    tasks = helpers.run_tasks(manager, [vine.Task("env") for _ in range(count)])
    for task in tasks:
        assert manager.shared_port.accepted(task.addrport), "the worker came by TCP"
        assert "VINE_SHAREDPORT" not in task.output
    return tasks


@pytest.mark.parametrize("batch", ["local", "condor"])
@pytest.mark.parametrize("directory", ["bundle", "a bundle of $mine"])
def test_vine_factory_starts_workers(
    manager: Any, tmp_path: Path, batch: str, directory: str
) -> None:
    text = _bundle(manager, tmp_path / directory, worker="vine_worker")
    command = _command(text, "By the factory").replace("PORT", str(manager.port))
    command = command.replace("-T condor", f"-T {batch}", 1)
    scratch = tmp_path / "scratch"
    with _running(
        f"{command} --min-workers 1 --max-workers 1 --scratch-dir {scratch}", tmp_path
    ):
        _run(manager)
        assert (scratch / "vine_sharedport.secret").stat().st_mode & 0o777 == 0o600
        assert manager.shared_port.counters.accepted == 1


def test_vine_submit_workers_starts_workers(
    manager: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "vine")  # the tool does not start without it
    text = _bundle(manager, tmp_path / "bundle")
    command = _command(text, "By vine_submit_workers")
    assert command.endswith(" 10")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = command[:-2].replace("vine_submit_workers", "{} --scratch-dir {}", 1) + "2"
    tool = shutil.which("vine_submit_workers")
    done = subprocess.run(
        ["/bin/sh", "-c", command.format(tool, scratch)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    try:
        assert "2 job(s) submitted" in done.stdout, done.stdout + done.stderr
        _run(manager)
        helpers.wait_until(
            lambda: manager.wait(1) or manager.shared_port.counters.accepted == 2
        )
    finally:
        _remove_jobs(done.stdout)


def test_the_printed_submit_file_starts_workers(manager: Any, tmp_path: Path) -> None:
    text = _bundle(manager, tmp_path / "a bundle of $mine", worker="vine_worker")
    description = _command(text, "As HTCondor jobs").replace("queue 10", "queue 2")
    (tmp_path / "workers.sub").write_text(description)
    done = subprocess.run(
        ["condor_submit", "workers.sub"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    try:
        assert "2 job(s) submitted" in done.stdout, done.stdout + done.stderr
        _run(manager)
        helpers.wait_until(
            lambda: manager.wait(1) or manager.shared_port.counters.accepted == 2
        )
    finally:
        _remove_jobs(done.stdout)


def test_a_bundle_runs_by_hand_from_anywhere(manager: Any, tmp_path: Path) -> None:
    text = _bundle(manager, tmp_path / "first", worker="vine_worker")
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    command = _command(text, "By hand").replace("first/launcher.sh", "copy/launcher.sh")
    (tmp_path / "elsewhere").mkdir()
    with _running(command, tmp_path / "elsewhere") as worker:
        _run(manager)
        # It has become the worker: no process of ours is left.
        assert Path(f"/proc/{worker.pid}/comm").read_text().strip() == "vine_worker"


def test_the_printed_sbatch_line_names_a_command_that_runs(
    manager: Any, tmp_path: Path
) -> None:
    """Slurm itself is not here; what it would run in its job is.

    LD_PRELOAD can name no path with a blank in it, so this one is the relay.
    """
    text = _bundle(manager, tmp_path / "a bundle of $mine", worker="vine_worker")
    words = shlex.split(_command(text, "By Slurm"))
    assert words[:-1] == ["sbatch", "--ntasks=1", "--cpus-per-task=1", "--wrap"]
    with _running(re.sub("^exec ", "", words[-1]), tmp_path):
        _run(manager)


def _remove_jobs(printed: str) -> None:
    """Remove what condor_submit says that it has submitted."""
    for cluster in re.findall(r"submitted to cluster (\d+)", printed):
        subprocess.run(["condor_rm", cluster], capture_output=True, check=False)
        helpers.wait_until(
            lambda cluster=cluster: not subprocess.run(
                ["condor_q", cluster, "-af", "JobStatus"],
                capture_output=True, text=True, check=True,
            ).stdout.strip(),
            timeout=40,
        )  # fmt: skip
