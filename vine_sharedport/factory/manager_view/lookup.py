"""Which manager a factory serves, from whatever its user has to name it by."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import logging
import os
import time
from typing import Any

from vine_sharedport.condor.bindings import config_source
from vine_sharedport.condor.own_pool import discover
from vine_sharedport.dialing import dial
from vine_sharedport.errors import SettingError, SharedPortError, WrongSecretError
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.report.runs import by_address, by_name, names_here, typed
from vine_sharedport.manager_protocol.query import OTHER_SECRET
from vine_sharedport.registry.reference import Reference
from vine_sharedport.registry.run_file import called, running_managers
from vine_sharedport.secret_file import read_secret_file
from vine_sharedport.serving.endpoint import is_served
from vine_sharedport.trusted_files import absolute, working_directory
from vine_sharedport.wire.handoff import check_sock_id

__all__ = [
    "check_manager",
    "check_secret",
    "default_directory",
    "find_by_name",
    "find_secret_file",
    "look_again",
    "still_waiting",
    "values_of",
    "warn_of_transfers",
]

log = logging.getLogger(__name__)

# Where a manager of that name, started in the present directory, has its secret:
# ``directories`` in manager/systems.py.
_RUN_INFO = {"taskvine": "vine-run-info", "work_queue": "work-queue-run-info"}

# Seconds for the gate's greeting, which comes in two round trips.
_GATE_TIMEOUT = 5.0

# A manager that is just ending refuses everybody; after so many seconds it is gone.
_ASK_AGAIN_AFTER = 0.5

# Managers that a message names at most.
_SHOWN = 3

_OTHERS = {
    "taskvine": ("work_queue", "a Work Queue", "--work-queue"),
    "work_queue": ("taskvine", "a TaskVine manager", "--system=taskvine"),
}


def check_manager(manager: object) -> None:
    """Refuse a manager's name in the place of the manager.

    Raises:
        SettingError: It is a text.
    """
    if isinstance(manager, str):
        raise SettingError(
            f"manager is the text {manager!r}, wanted is what vine.Manager() has returned; "
            f"for a manager of another program write manager_name={manager!r}"
        )


def values_of(manager: Reference) -> dict[str, Any]:
    """Return the options that a reference gives."""
    values = {
        "address": str(manager), "secret_file": manager.secret_file, "system": manager.system,
        "ssl": manager.tls, "tls_sni": manager.tls_sni, "password_file": manager.password_file,
        "peer_transfers": "site" if manager.peer_transfers == "site" else None,
    }  # fmt: skip
    return {name: value for name, value in values.items() if value}


def warn_of_transfers(options: Options) -> None:
    """Warn if workers shall fetch from each other, and their manager has none do so."""
    if options.peer_transfers != "site" or options.address is None:
        return
    sock_id = options.reference.sock_id
    if any(found.peer_transfers == "off" for found in called(sock_id, running_managers())):
        log.warning(
            "peer_transfers=site has no effect: the manager %s has transfers between workers "
            "off; in its program write SharedPort(peer_transfers='site')",
            sock_id,
        )


def find_by_name(name: str, system: str = "taskvine") -> Reference:
    """Return the manager of this host that has this name.

    The catalog server, by which the stock factory finds names, knows no shared port. A
    manager with this name that runs in the present directory has left word of itself in the
    directory of its run. Else it is the name given in ``SharedPort(name=...)``, of a manager
    that may be started later.

    Raises:
        SettingError: Several managers have this name, or it is no such name.
        DiscoveryError: HTCondor's shared port cannot be used here.
    """
    found = _find_running(name, system)
    if found is not None:
        return found
    _refuse_other_system(name, system)
    try:
        check_sock_id(name)
    except SettingError as error:
        why = f"and the factory can wait for no such name ({error})"
        raise SettingError(_not_here(name, system, why)) from error
    location = discover()
    secret = _secret_of(name, system)
    served = False
    with contextlib.suppress(SharedPortError):  # another user's
        served = is_served(os.path.join(location.socket_dir, name))
    if not served:
        waits = "the factory waits for one to be started there"
        log.warning("%s", _not_here(name, system, waits))
    return Reference(
        location.address.with_sock(name),
        secret if os.path.exists(secret) else None,
        system,
        name=name,
    )


def find_secret_file(manager: Reference) -> str | None:
    """Return the secret file of a manager that runs in or below the present directory.

    Raises:
        SettingError: It is one of the other system.
    """
    for found in called(manager.sock_id, running_managers(manager.system, working_directory())):
        return found.secret_file
    if manager.system is not None:
        _refuse_other_system(manager.sock_id, manager.system)
    return None


def _refuse_other_system(name: str, system: str) -> None:
    """Refuse a manager of the present directory that is the other system's.

    Raises:
        SettingError: It is.
    """
    other, what, option = _OTHERS[system]
    if called(name, running_managers(other, working_directory())):
        raise SettingError(
            f"the manager {name} that runs in or below {working_directory()} is {what}; say so "
            f"(in Python system={other!r}): "
            f"{typed(option, without=() if other == 'work_queue' else ('--system',))}"
        )


def _not_here(name: str, system: str, then: str) -> str:
    """Say that nobody has this name, where it was looked up, and what can be done."""
    text = (
        f"no manager called {name!r} runs in or below {working_directory()}, where its name is "
        f"looked up; {then}."
    )
    for manager in called(name, running_managers(system)):
        return f"{text} One has its logs in {manager.directory}:\n  {by_address(manager)}"
    names = names_here(system)
    if not names:
        return (
            f"{text} For one that was started elsewhere start the factory in its directory, or "
            "give --address and --secret-file, as manager.shared_port has them"
        )
    known = ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
    near = difflib.get_close_matches(name, names, 1, 0.0)
    return f"{text} There is {known}: {by_name(near[0])}"


def still_waiting(options: Options) -> str:
    """Say what a factory waits for that no manager has answered yet."""
    name = options.manager_name
    if name is None or name in names_here(options.system):
        return f"no manager has answered at {options.address} yet; the factory waits for it"
    return _not_here(
        name, options.system, "the factory still waits for one to be started there"
    )


def look_again(options: Options) -> Options:
    """Return the options with the place to which the manager's name leads by now.

    For as long as no manager has answered: it is started after its factory, or again.

    Raises:
        SettingError: Several managers have this name by now.
        DiscoveryError: HTCondor's shared port cannot be used at the moment.
    """
    name = options.manager_name
    if name is None or options.address is None:
        return options
    found = _find_running(name, options.system)
    if found is not None:
        # It knows its own secret, and that it has none, better than who was there before.
        return dataclasses.replace(
            options,
            address=str(found),
            secret_file=found.secret_file,
            ssl=found.tls,
            password_file=options.password_file or found.password_file,
        )
    secret = _secret_of(name, options.system)
    if (
        options.secret_file is None
        and options.reference.sock_id == name
        and os.path.exists(secret)
    ):
        return dataclasses.replace(options, secret_file=secret)
    return options


def _find_running(name: str, system: str) -> Reference | None:
    """Return the manager with this name that runs in or below the present directory.

    Raises:
        SettingError: There are several, or it is another HTCondor's.
        DiscoveryError: HTCondor's shared port cannot be used here.
    """
    found = called(name, running_managers(system, working_directory()))
    if len(found) > 1:
        commands = "".join(f"\n  {by_address(manager)}" for manager in found[:_SHOWN])
        raise SettingError(
            f"{len(found)} managers that run in or below {working_directory()} are called "
            f"{name!r}; say which, by address:{commands}"
        )
    if not found:
        return None
    location = discover()
    manager = found[0]
    served = os.path.dirname(manager.socket or "")
    if not _is_same(served, location.socket_dir):
        raise SettingError(
            f"the manager {manager.name or manager.sock_id} is served in {served}, but the "
            f"HTCondor that is used here ({config_source()}) looks in {location.socket_dir}; "
            "use the manager's: by --no-own-pool, or by CONDOR_CONFIG as it is where the "
            "manager runs"
        )
    return dataclasses.replace(manager, address=location.address.with_sock(manager.sock_id))


def _is_same(first: str, second: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(first, second)
    return False


def _secret_of(name: str, system: str) -> str:
    """Return where a named manager, started in the present directory, has its secret."""
    return absolute(os.path.join(_RUN_INFO[system], f"shared_port-{name}.secret"))


def check_secret(options: Options) -> None:
    """Refuse to begin without the secret that the manager asks for, or with another one.

    Only its gate can say that. One that cannot be reached may still come.

    Raises:
        SettingError: It does; the message says where a secret was looked for.
    """
    if options.address is None:
        return
    path = options.secret_file
    name, sock_id = options.manager_name, options.reference.sock_id
    told = called(sock_id, running_managers(options.system))
    if path is not None and path in [manager.secret_file for manager in told]:
        return  # the manager would count the attempt as a client that has gone
    secret = None if path is None else read_secret_file(path)
    if not _is_refused(options.address, secret):
        return
    if secret is not None:
        time.sleep(_ASK_AGAIN_AFTER)
        if not _is_refused(options.address, secret):
            return
    what = f"the manager {name or sock_id} " + (
        "asks for its secret, and the factory has none"
        if path is None
        else f"has another secret than the factory's file {path}"
    )
    if name and path is None:
        what += f"; there is no {_secret_of(name, options.system)}"
    step = OTHER_SECRET
    for manager in told:
        if manager.secret_file is not None:
            step = f"give --secret-file with the manager's own:\n  {by_address(manager)}"
    raise SettingError(f"{what}; {step}")


def _is_refused(address: str, secret: bytes | None) -> bool:
    """Whether the manager's gate refuses this secret, or that there is none."""
    try:
        dial.connect(address, secret=secret, timeout=_GATE_TIMEOUT, check=True).close()
    except WrongSecretError:
        return True
    except SharedPortError:
        pass
    return False


def default_directory(base: str, manager: str) -> str:
    """Return the directory for a manager's factory below another one.

    The same one each time, so that a factory finds the jobs of one that was killed; with a
    number behind it while another factory of the manager uses that.
    """
    from vine_sharedport.factory.report.paths import is_running

    for number in range(1, 1000):
        tail = "" if number == 1 else f"-{number}"
        path = absolute(os.path.join(base, f"vine-factory-{manager}{tail}"))
        if not is_running(path):
            return path
    raise SettingError(f"a thousand factories of {manager} run in {base}")
