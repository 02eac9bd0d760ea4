"""Fill the sandbox's virtual environment; runs inside the sandbox, in that environment.

Installs what ``pyproject.toml`` names (the dependencies and all extras) and makes the
console scripts. The package itself is not installed: ``sandbox/run`` puts the caller's
checkout on the path, so nothing is ever built in or written to the checkout.

Usage: python venv.py PYPROJECT
"""

from __future__ import annotations  # noqa: I001 (tomllib is in this Python's library)

import re
import stat
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

SCRIPT = """\
#!{python}
import sys

from {module} import {function}

sys.exit({function}())
"""


def requirements(project: dict) -> list[str]:
    """Give the dependencies and those of all extras, without references to ourselves."""
    wanted = list(project.get("dependencies", []))
    for extra in project.get("optional-dependencies", {}).values():
        wanted += extra
    own = re.compile(re.escape(project["name"]) + r"\s*(\[|$)", re.IGNORECASE)
    return sorted({line for line in wanted if not own.match(line)})


def write_scripts(project: dict) -> None:
    """Write one small program per entry of ``[project.scripts]``."""
    for name, target in project.get("scripts", {}).items():
        module, function = target.split(":")
        path = Path(sysconfig.get_path("scripts")) / name
        path.write_text(SCRIPT.format(python=sys.executable, module=module, function=function))
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def write_metadata(project: dict) -> None:
    """Make ``importlib.metadata`` and ``pip list`` know name, version and scripts."""
    name = project["name"].replace("-", "_")
    site = Path(sysconfig.get_path("purelib"))
    folder = site / f"{name}-{project['version']}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [f"{script} = {target}\n" for script, target in project.get("scripts", {}).items()]
    (folder / "entry_points.txt").write_text("[console_scripts]\n" + "".join(lines))
    (folder / "INSTALLER").write_text("sandbox/run\n")
    # A place to mount the one line that names the checkout; filled in for each call.
    (site / "vine_sharedport_checkout.pth").touch()


def main() -> None:
    """Do it all."""
    with open(sys.argv[1], "rb") as file:
        project = tomllib.load(file)["project"]
    # Debian's packages are visible here for ndcctools. --ignore-installed, because among them
    # are HTCondor bindings that are older than what we need.
    pip = [sys.executable, "-m", "pip", "install", "--no-input", "--ignore-installed"]
    subprocess.run([*pip, *requirements(project)], check=True)
    write_scripts(project)
    write_metadata(project)


if __name__ == "__main__":
    main()
