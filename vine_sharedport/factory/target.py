"""Which manager a factory serves, from whatever its user has to name it by."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
from typing import Any

from vine_sharedport.errors import LaunchError, SharedPortError, WrongSecretError
from vine_sharedport.factory.options import Options
from vine_sharedport.link import dial
from vine_sharedport.link.endpoint import is_served
from vine_sharedport.link.run_file import RUN_FILE, Run, read_run_file
from vine_sharedport.pool._htcondor import config_source
from vine_sharedport.pool.discovery import discover
from vine_sharedport.pool.worker_job import address_of
from vine_sharedport.wire.handoff import check_sock_id

__all__ = [
    "check_secret",
    "default_directory",
    "look_again",
    "values_of_manager",
    "values_of_name",
]

# Where a manager of that name, started in the present directory, has its secret:
# ``directories`` in manager/systems.py.
_RUN_INFO = {"taskvine": "vine-run-info", "work_queue": "work-queue-run-info"}

# And where any manager that was started there has the files of its run.
_RUNS = {"taskvine": os.path.join("*", "*", "vine-logs"),
         "work_queue": os.path.join("work-queue-run-info", "*")}  # fmt: skip

# Seconds for the gate's greeting, which comes in two round trips.
_GATE_TIMEOUT = 5.0


def values_of_manager(manager: Any) -> dict[str, Any]:
    """Return the options that a manager object gives.

    Raises:
        LaunchError: It has no shared port.
    """
    link = getattr(manager, "shared_port", None)
    if link is None:
        raise LaunchError(
            "the manager has no shared port, by which the workers would come; make it with "
            "vine.Manager(shared_port=True). For workers that come by TCP use "
            "ndcctools.taskvine.Factory"
        )
    found: dict[str, Any] = {"address": str(link.address)}
    if link.secret_file is not None:
        found["secret_file"] = os.path.abspath(link.secret_file)
    if hasattr(manager, "_work_queue"):
        found["system"] = "work_queue"
    if getattr(manager, "_using_ssl", False):
        found["ssl"] = True
    return found


def values_of_name(name: str, system: str = "taskvine") -> dict[str, Any]:
    """Return the options for a manager of this host that has this name.

    The catalog server, by which the stock factory finds names, knows no shared port. A
    manager with this name that runs in the present directory has left word of itself in the
    directory of its run. Else it is the name given in ``SharedPort(name=...)``, of a manager
    that may be started later.

    Raises:
        LaunchError: Several managers have this name, or it is no such name.
        DiscoveryError: HTCondor's shared port cannot be used here.
    """
    run = _run_called(name, system)
    if run is not None:
        return _values_of_run(run)
    try:
        check_sock_id(name)
    except Exception as error:
        raise LaunchError(
            f"manager_name is {name!r}, and no manager of this name runs in this directory; "
            f"nor is it the name of a shared port: {error}; the catalog server is not asked, "
            "start the factory where the manager was started, or give its address"
        ) from error
    found: dict[str, Any] = {"address": str(discover().address.with_sock(name))}
    secret = _secret_of(name, system)
    if os.path.exists(secret):
        found["secret_file"] = secret
    return found


def look_again(options: Options) -> Options:
    """Return the options with the place to which the manager's name leads by now.

    For as long as no manager has answered: it is started after its factory, or again.

    Raises:
        LaunchError: Several managers have this name by now.
        DiscoveryError: HTCondor's shared port cannot be used at the moment.
    """
    name = options.manager_name
    if name is None or options.address is None:
        return options
    run = _run_called(name, options.system)
    if run is not None:
        # It knows its own secret, and that it has none, better than who was there before.
        found = {"secret_file": None, "ssl": run.ssl, **_values_of_run(run)}
        return dataclasses.replace(options, **found)
    secret = _secret_of(name, options.system)
    if (
        options.secret_file is None
        and address_of(options.address).sock == name
        and os.path.exists(secret)
    ):
        return dataclasses.replace(options, secret_file=secret)
    return options


def _run_called(name: str, system: str) -> Run | None:
    """Return the manager with this name that runs in the present directory.

    Raises:
        LaunchError: There are several.
    """
    runs = [run for run in _runs(system) if name in (run.name, run.sock_id)]
    if len(runs) > 1:
        raise LaunchError(
            f"{len(runs)} managers of this directory are called {name!r}; give the address of "
            "one, which its manager.shared_port.address tells, and its secret file: "
            + ", ".join(f"sock={run.sock_id} {run.secret_file}" for run in runs)
        )
    return runs[0] if runs else None


def _runs(system: str) -> list[Run]:
    """Return the managers that run in the present directory, the last one first."""
    pattern = _RUNS[system]
    # TaskVine's link most-recent leads to one of the others.
    paths = {os.path.realpath(path) for path in glob.glob(os.path.join(pattern, RUN_FILE))}
    found = [run for run in map(read_run_file, sorted(paths, reverse=True)) if run is not None]
    alive = []
    for run in found:
        with contextlib.suppress(SharedPortError):  # another user's
            if is_served(run.socket):
                alive.append(run)
    return alive


def _values_of_run(run: Run) -> dict[str, Any]:
    location = discover()
    served = os.path.dirname(run.socket)
    if not _is_same(served, location.socket_dir):
        raise LaunchError(
            f"the manager {run.name or run.sock_id} is served in {served}, but the HTCondor "
            f"that is used here ({config_source()}) looks in {location.socket_dir}; use the "
            "manager's: by --no-own-pool, or by CONDOR_CONFIG as it is where the manager runs"
        )
    found: dict[str, Any] = {"address": str(location.address.with_sock(run.sock_id))}
    if run.secret_file is not None:
        found["secret_file"] = run.secret_file
    if run.ssl:
        found["ssl"] = True
    return found


def _is_same(first: str, second: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(first, second)
    return False


def _secret_of(name: str, system: str) -> str:
    """Return where a named manager, started in the present directory, has its secret."""
    return os.path.abspath(os.path.join(_RUN_INFO[system], f"shared_port-{name}.secret"))


def check_secret(options: Options) -> None:
    """Refuse to begin without a secret where the manager asks for one.

    Only its gate can say that. One that cannot be reached may still come.

    Raises:
        LaunchError: It does; the message says where a secret was looked for.
    """
    if options.address is None or options.secret_file is not None:
        return
    try:
        dial.connect(options.address, timeout=_GATE_TIMEOUT, confirm=True).close()
    except WrongSecretError as error:
        name = options.manager_name
        looked = f"; there is no {_secret_of(name, options.system)}" if name else ""
        raise LaunchError(
            f"the manager {name or options.address} asks for its secret, and the factory has "
            f"none{looked}; give --secret-file, in Python secret_file=, with the file that "
            "manager.shared_port.secret_file names, or start the factory where the manager "
            "was started"
        ) from error
    except SharedPortError:
        pass


def default_directory(base: str, manager: str) -> str:
    """Return the directory for a manager's factory below another one.

    The same one each time, so that a factory finds the jobs of one that was killed; with a
    number behind it while another factory of the manager uses that.
    """
    from vine_sharedport.factory.files import is_running

    for number in range(1, 1000):
        tail = "" if number == 1 else f"-{number}"
        path = os.path.abspath(os.path.join(base, f"vine-factory-{manager}{tail}"))
        if not is_running(path):
            return path
    raise LaunchError(f"a thousand factories of {manager} run in {base}")
