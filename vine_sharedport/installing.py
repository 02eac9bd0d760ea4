"""What to type where something is not installed, so that this Python finds it.

Asked for messages alone, when the failure has happened: it may take some time.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig

__all__ = ["cctools", "command", "environment_of", "hidden", "htcondor", "instead"]

_SYSTEM_PYTHON = "/usr/bin/python3"

# Tells where a Python has the module, and whether it can make environments with pip in
# them: Debian has that in a package of its own, python3-venv.
_LOOK = """\
import importlib.util as u, sys
found = u.find_spec(sys.argv[1])
print(found.origin or list(found.submodule_search_locations)[0] if found else "")
print(u.find_spec("ensurepip") is not None)
"""


# Tells all places where a Python, without its user's own, has the module.
_LOOK_EVERYWHERE = """\
import importlib.machinery as m, os, sys
for place in sys.path:
    found = m.PathFinder.find_spec(sys.argv[1], [place])
    if found and found.origin:
        print(os.path.dirname(os.path.dirname(found.origin)))
"""

# Whether this Python can load it from there: a compiled part is for some Pythons alone.
_LOAD = "import sys; sys.path.insert(0, sys.argv[2]); __import__(sys.argv[1])"


def command(*, pip: str, debian: str, conda: str) -> str:
    """Return the command that installs a Python package for this Python.

    Args:
        pip: What pip is to install.
        debian: Debian's package.
        conda: conda-forge's package.
    """
    if _in_conda():
        return f"conda install -y -p {shlex.quote(sys.prefix)} -c conda-forge {conda}"
    # Where the distribution looks after its Python, pip refuses to.
    if not _is_managed() or sys.prefix != sys.base_prefix:
        return f"{shlex.quote(sys.executable)} -m pip install {pip}"
    if shutil.which("apt-get") and (os.geteuid() == 0 or shutil.which("sudo")):
        return _apt_get(debian)
    # Without root's rights.
    environment = f"{sys.executable} -m venv --system-site-packages ~/vine"
    return f"{environment} && . ~/vine/bin/activate && pip install {pip}"


def cctools() -> str:
    """Return how to install cctools, its programs and its Python bindings: not by pip."""
    if _in_conda():
        return f"install it with 'conda install -y -p {sys.prefix} -c conda-forge ndcctools'"
    conda = "'conda create -y -n vine -c conda-forge ndcctools htcondor'"
    if not shutil.which("apt-get"):
        return f"install it with {conda}"
    return (  # Debian 12's cctools are older than TaskVine
        "on Debian 13 or later install it as root with "
        f"'{_apt_get('coop-computing-tools python3-workqueue python3-cloudpickle')}', "
        f"elsewhere with {conda}"
    )


def htcondor() -> str:
    """Return how to install HTCondor's daemons: neither by pip nor by conda."""
    return (
        f"install it as root with '{_apt_get('condor')}' on Debian 13 or later, "
        "else see https://htcondor.readthedocs.io/en/latest/getting-htcondor; PyPI and "
        "conda-forge do not have the daemons"
    )


def _base() -> str:
    """Return the Python that a virtual environment was made of, outside of one this one."""
    return f"{sys.base_exec_prefix}/bin/python{sys.version_info[0]}.{sys.version_info[1]}"


def _is_managed() -> bool:
    return os.path.exists(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED"))


def _in_conda() -> bool:
    return os.path.isdir(os.path.join(sys.prefix, "conda-meta")) and bool(shutil.which("conda"))


def _apt_get(packages: str) -> str:
    """Return the command that installs Debian's packages; containers begin without lists."""
    sudo = "sudo " if os.geteuid() != 0 and shutil.which("sudo") else ""
    update = "" if glob.glob("/var/lib/apt/lists/*Packages*") else f"{sudo}apt-get update && "
    return f"{update}{sudo}apt-get install -y {packages}"


def hidden(module: str) -> str | None:
    """Return where a module is that this Python does not see, and what to do; None if nowhere.

    Args:
        module: A top-level module, which this Python has not found.
    """
    base = _base()
    if sys.prefix != sys.base_prefix:
        place, pip = _look(base, module)
        if place and place not in sys.path:
            # Done to an environment that is there, this keeps all that is in it.
            options = (
                "--system-site-packages" if pip else "--system-site-packages --without-pip"
            )
            return (
                f"its virtual environment hides {place}, where that is; show it by "
                f"'{base} -m venv {options} {shlex.quote(sys.prefix)}'"
            )
    if os.path.realpath(_SYSTEM_PYTHON) != os.path.realpath(base):
        place, _ = _look(_SYSTEM_PYTHON, module)
        if place:
            return f"{_SYSTEM_PYTHON} has it; {environment_of(_SYSTEM_PYTHON)}"
    return None


def instead(module: str, distribution: str) -> str | None:
    """Return the commands after which this Python has the system's module, not its own.

    Args:
        module: A top-level package that this Python has.
        distribution: What pip calls that in which it has come.

    Returns:
        None if the system has no other one, or none that can be loaded.
    """
    found = importlib.util.find_spec(module)
    if found is None or not found.origin:
        return None
    own = os.path.dirname(os.path.dirname(found.origin))
    base = _base()
    place = _other_place(base, module, own)
    if place is None:
        if os.path.realpath(_SYSTEM_PYTHON) == os.path.realpath(base):
            return None
        if _other_place(_SYSTEM_PYTHON, module, own, loads_in=_SYSTEM_PYTHON) is None:
            return None
        return environment_of(_SYSTEM_PYTHON)
    python, prefix = shlex.quote(sys.executable), shlex.quote(sys.prefix)
    remove = f"{python} -m pip uninstall -y {distribution}"
    if sys.prefix == sys.base_prefix:
        return f"{remove} --break-system-packages" if _is_managed() else remove
    if place in sys.path:
        return remove
    _, pip = _look(base, "sys")
    options = "--system-site-packages" if pip else "--system-site-packages --without-pip"
    # Done to an environment that is there, this keeps all that is in it.
    return f"{base} -m venv {options} {prefix} && {remove}"


def _other_place(
    python: str, module: str, own: str, *, loads_in: str | None = None
) -> str | None:
    """Return another directory from which a Python has the module, if it can be loaded."""
    for place in _run(python, _LOOK_EVERYWHERE, module).splitlines():
        if os.path.realpath(place) == os.path.realpath(own):
            continue
        done = _run(loads_in or sys.executable, f"{_LOAD}; print(1)", module, place)
        if done.strip():
            return place
    return None


def environment_of(python: str) -> str:
    """Return how to use another Python and what the system has for it."""
    return (
        f"make an environment of that one by '{python} -m venv --system-site-packages ~/vine "
        "&& . ~/vine/bin/activate', and in it, in the checkout, 'pip install .'"
    )


def _look(python: str, module: str) -> tuple[str | None, bool]:
    """Return the directory where a Python has a module, and whether it has ``ensurepip``."""
    said = _run(python, _LOOK, module, isolated=False).splitlines()
    origin, pip = said if len(said) == 2 else ("", "")
    if not origin:
        return None, False
    package = origin if os.path.isdir(origin) else os.path.dirname(origin)
    return os.path.dirname(package), pip == "True"


def _run(python: str, program: str, *arguments: str, isolated: bool = True) -> str:
    """Return what a Python prints; nothing where it fails, or is not there."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    options = ["-I"] if isolated else []
    try:
        done = subprocess.run(
            [python, *options, "-c", program, *arguments],
            cwd="/", env=own, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""
    return done.stdout
