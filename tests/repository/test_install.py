"""The library is built with the package, which installs all the same without a compiler."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from vine_sharedport.bundle import shim_build

pytest.importorskip("setuptools", "70.1")

pytestmark = pytest.mark.shim

ROOT = Path(__file__).resolve().parents[2]
INSIDE = f"vine_sharedport/worker/{shim_build.LIBRARY}"
PLATFORM = sysconfig.get_platform().replace("-", "_").replace(".", "_")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of what a release is made of, with nothing built in it."""
    place = tmp_path / "checkout"
    place.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, place)
    ignored = shutil.ignore_patterns("__pycache__", "*.so", ".lib*")
    shutil.copytree(ROOT / "vine_sharedport", place / "vine_sharedport", ignore=ignored)
    return place


def python(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run this Python away from this checkout; fail the test with its output."""
    environment = {k: v for k, v in os.environ.items() if k not in ("CC", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env={**environment, **variables},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done


def pip(*arguments: str, cwd: Path, **variables: str) -> str:
    """Run pip as a user does, but for the build's own environment: that needs a network."""
    options = ["--disable-pip-version-check", "--no-build-isolation", "--no-deps"]
    options += ["--no-compile"] * (arguments[0] == "install")  # takes longer than all else
    return python("-m", "pip", *arguments, *options, cwd=cwd, **variables).stdout


def wheel(checkout: Path, place: Path, **variables: str) -> tuple[Path, str]:
    """Return the wheel that pip builds, and what pip said."""
    said = pip("wheel", "-v", "-w", str(place), str(checkout), cwd=place.parent, **variables)
    (found,) = place.glob("*.whl")
    return found, said


def test_a_wheel_has_the_library_and_its_platform(
    compiler: str, checkout: Path, tmp_path: Path
) -> None:
    found, _ = wheel(checkout, tmp_path / "w")
    assert found.name.endswith(f"-py3-none-{PLATFORM}.whl")
    with zipfile.ZipFile(found) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/WHEEL"))
        lines = archive.read(metadata).decode().splitlines()
        assert f"Tag: py3-none-{PLATFORM}" in lines
        assert "Root-Is-Purelib: false" in lines
        assert archive.read(INSIDE)[:4] == b"\x7fELF"
        for name in ("shim/shim.c", "shim/kernel.h", "worker/launcher.sh"):
            assert f"vine_sharedport/{name}" in names
    # Every module and program of the checkout is in it.
    wanted = {
        os.path.relpath(path, checkout)
        for path in (checkout / "vine_sharedport").rglob("*")
        if path.suffix in (".py", ".sh", ".c", ".h", ".ini", ".typed")
    }
    assert wanted <= set(names)
    # Nothing is built among the sources.
    assert not list((checkout / "vine_sharedport").rglob("*.so"))


def test_without_a_compiler_the_wheel_is_for_every_platform(
    checkout: Path, tmp_path: Path
) -> None:
    (checkout / "build/lib" / INSIDE).parent.mkdir(parents=True)
    (checkout / "build/lib" / INSIDE).write_bytes(b"of an earlier build")
    found, said = wheel(checkout, tmp_path / "w", CC="no-such-compiler")
    assert found.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(found) as archive:
        assert INSIDE not in archive.namelist()
        assert "vine_sharedport/shim/shim.c" in archive.namelist()
    for text in ("'no-such-compiler'", "relay", "Python 3.9", "gcc"):
        assert text in said


def test_a_source_that_does_not_compile_is_no_obstacle(
    compiler: str, checkout: Path, tmp_path: Path
) -> None:
    with open(checkout / "vine_sharedport/shim/shim.c", "a") as file:
        file.write("this is no C\n")
    found, said = wheel(checkout, tmp_path / "w")
    assert found.name.endswith("-py3-none-any.whl")
    assert "this is no C" in said


def source_distribution(checkout: Path, tmp_path: Path) -> Path:
    """Return the directory of a source distribution that was built and unpacked."""
    program = "import sys; from setuptools import build_meta as b; b.build_sdist(sys.argv[1])"
    (tmp_path / "s").mkdir()
    python("-c", program, str(tmp_path / "s"), cwd=checkout)
    (archive,) = (tmp_path / "s").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        if hasattr(tarfile, "data_filter"):
            file.extractall(tmp_path / "x", filter="data")
        else:
            file.extractall(tmp_path / "x")
    (unpacked,) = (tmp_path / "x").iterdir()
    return unpacked


def test_a_source_distribution_builds_the_same_wheel(
    compiler: str, checkout: Path, tmp_path: Path
) -> None:
    # One that was built in place is not to travel with the sources.
    shim_build.build(str(checkout / INSIDE), compiler=compiler)
    unpacked = source_distribution(checkout, tmp_path)
    names = {os.path.relpath(path, unpacked) for path in unpacked.rglob("*")}
    assert not [name for name in names if name.endswith(".so")]
    wanted = {os.path.relpath(path, ROOT) for path in shim_build.sources()}
    assert wanted | {"setup.py", "vine_sharedport/worker/launcher.sh"} <= names
    found, _ = wheel(unpacked, tmp_path / "w")
    assert found.name.endswith(f"-py3-none-{PLATFORM}.whl")


def test_a_source_distribution_is_as_good_as_a_checkout(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    made = ".git .venv .CI build dist *.egg-info *-run-info vine-factory-* .*_cache .hypothesis"
    made += " __pycache__ *.so .lib* .try* sweep.png"
    ignored = shutil.ignore_patterns(*made.split())
    shutil.copytree(ROOT, checkout, ignore=ignored)
    wanted = {os.path.relpath(path, checkout) for path in checkout.rglob("*") if path.is_file()}
    # What using it leaves behind does not travel.
    for name in (
        "tests/unit/__pycache__/test_cedar.pyc", "examples/vine-run-info/2026/vine-logs/debug",
        "tests/unit/shim/client.so", "vine_sharedport/worker/.libvine_sharedport.so.12",
        "sweep.png", "docs/.try.md", "tests/.hypothesis/unicode", "vine-run-info/most-recent",
    ):  # fmt: skip
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    unpacked = source_distribution(checkout, tmp_path)
    there = {os.path.relpath(path, unpacked) for path in unpacked.rglob("*") if path.is_file()}
    added = {
        name for name in there if name in ("PKG-INFO", "setup.cfg") or ".egg-info/" in name
    }
    assert there - added == wanted - {".gitignore"}
    for name in ("sandbox/run", ".ci/run"):
        assert os.access(unpacked / name, os.X_OK), f"{name} cannot be called"

    for page in unpacked.rglob("*.md"):
        for target, anchor in links(page):
            full = page.parent / target if target else page
            assert full.exists(), f"{os.path.relpath(page, unpacked)} links to {target}"
            if anchor:
                assert anchor in anchors(full), f"{page.name} links to {target}#{anchor}"

    pip("install", "--target", str(tmp_path / "site"), str(unpacked), cwd=tmp_path, CC="none")
    run = (
        "import sys; sys.path.insert(0, 'site'); import vine_sharedport.cli.main as c; c.main()"
    )
    assert "worker" in python("-I", "-c", run, "--help", cwd=tmp_path).stdout


def links(page: Path) -> list[tuple[str, str]]:
    """Return the relative links of a page: the file, as written, and the heading in it."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [t.partition("#")[::2] for t in targets if not re.match(r"[a-z]+:", t)]


def anchors(page: Path) -> set[str]:
    """Return a page's headings as links name them."""
    titles = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


LIBRARY_OF = "from vine_sharedport.bundle import shim_build; print(shim_build.library_path())"


@pytest.mark.parametrize("editable", [False, True], ids=["installed", "editable"])
@pytest.mark.parametrize("cc", ["", "no-such-compiler"], ids=["compiler", "no compiler"])
def test_an_installation_knows_whether_it_has_the_library(
    compiler: str, checkout: Path, tmp_path: Path, editable: bool, cc: str
) -> None:
    place = tmp_path / "site"
    # An editable installation is a line for the site module, which must see it.
    options = ["--prefix", str(tmp_path / "p")] if editable else ["--target", str(place)]
    options += ["--ignore-installed", "--no-warn-script-location"] + ["-e"] * editable
    pip("install", *options, str(checkout), cwd=tmp_path, **({"CC": cc} if cc else {}))
    if editable:
        (place,) = (tmp_path / "p").glob("**/*-packages")
    program = f"import site; site.addsitedir({str(place)!r})\n{LIBRARY_OF}"
    # -I: neither the sandbox's checkout nor the present directory.
    said = python("-I", "-S", "-c", program, cwd=tmp_path).stdout.strip()
    home = checkout if editable else place
    assert said == ("None" if cc else str(home / INSIDE))
    if not cc:
        assert Path(said).read_bytes()[:4] == b"\x7fELF"
