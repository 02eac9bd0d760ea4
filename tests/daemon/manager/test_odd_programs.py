"""Programs and places that are a little out of the ordinary."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")


def _python(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = dict(
        os.environ, PYTHONPATH=str(helpers.ROOT), PYTHONWARNINGS="ignore", **more
    )
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_default_timeout_of_the_program_leaves_its_sockets_as_they_are(
    make_manager: Any,
) -> None:
    ours = socket.socket()
    try:
        socket.setdefaulttimeout(30)
        make_manager()
        assert os.get_blocking(ours.fileno())
    finally:
        socket.setdefaulttimeout(None)
        ours.close()


def test_a_python_without_memfd_create_will_do(
    make_manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    manager = make_manager()
    with helpers.relay_worker(manager.shared_port):
        helpers.run_tasks(manager, [vine.Task("true")])


@pytest.mark.parametrize("mode", ["auto", "relay"])
def test_a_narrowed_tcp_port_is_never_quietly_left_open(
    make_manager: Any, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    from vine_sharedport.hook import accept_hook

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise vine.HookError("unknown library")

    monkeypatch.setattr(accept_hook, "attach", refuse)
    with pytest.raises(vine.HookError):
        make_manager(shared_port=vine.SharedPort(mode=mode, tcp="loopback"))


def test_a_failed_discovery_leaves_only_its_own_message(pool: Any, tmp_path: Path) -> None:
    program = "import vine_sharedport as vine; vine.Manager(0, shared_port='yes')"
    result = _python("-c", program, cwd=tmp_path)
    assert "'yes'" in result.stderr
    assert "Exception ignored" not in result.stderr


@pytest.mark.parametrize("given", ["", ", shared_port=True", ", shared_port=False"])
def test_run_serves_programs_that_import_ours_first(
    pool: Any, tmp_path: Path, given: str
) -> None:
    (tmp_path / "p.py").write_text(
        "import vine_sharedport as vine\n"
        f"m = vine.Manager(0{given})\n"
        "print('GOT', m.shared_port)\n"
    )
    result = _python("-m", "vine_sharedport", "run", "p.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    line = next(line for line in result.stdout.splitlines() if line.startswith("GOT"))
    assert ("None" in line) is ("False" in given)


def test_run_leaves_the_programs_logging_and_status_alone(pool: Any, tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(
        textwrap.dedent(
            """
            import logging, sys
            logging.basicConfig(filename="user.log", level=logging.INFO)
            logging.info("hello")
            sys.exit(3)
            """
        )
    )
    result = _python("-m", "vine_sharedport", "run", "p.py", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (3, "")
    assert "hello" in (tmp_path / "user.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nosuch.py"], "there is no such file"), (["."], "it is a directory"),
     (["-m", "nosuch"], "there is no module nosuch in ")],
)  # fmt: skip
def test_run_names_a_program_that_is_not_there(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = _python("-m", "vine_sharedport", "run", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_workers_are_submitted_from_a_path_with_a_dollar(
    make_manager: Any, tmp_path: Path
) -> None:
    manager = make_manager(run_info_path=str(tmp_path / "run $(Cluster) info"))
    with vine.submit_workers(manager, 1):
        helpers.run_tasks(manager, [vine.Task("true")])


def test_a_path_with_a_comma_is_refused_before_anything_is_submitted(
    make_manager: Any, tmp_path: Path
) -> None:
    manager = make_manager(run_info_path=str(tmp_path / "run,info"))
    with pytest.raises(vine.SettingError, match="run,info"):
        vine.submit_workers(manager, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cores": 0}, "option cores is 0; leave it out"),
        ({"count": 0}, "option count is 0; wanted is workers"),
        ({"count": "3x"}, "option count is '3x'; wanted is workers"),
        ({"password_file": "/nonexistent"}, "cannot use the file /nonexistent"),
        ({"worker_binary": "nosuch"}, "no worker program 'nosuch'"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_submitted(
    make_manager: Any, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(vine.SettingError, match=message):
        vine.submit_workers(make_manager(), **wrong)


def test_expose_keeps_a_secret_that_was_there(pool: Any, tmp_path: Path) -> None:
    (tmp_path / "kept.secret").write_bytes(bytes(32))
    (tmp_path / "kept.secret").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [
            sys.executable,
            "-m",
            "vine_sharedport",
            "expose",
            "--shared-port-name",
            "kept",
        ]
        with subprocess.Popen(
            [*command, "--port", str(server.getsockname()[1]), "--json"],
            cwd=tmp_path, env=dict(os.environ, PYTHONPATH=str(helpers.ROOT)),
            stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline()
            process.send_signal(signal.SIGHUP)
            assert process.wait(10) == 130
    assert (tmp_path / "kept.secret").read_bytes() == bytes(32)


@pytest.mark.parametrize("sock", ["", "../../x", "a b"])
def test_a_worker_does_not_try_an_address_that_can_be_nobodys(
    tmp_path: Path, sock: str
) -> None:
    address = f"<127.0.0.1:9618?sock={sock}>"
    result = _python("-m", "vine_sharedport", "worker", "--address", address, cwd=tmp_path)
    assert result.returncode == 78
    assert "Traceback" not in result.stderr


def test_silent_strangers_cannot_keep_workers_out_where_few_descriptors_are_allowed(
    pool: Any, tmp_path: Path
) -> None:
    program = textwrap.dedent(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        import vine_sharedport as vine
        m = vine.Manager(0, shared_port=True)
        link = m.shared_port
        strangers = []
        secret = open(link.secret_file, "rb").read()
        for _ in range(150):
            strangers.append(vine.connect(link.address))
        m.wait(0)
        while link.counters.pending + sum(link.counters.refused.values()) < 150:
            pass
        print(link.counters.refused)
        vine.connect(link.address, secret=secret, timeout=10).close()
        print("in")
        """
    )
    result = _python("-c", program, cwd=tmp_path)
    assert "in" in result.stdout.split(), result.stdout + result.stderr
    assert "too-many" in result.stdout
