"""What is left in the environment: for the worker, and for its tasks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vine_sharedport.bundle import shim_build

from .support import CONNECT, Client, EchoManager

OTHER = "libc.so.6"  # a library that every glibc process has already


def variables(lines: list[str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines)


def of_child(stdout: str) -> dict[str, str]:
    """Return what the child's ``env`` printed."""
    return variables([line for line in stdout.splitlines() if "=" in line and ": " not in line])


def test_neither_worker_nor_tasks_see_our_variables(
    client: Client, manager: EchoManager
) -> None:
    done = client.run(
        "env", *CONNECT, "env", "child",
        address=manager.address, secret_file=manager.secret_file, private_network="here",
        connect_timeout="60", transport="shim", python_env="x.tar.gz", something_new="1",
        OTHERS="stay", VINE_SHAREDPORTAL="stays",
    )  # fmt: skip
    assert done.lines("connect") == ["0"], done.stderr
    assert done.lines("child") == ["0"]
    for found in (variables(done.lines("env")), of_child(done.stdout)):
        assert found["OTHERS"] == "stay"
        assert found["VINE_SHAREDPORTAL"] == "stays"
        assert "LD_PRELOAD" not in found
        assert not [name for name in found if name.startswith("VINE_SHAREDPORT_")]


def test_nothing_of_us_is_left_without_an_address(client: Client) -> None:
    done = client.run("env", "child", OTHERS="stay")
    found = variables(done.lines("env"))
    assert found["OTHERS"] == "stay"
    assert "LD_PRELOAD" not in found
    assert done.stderr == ""


PRELOADS = {
    "{ours}": None,
    "{ours}:": None,
    "{other} {ours}": "{other}",
    "{ours} {other}": "{other}",
    "{other}:{ours}": "{other}",
    "{ours}:{other}": "{other}",
    "{other} {ours} {other}": "{other} {other}",
    "{other}:{ours}:{other}": "{other}:{other}",
    "{other}:{ours} {other}": "{other}:{other}",
    "{ours}:{ours}": None,
    "{ours}:{other}:{ours}": "{other}",
    "{ours}::{other}": ":{other}",
}


@pytest.mark.parametrize("given", PRELOADS)
def test_other_preloaded_libraries_stay(glibc: Client, given: str) -> None:
    names = {"ours": glibc.library, "other": OTHER}
    done = glibc.run("env", preload=given.format(**names))
    left = variables(done.lines("env")).get("LD_PRELOAD")
    wanted = PRELOADS[given]
    assert left == (None if wanted is None else wanted.format(**names))
    assert done.stderr == ""


def test_a_library_of_a_similar_name_stays(glibc: Client, tmp_path: Path) -> None:
    similar = str(tmp_path / f"not-{shim_build.LIBRARY}")
    shutil.copy(glibc.library, similar)
    done = glibc.run("env", preload=f"{similar}:{glibc.library}")
    assert variables(done.lines("env"))["LD_PRELOAD"] == similar[: 60 - len("LD_PRELOAD=")]


def test_the_library_may_be_named_relative_to_the_directory(
    client: Client, manager: EchoManager
) -> None:
    done = client.run(
        "env", *CONNECT, preload=f"./{shim_build.LIBRARY}", cwd=os.path.dirname(client.library),
        address=manager.address, secret_file=manager.secret_file,
    )  # fmt: skip
    assert done.lines("connect") == ["0"], done.stderr
    assert "LD_PRELOAD" not in variables(done.lines("env"))


def test_a_full_environment_is_passed_on_whole(client: Client, manager: EchoManager) -> None:
    # One string may have 128 KiB (MAX_ARG_STRLEN of the kernel).
    big = {f"BIG{i}": "x" * 100_000 for i in range(5)}
    done = client.run(
        *CONNECT, "send", "there", "hear", "child",
        address=manager.address, secret_file=manager.secret_file, **big,
    )  # fmt: skip
    assert done.lines("heard") == ["hello there"], done.stderr
    found = of_child(done.stdout)
    assert {name: found[name] for name in big} == big
    assert not [name for name in found if name.startswith("VINE_SHAREDPORT_")]


def test_the_last_of_a_variable_given_twice_does_not_stay(glibc: Client) -> None:
    # Python's environment has each name once; a program may give it twice.
    program = (
        "import ctypes, sys\n"
        "args = (ctypes.c_char_p * 3)(sys.argv[1].encode(), b'env', None)\n"
        "env = (ctypes.c_char_p * 6)(b'LD_PRELOAD=' + sys.argv[2].encode(),\n"
        "    b'VINE_SHAREDPORT_X=1', b'A=1', b'VINE_SHAREDPORT_X=2', b'B=2', None)\n"
        "ctypes.CDLL(None).execve(args[0], args, env)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, glibc.program, glibc.library],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["env: A=1", "env: B=2"]


def test_the_launchers_question_is_answered(client: Client) -> None:
    done = client.run("env", check="1")
    assert (done.status, done.stdout, done.stderr) == (0, "vine_sharedport shim\n", "")
