"""What a worker's program needs of the machine it runs on, read from its ELF file."""

from __future__ import annotations

import importlib
import logging
import os
import re
import shutil
import sys
from dataclasses import dataclass
from typing import Any

from vine_sharedport.errors import MissingDependencyError, SettingError
from vine_sharedport.installing import cctools, command

__all__ = ["Program", "find_program", "read_program"]

log = logging.getLogger(__name__)

# TaskVine's and Work Queue's.
_STOCK_WORKERS = ("vine_worker", "work_queue_worker")

# HTCondor's names (``Arch``) for ELF's machines; ``sysapi_translate_arch`` in
# src/condor_sysapi/arch.cpp passes on what ``uname -m`` says of all others.
_ARCHITECTURES = {
    "EM_X86_64": "X86_64",
    "EM_386": "INTEL",
    "EM_AARCH64": "aarch64",
    "EM_PPC64": "ppc64le",
}

# Parts of the C library, which the program's interpreter stands for.
_C_LIBRARY = re.compile(
    r"lib(c|m|pthread|dl|rt|util|resolv|nsl|anl)\.(so|musl-.*)|ld-(linux|musl)|libc\.musl-"
)

# A version such as GLIBC_2.38; GLIBC_PRIVATE and GLIBC_ABI_DT_RELR are none.
_GLIBC_VERSION = re.compile(r"GLIBC_(\d+)\.(\d+)")


@dataclass(frozen=True)
class Program:
    """What one program needs.

    Attributes:
        path: Of the file.
        arch: Processor by HTCondor's name, such as ``X86_64``; None for a script.
        interpreter: Its dynamic loader, such as ``/lib64/ld-linux-x86-64.so.2``; None for
            a static program and for a script.
        libraries: Shared libraries besides the C library, such as ``libssl.so.3``.
        glibc: Oldest glibc it runs with, such as ``(2, 38)``; None if it asks for none.
        search: Directories of its own that it looks for libraries in (``DT_RUNPATH``).
    """

    path: str
    arch: str | None = None
    interpreter: str | None = None
    libraries: tuple[str, ...] = ()
    glibc: tuple[int, int] | None = None
    search: tuple[str, ...] = ()

    @property
    def preloadable(self) -> bool:
        """Whether a dynamic loader starts it, which can load the shim."""
        return self.arch is None or self.interpreter is not None

    @property
    def left_behind(self) -> tuple[str, ...]:
        """Libraries that it finds in directories of its own here, which do not travel."""
        origin = os.path.dirname(os.path.realpath(self.path))
        places = [
            place.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
            for place in self.search
        ]
        return tuple(
            name
            for name in self.libraries
            if any(os.path.exists(os.path.join(place, name)) for place in places)
        )

    def __str__(self) -> str:
        """Return the needs in words."""
        if self.arch is None:
            return "is a script, whose needs are not known"
        if self.interpreter is None:
            return f"is a static {self.arch} program: it runs on every Linux"
        libc = "musl" if "musl" in self.interpreter else "glibc"
        if self.glibc is not None:
            libc += f" {self.glibc[0]}.{self.glibc[1]} or later"
        return f"needs {self.arch} and " + ", ".join((libc, *self.libraries))


def find_program(worker: str, *, option: str) -> str:
    """Return the path of a worker's program, on PATH or beside this Python.

    Args:
        worker: A path, or a name.
        option: What the caller gives another path with, for the message.

    Raises:
        SettingError: It is not there.
    """
    # An environment's Python may be called by its path, without "activate".
    beside = os.path.dirname(sys.executable)
    found = shutil.which(worker) or shutil.which(worker, path=beside)
    if found is None:
        where = "" if os.path.dirname(worker) else f" on PATH or in {beside}"
        step = f"{cctools()}, or " if worker in _STOCK_WORKERS else ""
        raise SettingError(
            f"there is no worker program {worker!r}{where}; {step}give its path with {option}"
        )
    return found


def read_program(path: str) -> Program | None:
    """Return what a program needs; None if that cannot be found out here.

    Args:
        path: File to read.

    Raises:
        SettingError: The file cannot be read.

    Source: the ELF specification's tables, read by pyelftools.
    """
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"\x7fELF":
                return Program(path)
            elffile = _load("elftools.elf.elffile")
            errors = _load("elftools.common.exceptions")
            try:
                return _read(path, elffile.ELFFile(file))
            # The parser asserts and looks things up in tables where a file is damaged.
            except (errors.ELFError, AssertionError, LookupError, ValueError) as error:
                log.info("what %s needs is not known: no sound ELF file (%s)", path, error)
                return None
    except OSError as error:
        raise SettingError(
            f"cannot read the worker program {path}: {error.strerror}"
        ) from error
    except MissingDependencyError as error:
        log.info("what %s needs is not known: %s", path, error)
        return None


def _read(path: str, elf: Any) -> Program:
    """Return what an ELF file's segments and version table say."""
    machine = str(elf["e_machine"])
    interpreter = None
    needed: list[str] = []
    search: list[str] = []
    for segment in elf.iter_segments():
        if segment["p_type"] == "PT_INTERP":
            interpreter = str(segment.get_interp_name())
        elif segment["p_type"] == "PT_DYNAMIC":
            for tag in segment.iter_tags():
                if tag.entry.d_tag == "DT_NEEDED":
                    needed.append(str(tag.needed))
                elif tag.entry.d_tag == "DT_RUNPATH":
                    search += str(tag.runpath).split(":")
                elif tag.entry.d_tag == "DT_RPATH":
                    search += str(tag.rpath).split(":")
    return Program(
        path,
        arch=_ARCHITECTURES.get(machine, machine[3:].lower()),
        interpreter=interpreter,
        libraries=tuple(sorted(name for name in needed if not _C_LIBRARY.match(name))),
        glibc=_newest_glibc(elf),
        search=tuple(place for place in search if place),
    )


def _newest_glibc(elf: Any) -> tuple[int, int] | None:
    """Return the newest version of glibc's names that the program uses.

    libm and the others are glibc too, with the same versions.
    """
    section = elf.get_section_by_name(".gnu.version_r")
    if section is None:
        return None
    found = [
        (int(match[1]), int(match[2]))
        for _, names in section.iter_versions()
        for match in [_GLIBC_VERSION.fullmatch(name.name) for name in names]
        if match
    ] + [
        # Packed relocations: asked for by name instead of by number, read since 2.36.
        (2, 36)
        for _, names in section.iter_versions()
        for name in names
        if name.name == "GLIBC_ABI_DT_RELR"
    ]
    return max(found, default=None)


def _load(name: str) -> Any:
    """Import a module of pyelftools, which has no types."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"the module elftools is not installed for {sys.executable}; install it with "
            f"'{command(pip='pyelftools', debian='python3-pyelftools', conda='pyelftools')}'"
        ) from error
