"""The import slots of one loaded ELF library.

Everything is read through a function, so that the hook gives it memory and the
tests give it bytes. Nothing is written here.

Source: System V ABI, chapters 4 and 5 (object files, dynamic linking), with the
processor supplements for AMD64 and AArch64; the names are the specification's.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Callable

from vine_sharedport.errors import HookError

__all__ = ["MACHINES", "ElfImage", "Machine", "ProgramHeader", "Slot", "parse_program_headers"]

ReadMemory = Callable[[int, int], bytes]


class _PT(enum.IntEnum):
    """Segment types we use. Source: gABI, "Program Header"."""

    LOAD = 1
    DYNAMIC = 2


class _DT(enum.IntEnum):
    """Dynamic array tags we use. Source: gABI, "Dynamic Section"."""

    NULL = 0
    PLTRELSZ = 2
    STRTAB = 5
    SYMTAB = 6
    RELA = 7
    RELASZ = 8
    RELAENT = 9
    STRSZ = 10
    SYMENT = 11
    PLTREL = 20
    JMPREL = 23


class _PF(enum.IntFlag):
    X = 1
    W = 2
    R = 4


@dataclass(frozen=True)
class Machine:
    """The relocation types by which one processor imports a function."""

    name: str
    jump_slot: int
    glob_dat: int


# R_X86_64_* from the AMD64 supplement, table 4.9; R_AARCH64_* from AAELF64, 5.7.12.
MACHINES = {
    "x86_64": Machine("x86_64", jump_slot=7, glob_dat=6),
    "aarch64": Machine("aarch64", jump_slot=1026, glob_dat=1025),
}

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
_PHDR = struct.Struct(
    "<IIQQQQQQ"
)  # p_type p_flags p_offset p_vaddr p_paddr p_filesz p_memsz p_align
_DYN = struct.Struct("<qQ")  # d_tag d_val
_RELA = struct.Struct("<QQq")  # r_offset r_info r_addend
_SYM = struct.Struct("<IBBHQQ")  # st_name st_info st_other st_shndx st_value st_size

# Far above anything real (libc has 30 entries, the largest libraries some 100,000
# relocations); they only keep a broken file from keeping us busy.
_MAX_DYNAMIC = 1024
_MAX_RELOCATIONS = 4_000_000
_MAX_NAME = 256


@dataclass(frozen=True)
class ProgramHeader:
    """One segment, addresses relative to the library's base."""

    type: int
    flags: int
    vaddr: int
    memsz: int

    @property
    def is_load(self) -> bool:
        """Whether the segment is loaded into memory."""
        return self.type == _PT.LOAD


@dataclass(frozen=True)
class Slot:
    """One pointer in the library through which it calls an imported function.

    Attributes:
        symbol: The function's name, without its version.
        address: Where the 8-byte pointer stands in memory.
        kind: ``JUMP_SLOT`` (called through the PLT) or ``GLOB_DAT`` (``-fno-plt``).
    """

    symbol: str
    address: int
    kind: str


def parse_program_headers(image: bytes) -> list[ProgramHeader]:
    """Decode the program headers of a library from its first page.

    Raises:
        HookError: The bytes are no 64-bit little-endian shared object, or its
            program headers do not stand within them.
    """
    if len(image) < _EHDR.size:
        raise HookError(f"{len(image)} bytes are too few for an ELF header")
    ident, kind, _, _, _, phoff, _, _, _, phentsize, phnum, *_ = _EHDR.unpack_from(image)
    # EI_CLASS 2: 64 bits; EI_DATA 1: little endian; ET_DYN 3: shared object.
    if ident[:6] != b"\x7fELF\x02\x01" or kind != 3:
        raise HookError("the library is no 64-bit little-endian ELF shared object")
    if phentsize != _PHDR.size or not phnum or phoff + phnum * phentsize > len(image):
        raise HookError(
            f"{phnum} program headers of {phentsize} bytes at {phoff} are not plausible"
        )
    return [
        ProgramHeader(kind, flags, vaddr, memsz)
        for kind, flags, _, vaddr, _, _, memsz, _ in _PHDR.iter_unpack(
            image[phoff : phoff + phnum * phentsize]
        )
    ]


