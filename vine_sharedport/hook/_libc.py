"""The C functions the hook calls, with their prototypes, and the loaded libraries.

An undeclared ``restype`` would cut pointers to 32 bits, so every function is
declared here and nowhere else.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import socket
import struct
import sys
from ctypes import CFUNCTYPE, PYFUNCTYPE, c_int, c_size_t, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any, TextIO

from vine_sharedport.errors import HookError
from vine_sharedport.hook.elf import MACHINES, Machine, ProgramHeader, parse_program_headers

__all__ = [
    "ACCEPT_FUNCTION",
    "CLOSE_FUNCTION",
    "GETSOCKNAME_FUNCTION",
    "LoadedLibrary",
    "address_of",
    "check_platform",
    "find_library",
    "function_address",
    "getpeername_keeping_errno",
    "peer_name",
    "read_memory",
    "read_pointer",
    "real_accept",
    "real_close",
    "real_getsockname",
    "write_pointer",
]

# int accept(int, struct sockaddr *, socklen_t *)
ACCEPT_FUNCTION = CFUNCTYPE(c_int, c_int, c_void_p, c_void_p, use_errno=True)
# int getsockname(int, struct sockaddr *, socklen_t *)
GETSOCKNAME_FUNCTION = CFUNCTYPE(c_int, c_int, c_void_p, c_void_p, use_errno=True)
# int close(int)
CLOSE_FUNCTION = CFUNCTYPE(c_int, c_int, use_errno=True)

# The global scope: what the library's own imports were, or will be, bound to.
_process = ctypes.CDLL(None, use_errno=True)


def function_address(name: str) -> int:
    """Return the address to which the process binds a function's name.

    Raises:
        HookError: No loaded library has it.
    """
    try:
        return ctypes.cast(getattr(_process, name), c_void_p).value or 0
    except AttributeError as error:
        raise HookError(f"no loaded library has a function {name}") from error


def peer_name(fd: int) -> str | None:
    """Return ``host:port`` of a connection's other end, None if it has none or has gone.

    Makes no socket object: that would close ``fd`` if a signal's handler raised in here.
    """
    raw = ctypes.create_string_buffer(128)  # struct sockaddr_storage
    length = ctypes.c_uint32(len(raw))
    if getpeername_keeping_errno(fd, ctypes.byref(raw), ctypes.byref(length)):
        return None
    (family,) = _FAMILY.unpack_from(raw)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    port, host = (_IN if family == socket.AF_INET else _IN6).unpack_from(raw)
    return f"{socket.inet_ntop(family, host)}:{port}"


def address_of(function: Any) -> int:
    """Return the C address behind a ctypes function or callback."""
    return ctypes.cast(function, c_void_p).value or 0


# We call the functions themselves and never the slot's old value: that may be the
# lazy-binding stub, which on its first call writes the slot and so removes the hook.
real_accept = ACCEPT_FUNCTION(function_address("accept"))
real_getsockname = GETSOCKNAME_FUNCTION(function_address("getsockname"))
real_close = CLOSE_FUNCTION(function_address("close"))

# Called with the GIL held, and without ctypes' copy of errno.
getpeername_keeping_errno = PYFUNCTYPE(c_int, c_int, c_void_p, c_void_p)(
    function_address("getpeername")
)

_FAMILY = struct.Struct("=H")  # sa_family_t
_IN = struct.Struct("!2xH4s")  # struct sockaddr_in: sin_port, sin_addr
_IN6 = struct.Struct("!2xH4x16s")  # struct sockaddr_in6: sin6_port, sin6_addr

# int mprotect(void *, size_t, int)
_mprotect = _process.mprotect
_mprotect.argtypes = [c_void_p, c_size_t, c_int]
_mprotect.restype = c_int


@dataclass(frozen=True)
class LoadedLibrary:
    """One library as the dynamic loader knows it."""

    path: str
    base: int
    headers: tuple[ProgramHeader, ...]


def check_platform() -> Machine:
    """Return the processor's relocation types.

    Raises:
        HookError: The processor or the C library is one the hook was not tested on.
    """
    name = platform.machine()
    machine = MACHINES.get(name)
    if machine is None or struct.calcsize("P") != 8 or sys.byteorder != "little":
        raise HookError(
            f"the accept hook was not tested on processor {name!r} "
            f"({8 * struct.calcsize('P')} bits, {sys.byteorder} endian); "
            f"it knows {', '.join(sorted(MACHINES))}, 64 bits, little endian"
        )
    if not hasattr(_process, "gnu_get_libc_version"):
        raise HookError(
            "the accept hook was tested on glibc only, and this process has another libc"
        )
    return machine


@dataclass(frozen=True)
class _Mapping:
    """One line of /proc/self/maps."""

    start: int
    end: int
    protection: int
    offset: int
    device: tuple[int, int]
    inode: int
    path: str

    def shows(self, file: os.stat_result) -> bool:
        """Whether this is a mapping of the file.

        Under proot the paths are those of the host, so that device and inode decide; on
        overlayfs and btrfs these are of a layer or a volume, so that the path decides.
        """
        if (self.device, self.inode) == (
            (os.major(file.st_dev), os.minor(file.st_dev)),
            file.st_ino,
        ):
            return True
        try:
            return self.path.startswith("/") and os.path.samestat(os.stat(self.path), file)
        except OSError:
            return False


def _open_maps() -> TextIO:
    """Open the process's memory map, as the kernel lists it (proc(5))."""
    return open("/proc/self/maps", encoding="utf-8", errors="surrogateescape")


