"""The client for each C library, the shim for each, and a manager."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests import parallel
from vine_sharedport.bundle import shim_build

from .support import HERE, Client, EchoManager, Once, first_program, missing, parts

FLAGS = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]
SYSROOT = "/usr/aarch64-linux-gnu"  # Debian's libc6-arm64-cross


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of this directory in the tier of its name."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.shim)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Return what makes a directory of programs once for all processes of the run."""
    return partial(parallel.made_once, tmp_path_factory)


@pytest.fixture(scope="session")
def library(compiler: str, once: Once) -> str:
    """Return the shim as an installation builds it."""

    def make(place: Path) -> None:
        shim_build.build(str(place / shim_build.LIBRARY), compiler=compiler)

    return str(once("shim", make) / shim_build.LIBRARY)


def build_client(command: list[str], output: Path, *options: str) -> str:
    """Compile the client."""
    source = str(HERE / "client.c")
    subprocess.run([*command, *FLAGS, source, *options, "-o", str(output)], check=True)
    return str(output)


@pytest.fixture(scope="session")
def glibc(compiler: str, library: str, once: Once) -> Client:
    """Return the client as the machine's own compiler builds it."""
    place = once("client-glibc", lambda place: build_client([compiler], place / "client"))
    return Client("glibc", str(place / "client"), library)


@pytest.fixture(scope="session")
def musl(library: str, once: Once) -> Client:
    """Return the client with another C library."""
    if first_program("musl-gcc") is None:
        missing("no musl-gcc found")
    place = once("client-musl", lambda place: build_client(["musl-gcc"], place / "client"))
    return Client("musl", str(place / "client"), library)


@pytest.fixture(scope="session")
def aarch64(once: Once) -> Client:
    """Return the client for another processor, under an emulator."""
    cross = first_program("aarch64-linux-gnu-gcc")
    emulator = first_program("qemu-aarch64-static", "qemu-aarch64")
    if cross is None or emulator is None or not Path(SYSROOT, "lib").is_dir():
        missing("no aarch64-linux-gnu-gcc with its C library, or no qemu-aarch64, found")

    def make(place: Path) -> None:
        shim_build.build(str(place / shim_build.LIBRARY), compiler=cross)
        build_client([cross], place / "client")

    place = once("aarch64", make)
    library = str(place / shim_build.LIBRARY)
    return Client("aarch64", str(place / "client"), library, [emulator, "-L", SYSROOT])


@pytest.fixture(params=["glibc", "musl", "aarch64"])
def client(request: pytest.FixtureRequest) -> Client:
    """Return each client in turn."""
    found: Client = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def manager(short_directory: Path) -> Iterator[EchoManager]:
    """Return a manager with a gate."""
    with EchoManager(short_directory) as made:
        yield made


@pytest.fixture
def open_manager(short_directory: Path) -> Iterator[EchoManager]:
    """Return a manager without a gate."""
    with EchoManager(short_directory, secret=None) as made:
        yield made


@pytest.fixture(scope="session")
def inside(compiler: str, once: Once) -> ctypes.CDLL:
    """Return the shim's inner functions; built as the shim is, but for their names."""
    files = parts("candidates", "sinful", "sha256", "kernel", "memory")

    def make(place: Path) -> None:
        command = [compiler, *shim_build.FLAGS, *files, "-o", str(place / "inside.so")]
        subprocess.run(command, check=True)

    return ctypes.CDLL(str(once("inside", make) / "inside.so"))
