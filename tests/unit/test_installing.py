"""What is missing is named with a command that brings it: the one for this Python."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport import installing
from vine_sharedport.bundle.worker_program import find_program
from vine_sharedport.errors import SettingError

ROOT = Path(__file__).resolve().parents[2]
BASE = f"{sys.base_exec_prefix}/bin/python3.{sys.version_info[1]}"
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
# ndcctools, without a look at the rest of TaskVine.
USE = "import vine_sharedport, warnings; warnings.simplefilter('ignore'); vine_sharedport.Task"


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def system_has(module: str) -> bool:
    """Whether the Python that environments are made of has it, such as Debian's."""
    return run(BASE, "-c", f"import {module}").returncode == 0


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Return the Python of an environment that sees nothing of the system's."""
    subprocess.run([BASE, "-m", "venv", "--without-pip", tmp_path / "my venv"], check=True)
    return tmp_path / "my venv/bin/python"


@pytest.mark.skipif(not system_has("ndcctools.taskvine"), reason="the system has no ndcctools")
@pytest.mark.parametrize("as_command", [False, True], ids=["imported", "run"])
def test_what_an_environment_hides_comes_by_the_command_that_is_printed(
    python: Path, tmp_path: Path, as_command: bool
) -> None:
    program = tmp_path / "program.py"
    program.write_text("import ndcctools.taskvine" if as_command else USE)
    prefix = ("-m", "vine_sharedport", "run") if as_command else ()
    said = run(python, *prefix, program)
    assert said.returncode == 1
    message = said.stderr.splitlines()[-1]
    assert "ndcctools" in message
    assert "install" not in message
    if as_command:  # the user's program is not to blame
        assert len(said.stderr.splitlines()) == 1
        assert len(message) < 4 * 100
    (step,) = re.findall(r" '(.*)'$", message)
    assert "--system-site-packages" in step
    done = run("sh", "-c", step)
    assert done.returncode == 0, done.stderr
    again = run(python, *prefix, program)
    assert again.returncode == 0, again.stderr


@pytest.mark.skipif(not system_has("htcondor2"), reason="the system has no htcondor2")
def test_the_bindings_that_belong_to_the_systems_daemons_are_preferred(python: Path) -> None:
    use = "from vine_sharedport.condor import bindings; bindings.load()"
    said = run(python, "-c", use, CONDOR_CONFIG="ONLY_ENV").stderr.splitlines()[-1]
    assert "MissingDependencyError" in said
    assert "htcondor2" in said
    (step,) = re.findall(r" '(.*)'$", said)
    assert run("sh", "-c", step).returncode == 0
    done = run(python, "-c", use, CONDOR_CONFIG="ONLY_ENV")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "use",
    [
        USE,
        "from vine_sharedport.work_queue import PythonTask",
        "import vine_sharedport.work_queue as wq; wq.PythonTask(print)",
    ],
)
def test_a_missing_cloudpickle_is_told_with_the_command_for_it(use: str) -> None:
    pytest.importorskip("ndcctools")
    said = run(sys.executable, "-c", f"import sys; sys.modules['cloudpickle'] = None; {use}")
    message = said.stderr.splitlines()[-1]
    assert message.startswith("vine_sharedport.errors.MissingDependencyError: ")
    assert "cloudpickle" in message
    step = installing.command(
        pip="cloudpickle", debian="python3-cloudpickle", conda="cloudpickle"
    )
    assert message.endswith(f"'{step}'")


def test_bindings_for_another_python_are_told_from_missing_ones(tmp_path: Path) -> None:
    package = tmp_path / "ndcctools" / "taskvine"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").write_text("from . import _cvine")
    (package / "_cvine.cpython-38-x86_64-linux-gnu.so").touch()
    said = run(sys.executable, "-c", USE, PYTHONPATH=f"{ROOT}:{tmp_path}").stderr
    assert f"{tmp_path}/ndcctools is for Python 3.8, and {sys.executable} is 3." in said
    assert "python3.8 -m venv --system-site-packages" in said
    assert "not find" not in said