def _mapping(line: str) -> _Mapping:
    """Return what one line of the memory map says."""
    fields = line.rstrip("\n").split(None, 5)
    start, end = (int(part, 16) for part in fields[0].split("-"))
    bits = fields[1]
    protection = (
        (mmap.PROT_READ if bits[0] == "r" else 0)
        | (mmap.PROT_WRITE if bits[1] == "w" else 0)
        | (mmap.PROT_EXEC if bits[2] == "x" else 0)
    )
    major, minor = (int(part, 16) for part in fields[3].split(":"))
    path = fields[5] if len(fields) > 5 else ""
    offset, inode = int(fields[2], 16), int(fields[4])
    return _Mapping(start, end, protection, offset, (major, minor), inode, path)


def find_library(path: str) -> LoadedLibrary:
    """Find a loaded library by the file it was loaded from.

    Reads the kernel's memory map. ``dl_iterate_phdr`` would call Python with the
    loader's lock held: a thread that imports meanwhile, holding the GIL, and this
    one would wait for each other.

    Args:
        path: The library's file, such as a Python extension's ``__file__``.

    Raises:
        HookError: It is not loaded, or it is loaded more than once.
    """
    try:
        wanted = os.stat(path)
    except OSError as error:
        raise HookError(f"the library {path} cannot be examined: {error.strerror}") from error
    found: list[LoadedLibrary] = []
    end = 0
    with _open_maps() as maps:
        mappings = list(map(_mapping, maps))
    for mapping in mappings:
        # A small library's data comes from its file's first page too: look behind it.
        if mapping.offset or mapping.start < end or not mapping.protection & mmap.PROT_READ:
            continue
        if mapping.shows(wanted):
            size = min(mapping.end - mapping.start, mmap.PAGESIZE)
            headers = parse_program_headers(read_memory(mapping.start, size))
            loads = [header for header in headers if header.is_load]
            low = min((h.vaddr for h in loads), default=0)
            base = mapping.start - (low & -mmap.PAGESIZE)
            end = base + max((h.vaddr + h.memsz for h in loads), default=0)
            found.append(LoadedLibrary(path, base, tuple(headers)))
    if len(found) != 1:
        count = "not loaded" if not found else f"loaded {len(found)} times"
        raise HookError(f"{path} is {count} in this process; the hook needs it exactly once")
    return found[0]


def read_memory(address: int, size: int) -> bytes:
    """Copy bytes out of this process's memory; the caller has checked the range."""
    return ctypes.string_at(address, size)


def read_pointer(address: int) -> int:
    """Return the pointer that stands at an aligned address."""
    return c_uint64.from_address(address).value


def _protection(address: int) -> int:
    """Return the PROT_* bits of the page at an address."""
    with _open_maps() as maps:  # which may be long: read no further than needed
        for mapping in map(_mapping, maps):
            if mapping.start <= address < mapping.end:
                return mapping.protection
    raise HookError(f"address {address:#x} is not mapped")


def write_pointer(address: int, value: int) -> None:
    """Write one pointer, lending the page write permission where it has none (RELRO).

    Raises:
        HookError: The page cannot be made writable (nothing is written), or the
            value does not read back.
    """
    before = _protection(address)
    page = address & -mmap.PAGESIZE
    if not before & mmap.PROT_WRITE and _mprotect(
        page, mmap.PAGESIZE, before | mmap.PROT_WRITE
    ):
        code = ctypes.get_errno()
        raise HookError(f"the page at {page:#x} cannot be made writable: {os.strerror(code)}")
    try:
        c_uint64.from_address(address).value = value  # one aligned store
    finally:
        if not before & mmap.PROT_WRITE:
            _mprotect(page, mmap.PAGESIZE, before)
    if read_pointer(address) != value:
        raise HookError(f"the slot at {address:#x} did not keep the value written")
