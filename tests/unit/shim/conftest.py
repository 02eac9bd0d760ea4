"""The client for each C library, the shim for each, and a manager."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vine_sharedport.bundle import shim_build

from .support import HERE, Client, EchoManager, first_program, missing, parts

FLAGS = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]
SYSROOT = "/usr/aarch64-linux-gnu"  # Debian's libc6-arm64-cross


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of this directory in the tier of its name."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.shim)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the session's programs are built."""
    return tmp_path_factory.mktemp("shim")


@pytest.fixture(scope="session")
def library(compiler: str, place: Path) -> str:
    """Return the shim as an installation builds it."""
    output = str(place / shim_build.LIBRARY)
    shim_build.build(output, compiler=compiler)
    return output


def build_client(command: list[str], output: Path, *options: str) -> str:
    """Compile the client."""
    source = str(HERE / "client.c")
    subprocess.run([*command, *FLAGS, source, *options, "-o", str(output)], check=True)
    return str(output)


@pytest.fixture(scope="session")
def glibc(compiler: str, library: str, place: Path) -> Client:
    """Return the client as the machine's own compiler builds it."""
    return Client("glibc", build_client([compiler], place / "client"), library)


@pytest.fixture(scope="session")
def musl(library: str, place: Path) -> Client:
    """Return the client with another C library."""
    if first_program("musl-gcc") is None:
        missing("no musl-gcc found")
    return Client("musl", build_client(["musl-gcc"], place / "client-musl"), library)


@pytest.fixture(scope="session")
def aarch64(place: Path) -> Client:
    """Return the client for another processor, under an emulator."""
    cross = first_program("aarch64-linux-gnu-gcc")
    emulator = first_program("qemu-aarch64-static", "qemu-aarch64")
    if cross is None or emulator is None or not Path(SYSROOT, "lib").is_dir():
        missing("no aarch64-linux-gnu-gcc with its C library, or no qemu-aarch64, found")
    directory = place / "aarch64"
    directory.mkdir()
    shim_build.build(str(directory / shim_build.LIBRARY), compiler=cross)
    program = build_client([cross], directory / "client")
    library = str(directory / shim_build.LIBRARY)
    return Client("aarch64", program, library, [emulator, "-L", SYSROOT])


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
def inside(compiler: str, place: Path) -> ctypes.CDLL:
    """Return the shim's inner functions; built as the shim is, but for their names."""
    output = str(place / "inside.so")
    files = parts("candidates", "sinful", "sha256", "kernel", "memory")
    subprocess.run([compiler, *shim_build.FLAGS, *files, "-o", output], check=True)
    return ctypes.CDLL(output)