def test_a_command_is_that_of_the_python_it_is_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"pip": "from-pypi", "debian": "from-debian", "conda": "from-conda"}
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    monkeypatch.setattr(installing.sysconfig, "get_path", lambda name: str(tmp_path))
    programs = {"conda", "apt-get"}
    monkeypatch.setattr(
        installing.shutil, "which", lambda name: name if name in programs else None
    )
    lists = ["/var/lib/apt/lists/host_Packages"]
    monkeypatch.setattr(installing.glob, "glob", lambda pattern: lists)
    # An environment is its owner's, whatever it is made of.
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    assert installing.command(**names) == f"{sys.executable} -m pip install from-pypi"
    # Debian's own Python takes nothing from pip.
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert installing.command(**names) == "apt-get install -y from-debian"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "-m venv --system-site-packages ~/vine && " in installing.command(**names)
    programs.add("sudo")
    assert installing.command(**names) == "sudo apt-get install -y from-debian"
    lists.clear()  # as in a new container
    update = "sudo apt-get update && sudo apt-get install -y from-debian"
    assert installing.command(**names) == update
    # conda looks after the whole environment.
    (tmp_path / "conda-meta").mkdir()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    conda = f"conda install -y -p {tmp_path} -c conda-forge "
    assert installing.command(**names) == conda + "from-conda"
    assert f"'{conda}ndcctools'" in installing.cctools()


def test_a_worker_beside_this_python_needs_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(
        SettingError, match=naming("'vine_worker'", "PATH", tmp_path, "--worker")
    ):
        find_program("vine_worker", option="--worker")
    (tmp_path / "vine_worker").touch(0o755)
    assert find_program("vine_worker", option="--worker") == str(tmp_path / "vine_worker")


def install(python: Path, module: str) -> Path:
    """Give an environment a package of its own, as pip would have installed it."""
    (site,) = python.parents[1].glob("lib/python3*/site-packages")
    (site / module).mkdir()
    (site / module / "__init__.py").write_text("OWN = True\n")
    info = site / f"of_pypi_{module}-25.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: of-pypi-{module}\nVersion: 25.0\n"
    )
    (info / "INSTALLER").write_text("pip\n")
    files = [f"{module}/__init__.py", *(f"{info.name}/{f}" for f in ("METADATA", "INSTALLER"))]
    (info / "RECORD").write_text(
        "".join(f"{name},,\n" for name in [*files, f"{info.name}/RECORD"])
    )
    return site


def instead(python: Path, module: str, **variables: str) -> str:
    call = f"installing.instead({module!r}, 'of-pypi-{module}')"
    program = f"from vine_sharedport import installing; print({call})"
    return run(python, "-c", program, **variables).stdout.strip()


@pytest.mark.skipif(not system_has("pip"), reason="the system has no pip")
@pytest.mark.parametrize("sees_system", [False, True])
@pytest.mark.parametrize("module", ["htcondor2", "ndcctools", "packaging"])
def test_a_module_gives_way_to_the_systems_by_the_command(
    module: str, sees_system: bool, tmp_path: Path
) -> None:
    if not system_has(module):
        pytest.skip(f"the system has no {module}")
    options = ["--system-site-packages"] if sees_system else []
    place = tmp_path / "my venv"
    subprocess.run([BASE, "-m", "venv", *options, "--without-pip", place], check=True)
    python = place / "bin/python"
    install(python, module)
    use = f"import {module} as m; print(hasattr(m, 'OWN'))"
    assert run(python, "-c", use).stdout.strip() == "True"
    step = instead(python, module)
    assert ("venv" in step.split("pip")[0].replace(str(place), "")) is not sees_system
    done = run("sh", "-c", step)
    assert done.returncode == 0, done.stderr
    assert run(python, "-c", use).stdout.strip() == "False"


def test_a_module_that_the_system_does_not_have_or_cannot_load_has_no_other(
    python: Path, tmp_path: Path
) -> None:
    install(python, "nobody_has_this")
    assert instead(python, "nobody_has_this") == "None"
    assert instead(python, "not_even_this_one") == "None"
    # Compiled for another Python: found, and of no use.
    base = tmp_path / "base"
    base.mkdir()
    (base / "nobody_has_this").mkdir()
    (base / "nobody_has_this/__init__.py").write_text("from . import _compiled")
    (base / "nobody_has_this/_compiled.cpython-38-x86_64-linux-gnu.so").touch()
    program = (
        "from vine_sharedport import installing as i\n"
        f"i._LOOK_EVERYWHERE = {f'print({str(base)!r})'!r}\n"
        "print(i.instead('nobody_has_this', 'x'))\n"
    )
    assert run(python, "-c", program).stdout.strip() == "None"
    (base / "nobody_has_this/__init__.py").write_text("")
    assert "pip uninstall -y x" in run(python, "-c", program).stdout
