"""Tests stand where one looks for them: each module has a test, and each test a module.

The test of ``vine_sharedport/a/b.py``, or of ``a/b.c``, is ``tests/unit/a/test_b.py``. A second
file about one aspect of it is ``test_b_ASPECT.py``. What needs a daemon is in
``tests/daemon/NOUN/``.
"""

from __future__ import annotations

from pathlib import Path

import vine_sharedport

PACKAGE = Path(vine_sharedport.__file__).parent
TESTS = Path(__file__).parents[1]
MODULES = ("*.py", "*.c", "*.sh")
MOST = 14  # files of tests in a folder of daemon tests, as modules in a package

# Modules without a test of their own, and what tests them.
WITHOUT_TEST = {
    # Declarations.
    "factory/declarations.py": "types alone: typing/test_typing.py compares them",
    "manager/taskvine_names.py": "types alone, never imported: typing/test_typing.py",
    "hook/_libc.py": "the C library's functions: hook/test_accept_hook*.py call each",
    "hook/_callback.py": "what C calls: hook/test_accept_hook*.py, in child processes",
    # What is tested with what it is a part of.
    "cli/worker.py": "bundle/test_local_worker.py runs the command beside the function",
    "worker/relay.py": "bundle/test_local_worker.py starts it as the launcher does",
    "cli/factory_options.py": "factory/options/test_schema.py compares command and options",
    "dialing/race.py": "dialing/test_dial.py races candidates by connect(), its one caller",
    "factory/status.py": "factory/jobs/test_queue.py runs cycles of the loop and reads it",
    "factory/submitter.py": "factory/jobs/test_queue.py runs cycles of the loop",
    "shim/backoff.c": "shim/test_dial.py measures the pauses of a client",
    "shim/candidates.c": "shim/test_sinful.py compares address and candidates with Python's",
    "shim/names.c": "shim/test_race.py resolves names, with a name service of its own",
    "shim/kernel.c": "system calls, in every test of the folder",
    "shim/memory.c": "what a compiler calls, in every test of the folder",
    # What needs HTCondor's daemons or ndcctools.
    "condor/bindings.py": "condor/test_discovery.py without the bindings, tests/daemon with",
    "condor/schedd.py": "tests/daemon/jobs",
    "manager/extension.py": "tests/daemon/manager",
    "manager/peer_transfers.py": "tests/daemon/manager/test_peer_transfers.py",
    "manager/taskvine.py": "tests/daemon/manager",
    "manager/work_queue.py": "tests/daemon/manager",
    "manager/systems.py": "tests/daemon/manager, test_installing.py",
    "manager/site/sitecustomize.py": "tests/daemon/manager, in child processes of programs",
}
# Files of tests that are about no single module.
WITHOUT_MODULE = {
    "shim/test_build.py": "the library as a whole: its imports, its size, its headers",
    "shim/test_memcheck.py": "the library as a whole, under valgrind",
}


def modules_in(package: Path) -> set[str]:
    """Return the modules, as paths below the package."""
    return {
        str(path.relative_to(package))
        for pattern in MODULES
        for path in package.rglob(pattern)
        if path.stem not in ("__init__", "__main__")
    }


def files_of_tests(folder: Path) -> set[str]:
    """Return the files of tests, as paths below the folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("test_*.py")}


def place_of_test(module: str) -> str:
    """Return where the test of a module stands."""
    path = Path(module)
    return str(path.with_name(f"test_{path.stem}.py"))


def without_test(modules: set[str], tests: set[str]) -> set[str]:
    return {module for module in modules if place_of_test(module) not in tests}


def without_module(modules: set[str], tests: set[str]) -> set[str]:
    stems = {place_of_test(module)[: -len(".py")] for module in modules}
    return {
        test
        for test in tests
        if not any(test == f"{stem}.py" or test.startswith(f"{stem}_") for stem in stems)
    }


def test_each_module_has_a_test_of_its_own() -> None:
    found = without_test(modules_in(PACKAGE), files_of_tests(TESTS / "unit"))
    missing = sorted(place_of_test(module) for module in found - WITHOUT_TEST.keys())
    assert not missing, f"missing in tests/unit: {', '.join(missing)}"
    stale = sorted(WITHOUT_TEST.keys() - found)
    assert not stale, f"WITHOUT_TEST need not name {', '.join(stale)}"


def test_each_file_of_unit_tests_has_a_module() -> None:
    found = without_module(modules_in(PACKAGE), files_of_tests(TESTS / "unit"))
    lost = sorted(found - WITHOUT_MODULE.keys())
    assert not lost, f"no module in vine_sharedport for tests/unit: {', '.join(lost)}"
    stale = sorted(WITHOUT_MODULE.keys() - found)
    assert not stale, f"WITHOUT_MODULE need not name {', '.join(stale)}"


def test_whatever_has_no_counterpart_is_seen(tmp_path: Path) -> None:
    for name in (
        "package/units.py", "package/wire/gate.py", "package/wire/__init__.py",
        "package/shim/gate.c", "package/worker/launcher.sh", "package/worker/__main__.py",
        "unit/test_units.py", "unit/wire/test_gate.py", "unit/wire/test_gate_fuzz.py",
        "unit/wire/conftest.py", "unit/shim/test_gate.py", "unit/worker/test_launcher.py",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def found() -> tuple[set[str], set[str]]:
        both = modules_in(tmp_path / "package"), files_of_tests(tmp_path / "unit")
        return without_test(*both), without_module(*both)

    assert found() == (set(), set())
    for new, without in (
        ("package/wire/sinful.py", ({"wire/sinful.py"}, set())),
        ("package/shim/sinful.c", ({"shim/sinful.c"}, set())),
        ("unit/test_gate.py", (set(), {"test_gate.py"})),
        ("unit/dialing/test_gate.py", (set(), {"dialing/test_gate.py"})),
        ("unit/wire/test_gates.py", (set(), {"wire/test_gates.py"})),
    ):
        (tmp_path / new).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / new).touch()
        assert found() == without, new
        (tmp_path / new).unlink()
    (tmp_path / "unit/wire/test_gate.py").unlink()  # an aspect's alone is not enough
    assert found() == ({"wire/gate.py"}, set())


def test_daemon_tests_are_grouped_by_noun() -> None:
    folder = TESTS / "daemon"
    assert not list(folder.glob("test_*.py")), "put it into the folder of its noun"
    for noun in filter(Path.is_dir, folder.iterdir()):
        assert len(list(noun.glob("test_*.py"))) <= MOST, noun.name
