"""Run a Python program that we cannot edit, with a shared port for its managers.

The stock classes are extended in place when ``ndcctools`` is imported, so subclasses
that exist already, such as Dask's, have it too. Programs that start further Python
processes, as Parsl does for its manager, hand it on: a ``sitecustomize`` on
``PYTHONPATH`` does the same there.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import re
import runpy
import sys
import traceback
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType

from vine_sharedport import environment
from vine_sharedport.errors import SettingError
from vine_sharedport.manager.settings import SharedPort
from vine_sharedport.manager.systems import missing
from vine_sharedport.registry.command_lines import our_command
from vine_sharedport.registry.reference import Reference
from vine_sharedport.trusted_files import check_file

__all__ = [
    "after_interpreter",
    "check_program",
    "install",
    "install_from_environment",
    "is_interpreter",
    "place_in_program",
    "run_program",
    "traceback_of_program",
]

_MODULES = ("ndcctools.taskvine", "ndcctools.work_queue")
_OURS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")


def check_program(program: str, *, module: bool = False) -> None:
    """Refuse a program that is not there or no Python; make its imports find what is beside it.

    Args:
        program: The program's file, or its name with ``module``.
        module: As ``python3 -m``.

    Raises:
        SettingError: There is no such program, or it cannot be read.
    """
    if not module:
        check_file(program, "program")
        _check_python(program)
        _put_first(os.path.dirname(os.path.abspath(program)))
        return
    _put_first(os.getcwd())
    if importlib.util.find_spec(program.split(".")[0]) is None:
        raise SettingError(
            f"there is no module {program} in {os.getcwd()} or on Python's path; give its "
            "name, or the program's file without -m"
        )


def _put_first(directory: str) -> None:
    """Put a program's directory where Python does, in the place of the command's own."""
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(sys.argv[0])):
        sys.path[0] = directory
    else:
        sys.path.insert(0, directory)


def run_program(
    arguments: Sequence[str], settings: SharedPort, *, module: bool = False
) -> None:
    """Run a program as ``python3`` would, its managers having a shared port.

    Args:
        arguments: The program, which ``check_program`` has seen, and its arguments.
        settings: For every manager that does not bring its own.
        module: As ``python3 -m``.

    Raises:
        MissingDependencyError: It needs ndcctools or cloudpickle, and did not find it.
        BaseException: Whatever the program raises.
    """
    program = arguments[0]
    os.environ[environment.RUN] = json.dumps(settings.__dict__)
    site = os.path.join(os.path.dirname(__file__), "site")
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{site}{os.pathsep}{path}" if path else site
    install(settings)
    sys.argv = list(arguments)
    try:
        if module:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(os.path.abspath(program), run_name="__main__")
    except ImportError as error:
        told = missing("TaskVine", error)
        if told is error:
            raise
        raise told from error


def is_interpreter(program: str) -> bool:
    """Whether a program's name is Python's, as in ``run python program.py``."""
    if not re.fullmatch(r"python(3(\.\d+)?)?", os.path.basename(program)):
        return False
    try:
        with open(program, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return True  # found on PATH by who would start it, and no file here


def after_interpreter(words: Sequence[str]) -> list[str]:
    """Return what follows Python's own options: the program, or -m with it."""
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-m":
        del rest[0]
    return rest or ["PROGRAM.py"]


def traceback_of_program(error: BaseException) -> TracebackType | None:
    """Return the part of an exception's traceback that Python shows for the program alone."""
    at = error.__traceback__
    while at is not None and at.tb_frame.f_globals.get("__name__") != "runpy":
        at = at.tb_next
    if at is None:  # it did not come so far
        return error.__traceback__
    while at is not None and at.tb_frame.f_globals.get("__name__") == "runpy":
        at = at.tb_next
    return at


def place_in_program(error: BaseException) -> str:
    """Return file and line of the program where an error of ours came up; "" without any."""
    found = ""
    for frame, line in traceback.walk_tb(traceback_of_program(error)):
        path = frame.f_code.co_filename
        if os.path.abspath(path).startswith(_OURS):
            break
        if not path.startswith("<"):  # as of the __init__ that a dataclass makes
            found = f"{os.path.relpath(path)}, line {line}"
    return found


def _check_python(program: str) -> None:
    """Refuse a file that is no Python program, before Python shows our own lines for it."""
    if program.endswith((".py", ".pyw", ".pyc")) or not os.path.isfile(program):
        return
    if zipfile.is_zipfile(program):
        return
    source = Path(program).read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, program, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:  # ValueError: a NUL, before Python 3.12
        line = getattr(error, "lineno", None)
        why = getattr(error, "msg", None) or str(error)
        # What a script for the shell or a text names is probably meant.
        named = re.findall(rb"[\w./-]+\.py\b", source)
        meant = next((name.decode() for name in named if os.path.isfile(name)), None)
        step = "" if meant is None else ": " + our_command("run", meant)
        raise SettingError(
            f"{program} is no Python program ({f'line {line}: ' if line else ''}{why}); give "
            f"the .py file that is to run{step}"
        ) from error


def install_from_environment() -> None:
    """Do in a child process what ``run_program`` did in its parent."""
    content = os.environ.get(environment.RUN)
    if content:
        install(SharedPort(**json.loads(content)))


def install(settings: SharedPort) -> None:
    """Extend the stock managers, now or when they are imported."""
    finder = _Finder(settings)
    sys.meta_path.insert(0, finder)
    for name in _MODULES:
        if name in sys.modules:
            finder.extend(sys.modules[name])


def _tell_next_step(manager: Reference) -> None:
    """Print the command that starts workers; on stderr, for stdout is the program's own."""
    words = ["factory", "--address", str(manager)]
    if manager.secret_file is not None:
        words += ["--secret-file", manager.secret_file]
    if manager.system == "work_queue":
        words += ["--system", "work_queue"]
    if manager.tls:
        words.append("--ssl")
    if manager.peer_transfers == "site":
        words += ["--peer-transfers", "site"]
    name = f" {manager.name}" if manager.name else ""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # it is the program's, too
        sys.stderr.write(
            f"vine_sharedport: the manager{name} has its shared port. Workers for it, from "
            f"another shell:\n  {our_command(*words)}\n"
        )
        sys.stderr.flush()


class _Finder(importlib.abc.MetaPathFinder):
    """Extends the modules' classes once they have been imported."""

    def __init__(self, settings: SharedPort) -> None:
        self._settings = settings
        self._extended: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _MODULES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec

    def extend(self, module: ModuleType) -> None:
        if module.__name__ in self._extended:
            return
        self._extended.add(module.__name__)
        # Not earlier: these import the modules themselves.
        from vine_sharedport.manager import extension
        from vine_sharedport.manager.extension import extend
        from vine_sharedport.manager.systems import TASKVINE, WORK_QUEUE

        extension.on_link = _tell_next_step
        if module.__name__ == "ndcctools.taskvine":
            extend(module.Manager, TASKVINE, self._settings)
        else:
            extend(module.WorkQueue, WORK_QUEUE, self._settings)


class _Loader(importlib.abc.Loader):
    """The module's own loader, and then the extension."""

    def __init__(self, loader: importlib.abc.Loader, finder: _Finder) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._finder.extend(module)
