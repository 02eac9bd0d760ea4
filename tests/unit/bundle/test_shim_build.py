"""The shim is compiled with any compiler, in one step, and a build that fails says so."""

from __future__ import annotations

import os
import re
import shutil
import threading
from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport.bundle import shim_build
from vine_sharedport.errors import LaunchError, SettingError

pytestmark = pytest.mark.shim


def test_the_same_compiler_makes_the_same_bytes(compiler: str, tmp_path: Path) -> None:
    names = [str(tmp_path / "1"), str(tmp_path / "another name.so")]
    for name in names:
        shim_build.build(name, compiler=compiler)
    first, second = (Path(name).read_bytes() for name in names)
    assert first == second
    assert str(tmp_path).encode() not in first


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
@pytest.mark.skipif(not any(map(shutil.which, ("gcc", "cc", "clang"))), reason="no compiler")
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(SettingError, match=naming(tmp_path, "Permission denied")):
        shim_build.build(str(tmp_path / "1"))
