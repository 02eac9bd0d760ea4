"""Finding the import slots: libraries of two processors, and broken ones."""

from __future__ import annotations

import base64
import itertools
import json
import platform
import shutil
import struct
import subprocess
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.values import naming
from vine_sharedport.errors import HookError
from vine_sharedport.hook.elf import MACHINES, ElfImage, Slot, parse_program_headers

from .conftest import VARIANTS
from .support import SYMBOLS

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "imports-aarch64.json").read_text()
)["vectors"]
CASES = {vector["case"]: vector for vector in VECTORS}

# Tags of the dynamic section (gABI): the tests find and change entries by them.
PLTRELSZ, STRTAB, SYMTAB, RELA, RELASZ, RELAENT = 2, 5, 6, 7, 8, 9
STRSZ, SYMENT, PLTREL, JMPREL = 10, 11, 20, 23
POINTERS = {3, 4, 5, 6, 7, 12, 13, 17, 23, 25, 26}  # d_ptr of the tags up to 31
GNU_HASH = 0x6FFFFEF5


class Memory:
    """A library's file, laid out at an address as the dynamic loader does it."""

    def __init__(self, data: bytes, *, base: int, relocated: bool = True) -> None:
        self.base = base
        self.segments: list[tuple[int, bytearray]] = []
        (phoff,) = struct.unpack_from("<Q", data, 32)
        (phnum,) = struct.unpack_from("<H", data, 56)
        for index in range(phnum):
            kind, _, offset, vaddr, _, filesz, memsz, _ = struct.unpack_from(
                "<IIQQQQQQ", data, phoff + 56 * index
            )
            if kind == 1:
                content = data[offset : offset + filesz].ljust(memsz, b"\0")
                self.segments.append((base + vaddr, bytearray(content)))
            elif kind == 2:
                self.dynamic, self.dynamic_size = base + vaddr, memsz
        if relocated:  # glibc writes addresses into the section, musl does not
            for tag, place in self.entries():
                if tag in POINTERS or tag == GNU_HASH:
                    self.add(place, base)

    def entries(self) -> list[tuple[int, int]]:
        """Return the tags of the dynamic section and where their values stand."""
        found = []
        for place in range(self.dynamic, self.dynamic + self.dynamic_size, 16):
            tag = int.from_bytes(self.read(place, 8), "little")
            found.append((tag, place + 8))
            if not tag:
                break
        return found

    def place(self, tag: int) -> int:
        """Return where the value of a tag stands."""
        return dict(self.entries())[tag]

    def value(self, tag: int) -> int:
        return int.from_bytes(self.read(self.place(tag), 8), "little")

    def read(self, address: int, size: int) -> bytes:
        """Read memory; outside the library it would be a crash."""
        assert size >= 0
        for start, content in self.segments:
            if start <= address and address + size <= start + len(content):
                return bytes(content[address - start : address - start + size])
        raise AssertionError(f"{size} bytes at {address:#x} were read, outside the library")

    def write(self, address: int, data: bytes) -> None:
        for start, content in self.segments:
            if start <= address < start + len(content):
                content[address - start : address - start + len(data)] = data

    def add(self, place: int, value: int) -> None:
        old = int.from_bytes(self.read(place, 8), "little")
        self.write(place, (old + value).to_bytes(8, "little"))

    def set(self, tag: int, value: int) -> None:
        """Change an entry of the dynamic section."""
        self.write(self.place(tag), value.to_bytes(8, "little"))

    def slots(
        self, machine: str = "aarch64", symbols: tuple[str, ...] = SYMBOLS
    ) -> dict[str, list[Slot]]:
        return self.image(machine).slots(symbols)

    def image(self, machine: str = "aarch64") -> ElfImage:
        headers = parse_program_headers(
            self.read(self.base, min(4096, len(self.segments[0][1])))
        )
        return ElfImage(self.read, self.base, headers, MACHINES[machine])


def unpacked(case: str) -> bytes:
    return zlib.decompress(base64.b64decode(CASES[case]["image_zlib_base64"]))


def aarch64(
    case: str = "lazy", *, base: int = 0x7F0000000000, relocated: bool = True
) -> Memory:
    return Memory(unpacked(case), base=base, relocated=relocated)


