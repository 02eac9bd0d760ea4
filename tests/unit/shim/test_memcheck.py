"""The way in under valgrind's memcheck."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .conftest import build_client
from .support import CONNECT, RESERVED, EchoManager, first_program, missing


@pytest.fixture(params=["gcc", "musl-gcc"])
def linked(request: pytest.FixtureRequest, library: str, tmp_path: Path) -> str:
    """Return a client that needs the shim by name, in front of its C library.

    Preloaded, the shim would be in valgrind's own launcher too, and take the variables there.
    """
    if first_program("valgrind") is None:
        missing("no valgrind found")
    if first_program(request.param) is None:
        missing(f"no {request.param} found")
    place = f"-Wl,-rpath,{os.path.dirname(library)}"
    return build_client(
        [request.param], tmp_path / "linked", "-Wl,--no-as-needed", library, place
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_memcheck_finds_nothing(linked: str, manager: EchoManager, host: str) -> None:
    words = [*CONNECT, "send", "there", "hear", "close", "loop", *RESERVED, "5", "env"]
    done = subprocess.run(
        ["valgrind", "-q", "--error-exitcode=99", linked, *words],
        env={
            "PATH": os.environ["PATH"],
            "VINE_SHAREDPORT_ADDRESS": f"<{host}:{manager.shared_port.port}?sock=vine_1>",
            "VINE_SHAREDPORT_SECRET_FILE": manager.secret_file,
        },
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "heard: hello there" in lines, done.stderr
    assert "loop: 0" in lines
    assert not [line for line in done.stderr.splitlines() if line.startswith("==")]
    # valgrind's own preloaded libraries stay.
    assert [
        line for line in lines if line.startswith("env: LD_PRELOAD=") and "vgpreload" in line
    ]
