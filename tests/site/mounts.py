"""mount(2) and its kin: the sandbox has no mount(8)."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

# linux/mount.h
READ_ONLY, BIND, RECURSIVE, PRIVATE, REMOUNT, DETACH = 1, 4096, 16384, 1 << 18, 32, 2
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]

_libc = ctypes.CDLL(None, use_errno=True)


def _check(what: str, answer: int) -> None:
    if answer:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(kind: str, source: str, target: Path, flags: int = 0, options: str = "") -> None:
    """Mount a file system of that kind."""
    # int mount(const char *, const char *, const char *, unsigned long, const void *)
    target.mkdir(parents=True, exist_ok=True)
    answer = _libc.mount(
        os.fsencode(source), os.fsencode(target), os.fsencode(kind),
        ctypes.c_ulong(flags), os.fsencode(options),
    )  # fmt: skip
    _check(f"mount {kind} at {target}", answer)


def bind(source: str, target: Path, *, read_only: bool = False) -> None:
    """Let the directory be seen at another place too, with what is mounted below it."""
    mount("none", source, target, BIND | RECURSIVE)
    if read_only:
        mount("none", source, target, BIND | REMOUNT | READ_ONLY)


def make_private() -> None:
    """Keep what is mounted from here on to this process and its children."""
    mount("none", "none", Path("/"), RECURSIVE | PRIVATE)


def become_root(directory: Path) -> None:
    """Make the mounted directory the root of all, and forget the one before."""
    os.chdir(directory)
    # int pivot_root(".", "."): the old one then lies on top of the new one (pivot_root(2)).
    _check("pivot_root", _libc.syscall(ctypes.c_long(PIVOT_ROOT), b".", b"."))
    detach(".")
    os.chdir("/")


def detach(place: str) -> None:
    """Take the mount away, also if it is in use."""
    _check(f"umount {place}", _libc.umount2(os.fsencode(place), DETACH))


if __name__ == "__main__":
    detach(sys.argv[1])