class ElfImage:
    """A library as the dynamic loader has laid it out in memory.

    Args:
        read: Returns ``size`` bytes at an address. Called only inside the
            library's own loaded segments.
        base: What the loader added to the library's addresses.
        headers: The library's program headers.
        machine: The processor, from ``MACHINES``.

    Raises:
        HookError: The headers or the dynamic section are not what the
            specification says.
    """

    def __init__(
        self, read: ReadMemory, base: int, headers: Iterable[ProgramHeader], machine: Machine
    ) -> None:
        self._read_memory = read
        self._base = base
        self._machine = machine
        headers = list(headers)
        self._loads = [
            (base + h.vaddr, base + h.vaddr + h.memsz, _PF(h.flags & 7))
            for h in headers
            if h.is_load
        ]
        dynamic = [h for h in headers if h.type == _PT.DYNAMIC]
        if len(dynamic) != 1:
            raise HookError(f"the library has {len(dynamic)} dynamic segments, not one")
        self._dynamic = self._parse_dynamic(base + dynamic[0].vaddr, dynamic[0].memsz)

    def is_code(self, address: int) -> bool:
        """Whether the address lies in an executable segment of this library."""
        return any(low <= address < high and flags & _PF.X for low, high, flags in self._loads)

    def slots(self, symbols: Iterable[str]) -> dict[str, list[Slot]]:
        """Find the slots through which the library imports the given functions.

        Returns:
            For each name its slots, in the order of the relocation tables; an
            empty list where the library does not import it.

        Raises:
            HookError: The tables are not what the specification says.
        """
        found: dict[str, list[Slot]] = {name: [] for name in symbols}
        for offset, kind, symbol_index in self._imports():
            name = self._symbol_name(symbol_index)
            if name in found:
                address = self._base + offset
                if address % 8:
                    raise HookError(f"the slot of {name} at {address:#x} is not aligned")
                self._check(address, 8)
                found[name].append(Slot(name, address, kind))
        return found

    def _read(self, address: int, size: int) -> bytes:
        self._check(address, size)
        return self._read_memory(address, size)

    def _check(self, address: int, size: int) -> None:
        """Refuse whatever is not wholly inside one loaded segment of the library."""
        if size < 0 or not any(
            low <= address and address + size <= high for low, high, _ in self._loads
        ):
            raise HookError(f"{size} bytes at {address:#x} are outside the library's segments")

    def _parse_dynamic(self, address: int, size: int) -> dict[int, int]:
        entries: dict[int, int] = {}
        for index in range(min(size // _DYN.size, _MAX_DYNAMIC)):
            tag, value = _DYN.unpack(self._read(address + index * _DYN.size, _DYN.size))
            if tag == _DT.NULL:
                return entries
            entries.setdefault(tag, value)
        raise HookError("the dynamic section has no end")

    def _pointer(self, tag: _DT) -> int:
        value = self._dynamic.get(tag)
        if value is None:
            raise HookError(f"the library has no DT_{tag.name}")
        # glibc adds the base to these entries when it loads a library, musl does not.
        return value if value >= self._base else value + self._base

    def _imports(self) -> Iterator[tuple[int, str, int]]:
        """Yield (offset, kind, symbol index) of every function-import relocation."""
        tables = []
        if _DT.JMPREL in self._dynamic:
            if self._dynamic.get(_DT.PLTREL) != _DT.RELA:
                raise HookError("the library's PLT relocations are not of type RELA")
            tables.append((self._pointer(_DT.JMPREL), self._dynamic.get(_DT.PLTRELSZ, 0)))
        if _DT.RELA in self._dynamic:
            if self._dynamic.get(_DT.RELAENT) != _RELA.size:
                raise HookError("the library's relocations have an unknown size")
            tables.append((self._pointer(_DT.RELA), self._dynamic.get(_DT.RELASZ, 0)))
        kinds = {self._machine.jump_slot: "JUMP_SLOT", self._machine.glob_dat: "GLOB_DAT"}
        seen: set[int] = set()
        for address, size in tables:
            if size % _RELA.size or size // _RELA.size > _MAX_RELOCATIONS:
                raise HookError(f"a relocation table of {size} bytes is not plausible")
            for offset, info, _ in _RELA.iter_unpack(self._read(address, size)):
                kind = kinds.get(info & 0xFFFFFFFF)
                # Some linkers count the PLT's entries into DT_RELA as well.
                if kind is not None and offset not in seen:
                    seen.add(offset)
                    yield offset, kind, info >> 32

    def _symbol_name(self, index: int) -> str:
        if self._dynamic.get(_DT.SYMENT) != _SYM.size:
            raise HookError("the library's symbols have an unknown size")
        name_offset = _SYM.unpack(
            self._read(self._pointer(_DT.SYMTAB) + index * _SYM.size, _SYM.size)
        )[0]
        strings, size = self._pointer(_DT.STRTAB), self._dynamic.get(_DT.STRSZ, 0)
        if name_offset >= size:
            raise HookError(f"symbol {index} has its name outside the string table")
        raw = self._read(strings + name_offset, min(_MAX_NAME, size - name_offset))
        return raw.split(b"\0", 1)[0].decode("latin-1")