@pytest.mark.parametrize("relocated", [True, False], ids=["as-glibc", "as-musl"])
@pytest.mark.parametrize("base", [0x10000, 0x7F1234560000])
@pytest.mark.parametrize("case", CASES)
def test_aarch64_slots_are_those_that_readelf_lists(
    case: str, base: int, relocated: bool
) -> None:
    slots = aarch64(case, base=base, relocated=relocated).slots()
    found = [
        [slot.symbol, f"R_AARCH64_{slot.kind}", f"{slot.address - base:016x}"]
        for slot in itertools.chain(*slots.values())
    ]
    assert sorted(found) == sorted(CASES[case]["imports"])
    assert len(found) == 3


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf not found")
@pytest.mark.parametrize("variant", VARIANTS)
def test_slots_of_a_library_built_here_are_those_that_readelf_lists(
    libraries: dict[str, str], variant: str
) -> None:
    listing = subprocess.run(
        ["readelf", "-rW", libraries[variant]], check=True, capture_output=True, text=True
    ).stdout
    listed = set()
    for fields in map(str.split, listing.splitlines()):
        if len(fields) >= 5 and fields[2].startswith("R_"):
            name = fields[4].partition("@")[0]
            if name in SYMBOLS:
                listed.add((name, fields[2].split("_", 2)[2].replace("64_", ""), fields[0]))
    base = 0x7F1234560000
    memory = Memory(Path(libraries[variant]).read_bytes(), base=base)
    slots = memory.slots(platform.machine())
    assert {
        (slot.symbol, slot.kind, f"{slot.address - base:016x}")
        for slot in itertools.chain(*slots.values())
    } == listed
    assert {kind for _, kind, _ in listed} == {VARIANTS[variant][1]}
    assert len(listed) == 3


def test_a_function_that_is_not_imported_has_no_slot() -> None:
    assert aarch64().slots(symbols=("accept4", "serve", "")) == {
        "accept4": [],
        "serve": [],
        "": [],
    }


def test_a_relocation_of_another_processor_is_no_slot() -> None:
    assert aarch64().slots("x86_64") == {"accept": [], "getsockname": [], "close": []}


def test_a_table_counted_into_both_is_read_once() -> None:
    memory = aarch64("no-plt")
    whole = memory.slots()
    # What some linkers write: DT_JMPREL is the end of DT_RELA's own table.
    data = bytearray()
    for tag, value in [
        (STRTAB, memory.value(STRTAB)), (STRSZ, memory.value(STRSZ)),
        (SYMTAB, memory.value(SYMTAB)), (SYMENT, 24), (PLTREL, RELA),
        (RELA, memory.value(RELA)), (RELASZ, memory.value(RELASZ)), (RELAENT, 24),
        (JMPREL, memory.value(RELA) + 24), (PLTRELSZ, memory.value(RELASZ) - 24), (0, 0),
    ]:  # fmt: skip
        data += struct.pack("<QQ", tag, value)
    memory.write(memory.dynamic, bytes(data))
    assert {name: set(slots) for name, slots in memory.slots().items()} == {
        name: set(slots) for name, slots in whole.items()
    }
    assert all(len(slots) == 1 for slots in memory.slots().values())


def test_code_is_what_lies_in_an_executable_segment() -> None:
    memory = aarch64()
    image = memory.image()
    (slot,) = image.slots(["accept"])["accept"]
    assert image.is_code(memory.base)
    assert not image.is_code(slot.address)
    assert not image.is_code(memory.base - 1)
    assert not image.is_code(0)


HEADER = unpacked("lazy")[:4096]


@pytest.mark.parametrize(
    ("offset", "patch"),
    [
        pytest.param(0, b"\x7fELG", id="no ELF file"),
        pytest.param(4, b"\x01", id="32 bits"),
        pytest.param(5, b"\x02", id="big endian"),
        pytest.param(16, b"\x02\0", id="a program at a fixed address"),
        pytest.param(54, b"\x20\0", id="program headers of another size"),
        pytest.param(56, b"\0\0", id="no program headers"),
        pytest.param(56, b"\xff\xff", id="too many program headers"),
        pytest.param(32, b"\xff" * 8, id="program headers far away"),
        pytest.param(32, (4096 - 56).to_bytes(8, "little"), id="headers half in the page"),
    ],
)
def test_an_unknown_file_header_is_refused(offset: int, patch: bytes) -> None:
    with pytest.raises(HookError):
        parse_program_headers(HEADER[:offset] + patch + HEADER[offset + len(patch) :])


@pytest.mark.parametrize("size", [0, 1, 63, 64, 64 + 55])
def test_a_cut_file_header_is_refused(size: int) -> None:
    with pytest.raises(HookError):
        parse_program_headers(HEADER[:size])


