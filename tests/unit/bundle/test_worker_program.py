"""What a worker's program needs, read from programs that are really here or compiled here."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport.bundle import worker_program
from vine_sharedport.bundle.worker_program import Program, read_program
from vine_sharedport.errors import SettingError

pytest.importorskip("elftools")
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc not found")


def _compile(path: Path, *options: str, compiler: str = "gcc") -> str:
    source = path.with_suffix(".c")
    source.write_text(
        "#include <math.h>\n#include <stdio.h>\nint main(int c, char **v)"
        ' { printf("%g\\n", pow(c, c)); return 0; }\n'
    )
    subprocess.run([compiler, *options, "-o", str(path), str(source), "-lm"], check=True)
    return str(path)


def _readelf_glibc(path: str) -> tuple[int, int]:
    """Return what binutils finds, as a second opinion."""
    import re

    printed = subprocess.run(
        ["readelf", "-V", path], capture_output=True, text=True, check=True
    ).stdout
    needs = printed[printed.index(".gnu.version_r") :]
    return max((int(a), int(b)) for a, b in re.findall(r"Name: GLIBC_(\d+)\.(\d+)", needs))


@needs_gcc
def test_a_dynamic_program_tells_its_loader_and_its_glibc(tmp_path: Path) -> None:
    path = _compile(tmp_path / "dynamic")
    found = read_program(path)
    assert found is not None
    assert found.preloadable
    assert found.interpreter is not None
    assert "ld-linux" in found.interpreter
    assert found.glibc == _readelf_glibc(path)
    assert found.libraries == ()  # libc and libm are on every system
    assert f"glibc {found.glibc[0]}.{found.glibc[1]} or later" in str(found)


@needs_gcc
def test_a_static_program_cannot_load_the_shim(tmp_path: Path) -> None:
    found = read_program(_compile(tmp_path / "static", "-static"))
    assert found is not None
    assert not found.preloadable
    assert (found.interpreter, found.glibc, found.libraries) == (None, None, ())
    assert "static" in str(found)


@pytest.mark.skipif(shutil.which("musl-gcc") is None, reason="musl-gcc not found")
def test_a_program_for_musl_says_so(tmp_path: Path) -> None:
    found = read_program(_compile(tmp_path / "musl", compiler="musl-gcc"))
    assert found is not None
    assert found.preloadable
    assert found.glibc is None
    assert "musl" in str(found)


@pytest.mark.skipif(
    shutil.which("aarch64-linux-gnu-gcc") is None, reason="no compiler for aarch64"
)
def test_another_architecture_has_htcondors_name(tmp_path: Path) -> None:
    found = read_program(_compile(tmp_path / "arm", compiler="aarch64-linux-gnu-gcc"))
    assert found is not None
    assert found.arch == "aarch64"


@needs_gcc
def test_libraries_that_do_not_travel_are_named(tmp_path: Path) -> None:
    library = tmp_path / "libmine.so.3"
    (tmp_path / "mine.c").write_text("int mine(void) { return 1; }\n")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-Wl,-soname,libmine.so.3", "-o", str(library),
         str(tmp_path / "mine.c")],
        check=True,
    )  # fmt: skip
    path = _compile(
        tmp_path / "conda", "-Wl,--no-as-needed", str(library), "-Wl,-rpath,$ORIGIN"
    )
    found = read_program(path)
    assert found is not None
    assert found.libraries == ("libmine.so.3",)
    assert found.left_behind == ("libmine.so.3",)
    library.unlink()
    assert found.left_behind == ()


def test_a_script_is_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_text("#!/bin/sh\n")
    found = read_program(str(path))
    assert found == Program(str(path))
    assert found.preloadable
    assert "script" in str(found)


@pytest.mark.parametrize("size", [4, 16, 52, 64, 100, 200, 4000])
def test_a_damaged_file_is_not_known(
    tmp_path: Path, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(Path(sys.executable).resolve().read_bytes()[:size])
    with caplog.at_level(logging.INFO):
        assert read_program(str(path)) is None
    assert str(path) in caplog.text


def test_without_pyelftools_reading_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "elftools.elf.elffile", None)
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF and more")
    with caplog.at_level(logging.INFO):
        assert read_program(str(path)) is None
    assert "pip install pyelftools" in caplog.text


def test_a_missing_program_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=naming(tmp_path / "gone")):
        read_program(str(tmp_path / "gone"))


def test_importing_the_module_imports_no_pyelftools() -> None:
    check = (
        "import sys; import vine_sharedport.bundle.worker_program; "
        "assert 'elftools' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", check], check=True, cwd=Path(worker_program.__file__).parents[2]
    )
