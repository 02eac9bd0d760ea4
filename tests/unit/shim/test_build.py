"""What the library and its sources are like: its imports, its size, its headers."""

from __future__ import annotations

import graphlib
import os
import re
import subprocess
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from vine_sharedport.bundle import shim_build

from .support import SHIM, Client, first_program, missing

# What a process may lack: the shim looks before it calls.
WEAK = {
    "environ", "gnu_get_libc_version", "__errno_location", "fflush", "getaddrinfo",
    "freeaddrinfo",
}  # fmt: skip


@pytest.fixture(params=["here", "aarch64"])
def built(request: pytest.FixtureRequest) -> str:
    if request.param == "here":
        return str(request.getfixturevalue("library"))
    found: Client = request.getfixturevalue("aarch64")
    return found.library


def test_nothing_is_needed_and_connect_alone_is_given(built: str) -> None:
    with open(built, "rb") as file:
        elf = ELFFile(file)
        dynamic = next(part for part in elf.iter_sections() if isinstance(part, DynamicSection))
        tags = {tag.entry.d_tag for tag in dynamic.iter_tags()}
        symbols = [
            symbol
            for symbol in elf.get_section_by_name(".dynsym").iter_symbols()
            if symbol.name and symbol["st_info"]["type"] != "STT_SECTION"
        ]
        (soname,) = (tag.soname for tag in dynamic.iter_tags("DT_SONAME"))
        segments = {segment["p_type"]: segment for segment in elf.iter_segments()}
        stack_flags = segments["PT_GNU_STACK"]["p_flags"]
        writable = [
            segment["p_flags"]
            for segment in elf.iter_segments()
            if segment["p_type"] == "PT_LOAD" and segment["p_flags"] & 2
        ]
    assert soname == shim_build.LIBRARY
    # No library, no version of one, no code to be written to, no path to search.
    assert not tags & {
        "DT_NEEDED", "DT_VERNEED", "DT_VERSYM", "DT_TEXTREL", "DT_RPATH", "DT_RUNPATH",
    }  # fmt: skip
    assert {"DT_HASH", "DT_GNU_HASH"} <= tags  # of either kind, for either kind of loader
    given = [symbol for symbol in symbols if symbol["st_shndx"] != "SHN_UNDEF"]
    wanted = [symbol for symbol in symbols if symbol["st_shndx"] == "SHN_UNDEF"]
    assert [symbol.name for symbol in given] == ["connect"]
    assert {symbol.name for symbol in wanted} <= WEAK
    assert {symbol["st_info"]["bind"] for symbol in wanted} <= {"STB_WEAK"}
    assert "PT_TLS" not in segments
    assert "PT_GNU_RELRO" in segments
    assert not stack_flags & 1  # not executable
    assert not [flags for flags in writable if flags & 1]


def test_the_library_is_small(built: str) -> None:
    # It travels with every job.
    assert os.path.getsize(built) < 100_000


def test_the_source_has_no_warning(compiler: str, tmp_path: Path) -> None:
    checked = f"{compiler} -Wall -Wextra -Wshadow -Wvla -Wundef -Werror"
    shim_build.build(str(tmp_path / "1"), compiler=checked)


def test_the_source_is_taken_with_the_headers_of_another_libc(tmp_path: Path) -> None:
    # As where it is installed on Alpine: what glibc's headers inline, musl's may call.
    if first_program("musl-gcc") is None:
        missing("no musl-gcc found")
    shim_build.build(str(tmp_path / "1"), compiler="musl-gcc")


def test_no_headers_include_each_other_in_a_circle() -> None:
    headers = {path.name: path.read_text() for path in SHIM.glob("*.h")}
    included = {
        name: re.findall(r'^ *# *include "(.+)"', text, re.M) for name, text in headers.items()
    }
    assert "kernel.h" in included["sinful.h"]
    assert {name for names in included.values() for name in names} <= set(headers)
    graphlib.TopologicalSorter(included).prepare()  # CycleError names the circle


def test_headers_hold_no_function_but_the_small_ones_of_the_kernel() -> None:
    for path in SHIM.glob("*.h"):
        heads = re.findall(r"^(\w.*)\n\{", path.read_text(), re.M)
        small = [head for head in heads if head.startswith("static inline ")]
        assert heads == (small if path.name == "kernel.h" else []), path.name


def test_a_program_takes_the_parser_as_one_file(compiler: str, tmp_path: Path) -> None:
    (tmp_path / "target.c").write_text("""
        #include "sinful.h"
        int main(int count, char **words)
        {
            static struct sinful address;
            return count == 2 && read_sinful(&address, words[1]) == NULL ? 0 : 3;
        }
    """)
    command = [compiler, "-I", str(SHIM), "-o", str(tmp_path / "target")]
    subprocess.run([*command, str(tmp_path / "target.c"), str(SHIM / "sinful.c")], check=True)
    for text, status in (("<192.0.2.7:9618?sock=vine_1>", 0), ("192.0.2.7:9618", 3)):
        done = subprocess.run([str(tmp_path / "target"), text], check=False)
        assert done.returncode == status
