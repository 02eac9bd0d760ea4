"""What the two ordinary users install on the access point, as the README says.

    ann   ~/vine   with the distribution's bindings of HTCondor
    ben   ~/vine   with PyPI's newest

It is done once, offline, from wheels that ``run`` has brought; the
files are kept as a layer that lies over the access point's own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tomllib

from . import users
from .hosts import Host

CHECKOUT = Path(__file__).resolve().parents[2]
LAYERS = Path("/layers")  # bound by enter.sh
SOURCES = ("vine_sharedport", "condor", "examples", "docs", "setup.py", "pyproject.toml",
           "MANIFEST.in", "README.md", "LICENSE")  # fmt: skip
CODE = ("vine_sharedport",)
BUILD = ("setup.py", "MANIFEST.in")
OFFLINE = {
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "/wheels",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}

INSTALL = """
    cd ~/vine_sharedport
    python3 -m venv --system-site-packages ~/vine
    . ~/vine/bin/activate
    pip install '.[rich]'
"""
NEWEST_BINDINGS = "pip install --upgrade --ignore-installed htcondor\n"


def layers(directory: Path) -> list[Path]:
    """Return what lies over the access point's files, the uppermost first.

    The lowest is made by the lines above, once for each state of what they depend on; where the
    package's code has changed since, its files lie over it in ``directory``.
    """
    place = LAYERS / f"layer-{_state(BUILD, _settings())}"
    with open(LAYERS / "lock", "w") as lock:  # other sites may begin at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        _make(place)
    if (place / "code").read_text() == _state(CODE):
        return [place]
    _renew(place, directory)
    return [directory, place]


def _make(place: Path) -> None:
    if not place.exists():
        for old in LAYERS.glob("layer-*"):
            if not _is_in_use(old):
                shutil.rmtree(old)
        new = LAYERS / f"new-{place.name}"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        _fill(new)
        (new / "code").write_text(_state(CODE))
        new.rename(place)
    os.utime(place)


def _files(sources: tuple[str, ...]) -> list[Path]:
    found: list[Path] = []
    for source in sources:
        path = CHECKOUT / source
        found += sorted(path.rglob("*")) if path.is_dir() else [path]
    return [
        file
        for file in found
        if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".so"
    ]


def _settings() -> str:
    """Return what of pyproject.toml decides about the installation."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    return repr([project["build-system"], project["project"], project["tool"]["setuptools"]])


def _state(sources: tuple[str, ...], also: str = "") -> str:
    """Return a hash of the sources, and of what else a layer is made of."""
    made_by = INSTALL + NEWEST_BINDINGS + os.environ["SITE_STATE"] + also
    digest = hashlib.sha256(made_by.encode())
    for file in _files(sources):
        digest.update(os.fsencode(file.relative_to(CHECKOUT)) + file.read_bytes())
    return digest.hexdigest()[:16]


def _is_in_use(layer: Path) -> bool:
    """Whether a site may have it: one that was begun within the last two hours."""
    return time.time() - layer.stat().st_mtime < 7200


def _fill(new: Path) -> None:
    host = Host("install")
    try:
        host.wait_until_up()
        for user in users.ORDINARY:
            target = host.files / "home" / user / "vine_sharedport"
            _copy(SOURCES, target)
            host.run(["chown", "-R", user, users.home(user)])
        lines = {"ann": INSTALL, "ben": INSTALL + NEWEST_BINDINGS}
        with ThreadPoolExecutor() as pool:  # both at once
            done = [
                pool.submit(
                    host.run, ["bash", "-ec", script],
                    user=user, environment=OFFLINE, timeout=600,
                )
                for user, script in lines.items()
            ]  # fmt: skip
        for each in done:
            each.result()
        subprocess.run(["cp", "-a", host.files / "home", new], check=True)
    finally:
        host.end()


def _copy(sources: tuple[str, ...], target: Path) -> None:
    for file in _files(sources):
        place = target / file.relative_to(CHECKOUT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)


def _renew(installed: Path, directory: Path) -> None:
    """Make a layer with the code as it is now, in the place of what is installed."""
    for user in users.ORDINARY:
        (packages,) = installed.glob(f"home/{user}/vine/lib/python3*/site-packages")
        target = directory / packages.relative_to(installed)
        _copy(CODE, target)
        shutil.copy(_library(), target / "vine_sharedport/worker")
        # Nothing below it shows through (Documentation/filesystems/overlayfs.rst).
        os.setxattr(target / "vine_sharedport", "trusted.overlay.opaque", b"y")
        for path in [directory / "home" / user, *(directory / "home" / user).rglob("*")]:
            users.own(path, user)


def _library() -> Path:
    """Return the preload library, which sandbox/run has compiled in the checkout."""
    return CHECKOUT / "vine_sharedport/worker/libvine_sharedport.so"