@pytest.mark.parametrize("times", [0, 2])
def test_a_library_has_one_dynamic_segment(times: int) -> None:
    memory = aarch64()
    headers = parse_program_headers(HEADER)
    dynamic = [header for header in headers if header.type == 2]
    others = [header for header in headers if header.type != 2]
    with pytest.raises(HookError, match=naming(times)):
        ElfImage(memory.read, memory.base, others + dynamic * times, MACHINES["aarch64"])


def test_a_dynamic_section_without_end_is_refused() -> None:
    memory = aarch64()
    for start in range(memory.dynamic, memory.dynamic + memory.dynamic_size, 16):
        memory.write(start, struct.pack("<Q", 0x6FFFFFFF))
    with pytest.raises(HookError):
        memory.image()


@pytest.mark.parametrize(
    ("case", "tag", "value"),
    [
        ("lazy", PLTREL, 17),  # DT_REL
        ("lazy", PLTRELSZ, 25),
        ("lazy", PLTRELSZ, 24 * 1000),  # beyond the segment
        ("lazy", PLTRELSZ, 2**64 - 16),
        ("lazy", JMPREL, 2**64 - 8),
        ("lazy", SYMENT, 16),
        ("lazy", SYMTAB, 2**63),
        ("lazy", STRTAB, 2**63),
        ("lazy", STRSZ, 0),
        ("no-plt", RELAENT, 16),
        ("no-plt", RELASZ, 24 * 5_000_000),
        ("no-plt", RELA, 2**64 - 8),
    ],
)
def test_an_implausible_table_is_refused(case: str, tag: int, value: int) -> None:
    memory = aarch64(case)
    memory.set(tag, value)
    with pytest.raises(HookError):
        memory.slots()


@pytest.mark.parametrize("offset", [0x20001, 0x10, 2**64 - 8, 2**40])
def test_a_slot_that_is_misaligned_or_elsewhere_is_refused(offset: int) -> None:
    memory = aarch64()
    memory.write(memory.value(JMPREL), struct.pack("<Q", offset))
    if offset == 0x10:  # inside the library: whether it is a slot is for others to judge
        assert memory.slots()["accept"][0].address == memory.base + 0x10
    else:
        with pytest.raises(HookError):
            memory.slots()


@pytest.mark.parametrize("case", CASES)
@given(data=st.data())
def test_a_damaged_library_raises_hook_error_or_nothing(case: str, data: st.DataObject) -> None:
    memory = aarch64(case)
    # Everything but the program headers, by which the loader has mapped it.
    size = memory.dynamic_size
    tables = [(memory.dynamic, size), (memory.value(SYMTAB), 200), (memory.value(STRTAB), 64)]
    tables.append((memory.value(JMPREL if case != "no-plt" else RELA), 72))
    for _ in range(data.draw(st.integers(1, 4))):
        start, length = data.draw(st.sampled_from(tables))
        width = data.draw(st.sampled_from([1, 2, 8]))
        place = start + data.draw(st.integers(0, length // width - 1)) * width
        memory.write(place, data.draw(st.binary(min_size=width, max_size=width)))
    with suppress(HookError):
        memory.slots()


@given(st.data())
def test_a_damaged_file_header_raises_hook_error_or_nothing(data: st.DataObject) -> None:
    memory = aarch64()
    page = bytearray(HEADER)
    for _ in range(data.draw(st.integers(1, 4))):
        width = data.draw(st.sampled_from([1, 2, 8]))
        place = data.draw(st.integers(0, 64 // width + 6 * 56 // width)) * width
        page[place : place + width] = data.draw(st.binary(min_size=width, max_size=width))

    def read(address: int, size: int) -> bytes:
        # Headers may lie about what is mapped; here it is all there, and zero.
        with suppress(AssertionError):
            return memory.read(address, size)
        return bytes(min(size, 1 << 20)) if size >= 0 else b""

    with suppress(HookError):
        headers = parse_program_headers(bytes(page))
        image = ElfImage(read, memory.base, headers, MACHINES["aarch64"])
        for slots in image.slots(SYMBOLS).values():
            for slot in slots:
                assert any(
                    memory.base + h.vaddr <= slot.address <= memory.base + h.vaddr + h.memsz - 8
                    for h in headers
                    if h.is_load
                )


@given(st.binary(max_size=300))
def test_any_bytes_as_a_header_raise_hook_error_or_nothing(data: bytes) -> None:
    with suppress(HookError):
        parse_program_headers(data)
    with suppress(HookError):
        parse_program_headers(b"\x7fELF\x02\x01" + data)
