"""A bundle: its files, who may read them, and which directories are left alone."""

from __future__ import annotations

import ast
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import vine_sharedport
from tests.values import naming
from vine_sharedport.bundle import package as bundle
from vine_sharedport.bundle import shim_build
from vine_sharedport.bundle.package import MODULES, write_bundle, write_package
from vine_sharedport.errors import SettingError, SinfulError

ADDRESS = "<192.0.2.7:9618?addrs=192.0.2.7-9618&sock=vine_42>"


@pytest.fixture
def secret(tmp_path: Path) -> str:
    path = tmp_path / "my.secret"
    path.write_bytes(bytes(range(32)))
    return str(path)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "install" / shim_build.LIBRARY
    path.parent.mkdir()
    path.write_bytes(b"\x7fELF")
    monkeypatch.setattr(
        shim_build, "library_path", lambda: str(path) if path.exists() else None
    )
    return path


@pytest.fixture
def worker(tmp_path: Path) -> str:
    path = tmp_path / "vine_worker"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def _modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_files_and_their_modes(
    tmp_path: Path, secret: str, library: Path, worker: str, umask: int
) -> None:
    directory = tmp_path / "new" / "bundle"
    before = os.umask(umask)
    try:
        text = write_bundle(str(directory), ADDRESS, secret_file=secret, worker=worker)
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert _modes(directory) == {
        "launcher.sh": 0o755,
        "libvine_sharedport.so": 0o755,
        "vine_sharedport.pyz": 0o644,
        "vine_sharedport.address": 0o644,
        "vine_sharedport.secret": 0o600,
        "vine_worker": 0o755,
    }
    assert (directory / "vine_sharedport.address").read_text() == f"{ADDRESS}\n"
    assert (directory / "vine_sharedport.secret").read_bytes() == bytes(range(32))
    assert str(directory) in text


def test_the_secret_is_never_readable_by_others(
    tmp_path: Path, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    replace = os.replace

    def look(old: str, new: str) -> None:
        seen.append((os.path.basename(new), stat.S_IMODE(os.stat(old).st_mode)))
        assert stat.S_IMODE(os.stat(os.path.dirname(new)).st_mode) == 0o700
        assert not os.path.exists(new), "the file had its name before it was whole"
        replace(old, new)

    monkeypatch.setattr(os, "replace", look)
    write_bundle(str(tmp_path / "bundle"), ADDRESS, secret_file=secret)
    assert ("vine_sharedport.secret", 0o600) in seen


def test_an_earlier_bundle_is_replaced_and_nothing_of_it_stays(
    tmp_path: Path, secret: str, library: Path
) -> None:
    directory = tmp_path / "bundle"
    write_bundle(str(directory), ADDRESS, secret_file=secret)
    (directory / "worker.log").write_text("mine")
    directory.chmod(0o755)
    library.unlink()
    other = ADDRESS.replace("42", "43")
    write_bundle(str(directory), other)
    assert set(_modes(directory)) == {
        "launcher.sh", "vine_sharedport.pyz", "vine_sharedport.address", "worker.log"
    }  # fmt: skip
    assert "vine_43" in (directory / "vine_sharedport.address").read_text()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_without_the_library_it_says_so_once(
    tmp_path: Path, library: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shim_build.warn_of_relay.cache_clear()
    write_bundle(str(tmp_path / "with"), ADDRESS)
    assert not caplog.records
    library.unlink()
    for name in ("a", "b"):
        write_bundle(str(tmp_path / name), ADDRESS)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "Python 3.9" in record.getMessage()
    assert "pip install --force-reinstall" in record.getMessage()


def test_a_foreign_directory_is_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "launcher.sh").write_text("somebody's")
    with pytest.raises(SettingError, match=naming(directory, "'launcher.sh'")):
        write_bundle(str(directory), ADDRESS)
    assert (directory / "launcher.sh").read_text() == "somebody's"
    assert _modes(directory).keys() == {"launcher.sh"}


def test_a_link_to_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(SettingError, match=naming(tmp_path / "link")):
        write_bundle(str(tmp_path / "link"), ADDRESS)


def test_a_directory_in_a_files_place_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "bundle"
    write_bundle(str(directory), ADDRESS)
    (directory / "vine_sharedport.secret").mkdir()
    with pytest.raises(SettingError, match=naming(directory / "vine_sharedport.secret")):
        write_bundle(str(directory), ADDRESS)


@pytest.mark.parametrize("name", ["it's", 'a"b', "a,b", "a\\b", "a\nb"])
def test_a_path_that_the_tools_cannot_be_told_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError, match=re.escape(repr(str(tmp_path / name)))):
        write_bundle(str(tmp_path / name), ADDRESS)
    assert not list(tmp_path.glob("*"))


