"""The C server, built once in every way that a manager may have been."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import parallel

SOURCE = Path(__file__).with_name("manager.c")
TINY_SOURCE = Path(__file__).with_name("tiny.c")

# What the linker is told, and the kind of relocation that comes of it.
VARIANTS = {
    "lazy": (["-O2", "-Wl,-z,lazy,-z,norelro"], "JUMP_SLOT"),
    "partial-relro": (["-O2", "-Wl,-z,lazy,-z,relro"], "JUMP_SLOT"),
    "now": (["-O2", "-Wl,-z,now,-z,norelro"], "JUMP_SLOT"),
    "full-relro": (["-O2", "-Wl,-z,now,-z,relro"], "JUMP_SLOT"),
    "no-plt": (["-O2", "-fno-plt", "-Wl,-z,lazy,-z,relro"], "GLOB_DAT"),
    "no-plt-full-relro": (["-O2", "-fno-plt", "-Wl,-z,now,-z,relro"], "GLOB_DAT"),
    "unoptimised": (["-O0", "-Wl,-z,lazy,-z,relro"], "JUMP_SLOT"),
    "stripped": (["-O2", "-s", "-Wl,-z,now,-z,relro"], "JUMP_SLOT"),
    "one-segment": (["-Os", "-Wl,-z,lazy,-z,noseparate-code"], "JUMP_SLOT"),
}
if platform.machine() == "x86_64":  # calls go through .plt.sec, as on Ubuntu
    VARIANTS["branch-tracking"] = (
        ["-O2", "-fcf-protection=full", "-Wl,-z,lazy,-z,ibtplt"],
        "JUMP_SLOT",
    )
WITHOUT_ACCEPT = "without-accept"
TINY = "tiny"


def _compiler() -> str:
    found = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc"))), None)
    if found is None:
        pytest.skip("no C compiler (cc, gcc) found")
    return found


def _build(compiler: str, directory: Path, name: str, arguments: list[str]) -> None:
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", *arguments]
    subprocess.run([*command, "-o", str(directory / f"{name}.so")], check=True)


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the file of each variant. Load them in child processes only."""
    compiler = _compiler()
    wanted = {name: [*flags, str(SOURCE)] for name, (flags, _) in VARIANTS.items()}
    wanted[WITHOUT_ACCEPT] = ["-DWITHOUT_ACCEPT", str(SOURCE)]
    wanted[TINY] = ["-nostartfiles", "-Wl,-z,lazy,-z,noseparate-code", str(TINY_SOURCE)]

    def make(place: Path) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda item: _build(compiler, place, *item), wanted.items()))

    place = parallel.made_once(tmp_path_factory, "hook", make)
    return {name: str(place / f"{name}.so") for name in wanted}


@pytest.fixture
def library(libraries: dict[str, str]) -> str:
    """Return a library built as Debian builds TaskVine."""
    return libraries["partial-relro"]
