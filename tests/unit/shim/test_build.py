"""The library loads beside every C library, and a build that fails says so."""

from __future__ import annotations

import graphlib
import os
import re
import subprocess
import threading
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from tests.values import naming
from vine_sharedport.bundle import shim_build
from vine_sharedport.errors import LaunchError, SettingError

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


def test_the_same_compiler_makes_the_same_bytes(compiler: str, tmp_path: Path) -> None:
    names = [str(tmp_path / "1"), str(tmp_path / "another name.so")]
    for name in names:
        shim_build.build(name, compiler=compiler)
    first, second = (Path(name).read_bytes() for name in names)
    assert first == second
    assert str(tmp_path).encode() not in first


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


def test_the_addresses_of_python_and_c_are_one() -> None:
    source = "".join(Path(path).read_text() for path in shim_build.sources())
    host = int.from_bytes(bytes(map(int, shim_build.RESERVED_HOST.split("."))), "big")
    assert re.search(rf"RESERVED_HOST = {host:#x}\b", source)
    assert re.search(rf"RESERVED_PORT = {shim_build.RESERVED_PORT}\b", source)
    assert f'"{shim_build.LIBRARY}"' in source


def test_a_build_takes_the_place_of_an_older_one_at_once(compiler: str, tmp_path: Path) -> None:
    output = tmp_path / shim_build.LIBRARY
    output.write_bytes(b"older")
    failures: list[BaseException] = []

    def build() -> None:
        try:
            shim_build.build(str(output), compiler=compiler)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        seen.add(output.read_bytes())
    for thread in threads:
        thread.join()
    assert not failures
    seen.add(output.read_bytes())
    assert seen <= {b"older", output.read_bytes()}
    assert os.listdir(tmp_path) == [shim_build.LIBRARY]
    assert output.stat().st_mode & 0o444 == 0o444


def test_a_compiler_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingError, match=naming("'no-such-cc -x'")):
        shim_build.build(str(tmp_path / "1"), compiler="no-such-cc -x")
    monkeypatch.setenv("CC", "no-such-cc")
    with pytest.raises(SettingError, match=naming("'no-such-cc'", "CC")):
        shim_build.build(str(tmp_path / "1"))
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingError, match=naming("gcc", "cc", "clang", "PATH")):
        shim_build.build(str(tmp_path / "1"))
    assert os.listdir(tmp_path) == []


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(
    compiler: str, tmp_path: Path
) -> None:
    with pytest.raises(LaunchError, match=r"(?s) 1\b.*shim\.c.*\n.*unknown_here"):
        shim_build.build(str(tmp_path / "1"), compiler=f"{compiler} -include unknown_here")
    assert os.listdir(tmp_path) == []


def test_a_forgotten_function_of_a_libc_fails_the_build(compiler: str, tmp_path: Path) -> None:
    (tmp_path / "forgotten.h").write_text(
        'int puts(const char *); __attribute__((used)) static void f(void) { puts(""); }\n'
    )
    with pytest.raises(LaunchError, match=r"undefined reference to .puts"):
        shim_build.build(
            str(tmp_path / "1"), compiler=f"{compiler} -include {tmp_path / 'forgotten.h'}"
        )


@pytest.mark.true_uid
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(SettingError, match=naming(tmp_path, "Permission denied")):
        shim_build.build(str(tmp_path / "1"))