def test_nothing_is_made_where_something_is_wrong(tmp_path: Path) -> None:
    directory = tmp_path / "bundle"
    with pytest.raises(SinfulError, match=naming("<192.0.2.7:9618>", "sock=")):
        write_bundle(str(directory), "<192.0.2.7:9618>")
    with pytest.raises(SinfulError, match=naming("<192.0.2.7?sock=vine_42>")):
        write_bundle(str(directory), "<192.0.2.7?sock=vine_42>")
    with pytest.raises(SettingError, match=naming(tmp_path / "gone")):
        write_bundle(str(directory), ADDRESS, secret_file=str(tmp_path / "gone"))
    with pytest.raises(SettingError, match=naming("'gone'", "PATH", "--worker")):
        write_bundle(str(directory), ADDRESS, worker="gone")
    assert not directory.exists()


def test_a_path_with_blanks_is_quoted_and_one_tool_says_no(tmp_path: Path) -> None:
    text = write_bundle(str(tmp_path / "my bundle"), ADDRESS, options=["--cores", "4"])
    assert f"'{tmp_path}/my bundle/launcher.sh' vine_worker --cores 4" in text
    assert "not from" in text
    assert "not from" not in write_bundle(str(tmp_path / "plain"), ADDRESS)


def test_the_package_is_the_same_for_the_same_sources(tmp_path: Path) -> None:
    for name in ("a", "b"):
        bundle.write_package(str(tmp_path / name))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# ---- the relay's package ----

PACKAGE = Path(vine_sharedport.__file__).parent


def _path(module: str) -> Path | None:
    """Return the file of a module of ours."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    found = [path.with_suffix(".py"), path / "__init__.py"]
    return next((each for each in found if each.is_file()), None)


def _imported(module: str) -> set[str]:
    """Return the modules of ours that one imports, in its functions too."""
    names = {module.rpartition(".")[0]}
    path = _path(module)
    assert path is not None
    if module != "vine_sharedport":  # which finds what it is asked for
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {str(node.module), *(f"{node.module}.{a.name}" for a in node.names)}
    return {name for name in names if name.startswith("vine_sharedport") and _path(name)}


def test_the_package_is_what_the_relay_imports() -> None:
    wanted, new = set(), {"vine_sharedport.worker.relay"}
    while new:
        wanted |= new
        new = set().union(*map(_imported, new)) - wanted
    assert sorted(wanted) == list(MODULES)


def test_the_package_needs_a_bare_python_alone(tmp_path: Path) -> None:
    package = tmp_path / "p.pyz"
    write_package(str(package))
    python = shutil.which("python3.9") or sys.executable
    program = "import sys, importlib; sys.path.insert(0, sys.argv[1])\n" + "".join(
        f"importlib.import_module({module!r})\n" for module in MODULES
    )
    subprocess.run([python, "-I", "-S", "-c", program, str(package)], check=True)
    done = subprocess.run(
        [python, "-I", "-S", str(package), "/bin/true"],
        env={"VINE_SHAREDPORT_ADDRESS": ADDRESS}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, ": true " in done.stderr) == (0, True), done.stderr
