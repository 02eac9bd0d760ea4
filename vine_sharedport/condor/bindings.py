"""The ``htcondor2`` bindings, loaded when first needed.

Loading them reads HTCondor's configuration in C: without one it prints to
stderr, and with a host name that does not resolve it hangs. Both are checked
first, so that the user reads our message and its remedy instead.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vine_sharedport.condor.personal_pool.directory import way_to_own_pool
from vine_sharedport.errors import DiscoveryError, MissingDependencyError, SharedPortError
from vine_sharedport.installing import command, hidden

__all__ = [
    "config_source",
    "failures",
    "load",
    "parameter",
    "periodic_interval",
    "refresh",
    "restore_environment",
    "use_environment",
]

# ``find_file`` in src/condor_utils/condor_config.cpp; the last is ~condor.
_USUAL_CONFIGS = ("/etc/condor/condor_config", "/usr/local/etc/condor_config")

# A working resolver answers in milliseconds. One that is unreachable takes glibc
# 10 s a try, and HTCondor tries 20 times (init_local_hostname_impl).
_RESOLVE_TIMEOUT = 5.0

# Settings with which HTCondor does not look its own name up.
_NO_LOOKUP = re.compile(
    r"^\s*(NETWORK_HOSTNAME\s*=\s*\S|NO_DNS\s*=\s*(t|y|1))", re.IGNORECASE | re.MULTILINE
)

# CONDOR_CONFIG as it was when the bindings last read the configuration; absent
# until this module has seen to that once.
_loaded_from: list[str | None] = []


def load() -> Any:
    """Return the module ``htcondor2``, bound to the present configuration.

    The bindings read the configuration once, when imported. If ``CONDOR_CONFIG``
    has changed since, they are told to read it again.

    Raises:
        MissingDependencyError: ``htcondor2`` is not installed.
        DiscoveryError: HTCondor has no configuration here, or would hang because
            the local host name does not resolve.
    """
    imported = sys.modules.get("htcondor2")
    if imported is None and importlib.util.find_spec("htcondor2") is None:
        raise MissingDependencyError(
            f"{sys.executable} does not find htcondor2, HTCondor's Python bindings; "
            f"{hidden('htcondor2') or _how_to_install()}"
        )
    _check_configuration()
    if imported is None:
        _check_host_name()
        try:
            import htcondor2
        except ImportError as error:
            raise MissingDependencyError(
                f"htcondor2, HTCondor's Python bindings, cannot be loaded ({error}); "
                f"{_how_to_install()}"
            ) from error
        _loaded_from[:] = [os.environ.get("CONDOR_CONFIG")]
        return htcondor2
    refresh()
    return imported


def _how_to_install() -> str:
    """Return the next step, also where there are bindings from before ``htcondor2``."""
    step = command(pip="--upgrade htcondor", debian="condor", conda="python-htcondor")
    return f"install it with '{step}'"


def refresh() -> None:
    """Let loaded bindings read the configuration again if ``CONDOR_CONFIG`` changed.

    Does nothing when ``htcondor2`` is not loaded, or when there is no
    configuration to read (HTCondor would print to stderr).

    Raises:
        DiscoveryError: HTCondor would hang, because the host name does not resolve.
    """
    htcondor2 = sys.modules.get("htcondor2")
    now = os.environ.get("CONDOR_CONFIG")
    if htcondor2 is None or _loaded_from == [now] or config_source() is None:
        return
    _check_host_name()
    htcondor2.reload_config()
    _loaded_from[:] = [now]


def failures(htcondor2: Any) -> tuple[type[Exception], ...]:
    """Return what the bindings raise when an operation fails.

    Source: 25.x raises ``HTCondorException``, a plain ``Exception``; 23.9 raises
    ``RuntimeError``. ``KeyError`` is an ad without the attribute.
    """
    found: list[type[Exception]] = [RuntimeError, OSError, KeyError, ValueError]
    own = getattr(htcondor2, "HTCondorException", None)
    if isinstance(own, type) and issubclass(own, Exception):
        found.append(own)
    return tuple(found)


def parameter(htcondor2: Any, name: str) -> str | None:
    """Return a configuration parameter as text, None when unset or empty."""
    try:
        value = htcondor2.param[name]
    except KeyError:
        return None
    return str(value).strip() or None


def periodic_interval() -> int:
    """Return the seconds between two looks of the schedd at its jobs' own conditions.

    Source: PERIODIC_EXPR_INTERVAL in HTCondor's manual; its default without HTCondor, or
    where it is no number.
    """
    try:
        return int(parameter(load(), "PERIODIC_EXPR_INTERVAL") or 60)
    except (SharedPortError, ValueError):
        return 60


def config_source() -> str | None:
    """Return the configuration that HTCondor would read, None without any."""
    source = os.environ.get("CONDOR_CONFIG")
    if source is None:
        home = os.path.expanduser("~condor")
        usual = [*_USUAL_CONFIGS, f"{home}/condor_config"]
        return next((path for path in usual if os.access(path, os.R_OK)), None)
    if source == "/dev/null":
        # What importing htcondor2 sets when it finds nothing. On purpose, it
        # comes with settings in the environment.
        in_environment = any(name.upper().startswith("_CONDOR_") for name in os.environ)
        return source if in_environment else None
    # "ONLY_ENV" reads the environment alone; "command |" reads what it prints.
    if source == "ONLY_ENV" or source.rstrip().endswith("|"):
        return source
    return source if os.path.isfile(source) and os.access(source, os.R_OK) else None


def _check_configuration() -> None:
    """Refuse to go on without a configuration."""
    if config_source() is not None:
        return
    source = os.environ.get("CONDOR_CONFIG")
    if source is None or source == "/dev/null":
        found = f"CONDOR_CONFIG is not set, and none of {', '.join(_USUAL_CONFIGS)} exists"
    elif os.path.lexists(source):
        found = f"CONDOR_CONFIG is {source!r}, which is not a readable file"
    else:  # as in a shell with the settings of a pool that has been stopped
        raise DiscoveryError(
            f"no HTCondor configuration found: CONDOR_CONFIG is {source!r}, and there is no "
            f"such file; 'unset CONDOR_CONFIG', or {way_to_own_pool()}"
        )
    raise DiscoveryError(
        f"no HTCondor configuration found: {found}; run this on a host of an HTCondor pool, "
        f"set CONDOR_CONFIG, or {way_to_own_pool()}"
    )


def _check_host_name() -> None:
    """Refuse to load the bindings where they would hang on the local host name."""
    if _lookup_is_off():
        return
    name = socket.gethostname()
    answer: list[OSError | None] = []

    def resolve() -> None:
        try:
            socket.getaddrinfo(name, None)
        except OSError as error:
            answer.append(error)
        else:
            answer.append(None)

    # There is no way to bound getaddrinfo() itself; the thread is left behind.
    thread = threading.Thread(target=resolve, name="resolve-host-name", daemon=True)
    thread.start()
    thread.join(_RESOLVE_TIMEOUT)
    if answer:
        # Only EAI_AGAIN makes HTCondor wait and try again; after "no such name"
        # it goes on without one.
        error = answer[0]
        if error is None or error.errno != socket.EAI_AGAIN:
            return
        found = error.strerror
    else:
        found = f"no answer in {_RESOLVE_TIMEOUT:g} s"
    raise DiscoveryError(
        f"the host name {name!r} does not resolve ({found}), and HTCondor's programs hang "
        f"on that for minutes; add the line '127.0.1.1 {name}' to /etc/hosts, or set "
        "NETWORK_HOSTNAME in HTCondor's main configuration file"
    )


def _lookup_is_off() -> bool:
    """Whether the configuration names the host, so that nobody looks it up."""
    # Only the main file counts: HTCondor wants the name before it reads the others and
    # the environment (seen with 25.14: 180 s in spite of _CONDOR_NETWORK_HOSTNAME).
    try:
        text = Path(config_source() or "").read_text(errors="replace")
    except OSError:
        return False
    return _NO_LOOKUP.search(text) is not None


def use_environment(values: Mapping[str, str]) -> dict[str, str | None]:
    """Let this process and its future children use the HTCondor that these variables name.

    Takes away ``_CONDOR_…`` variables, which would win over the settings of that.

    Returns:
        What ``restore_environment`` wants.
    """
    changed = [name for name in os.environ if name.upper().startswith("_CONDOR_")]
    saved = {name: os.environ.get(name) for name in (*changed, *values)}
    for name in saved:
        os.environ.pop(name, None)
    os.environ.update(values)
    try:
        refresh()
    except DiscoveryError:
        restore_environment(saved)
        raise
    return saved


def restore_environment(saved: Mapping[str, str | None]) -> None:
    """Undo ``use_environment``."""
    for name, value in saved.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    # Where that would hang, the next user of the bindings hears why.
    with contextlib.suppress(DiscoveryError):
        refresh()
