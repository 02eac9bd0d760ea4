"""The descriptor that listens on a port of this process, or who else has the port."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport.errors import HookError
from vine_sharedport.manager.listener import find_listener, who_listens


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_one_that_listens_is_found_and_not_its_connections(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError as error:
        pytest.skip(f"no {host} here: {error}")
    with listener:
        port = listener.getsockname()[1]
        with socket.create_connection((host, port)), listener.accept()[0]:
            assert find_listener(port) == listener.fileno()
        assert who_listens(port) == "this program itself"


def test_none_or_two_are_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with listener.dup(), pytest.raises(HookError, match=naming(2, port)):
            find_listener(port)
    with pytest.raises(HookError, match=naming(0, port)):
        find_listener(port)
    assert not re.search(r"\d", who_listens(port))


def test_another_process_is_named_with_its_command() -> None:
    program = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); "
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, "x" * 200],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        said = who_listens(int(process.stdout.readline()))
    assert re.search(naming(process.pid), said)
    assert os.path.basename(sys.executable) in said
    assert len(said) < 100


def test_sockets_of_the_program_are_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "_defaulttimeout", 1.0, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        before = Path(f"/proc/self/fdinfo/{listener.fileno()}").read_text()
        find_listener(listener.getsockname()[1])
        assert Path(f"/proc/self/fdinfo/{listener.fileno()}").read_text() == before
