"""The user's own running pool, where no HTCondor is named.

Somebody starts a pool in one shell by ``vine_sharedport pool start`` and works in another.
``use_own_pool`` is the one place that decides whether that pool is meant.
"""

from __future__ import annotations

import logging
import os

from vine_sharedport import environment
from vine_sharedport.condor import bindings, discovery
from vine_sharedport.condor.personal import PersonalPool
from vine_sharedport.condor.personal_pool.directory import is_running, running_pools
from vine_sharedport.errors import DiscoveryError, PoolError
from vine_sharedport.wire.sinful import Sinful

__all__ = ["discover", "use_own_pool"]

log = logging.getLogger(__name__)

# Settings by which a user names an HTCondor without a file.
_NAMING = {"_CONDOR_COLLECTOR_HOST", "_CONDOR_CONDOR_HOST", "_CONDOR_SCHEDD_HOST"}

# What this process uses since it was told to; its environment says so to its children.
_used: list[PersonalPool] = []


def use_own_pool(*, first: bool = False) -> bool:
    """Make the user's own running pool the HTCondor of this process, if it is meant.

    1. Where the environment names an HTCondor, that is used: ``CONDOR_CONFIG``, or one of
       ``_CONDOR_COLLECTOR_HOST``, ``_CONDOR_CONDOR_HOST``, ``_CONDOR_SCHEDD_HOST``.
    2. With ``VINE_SHAREDPORT_OWN_POOL=no``, which ``--no-own-pool`` sets, the system's.
    3. Commands use the own pool if one runs: it was started on purpose.
    4. Programs use it only where the system's HTCondor cannot be used, so that a pool which
       somebody has forgotten takes no work from that.

    An own pool is one that stands alone (``vine_sharedport pool start``), of this user, the
    one that was started last. It is used as by ``PersonalPool.activate``, which children
    inherit, and that is said in one line: a warning in a program.

    Args:
        first: The third rule, for commands; else the fourth.

    Returns:
        Whether this call has chosen it.
    """
    environment.warn_of_unknown()
    _leave_ended_pool()
    if _is_named() or os.environ.get(environment.OWN_POOL) == "no":
        return False
    places = running_pools()
    if not places:
        return False
    why = "" if first else _problem_of_system()
    if why is None:
        return False
    try:
        pool = PersonalPool.find(places[0])
    except PoolError:
        return False  # it has just ended
    pool.activate()
    _used[:] = [pool]
    others = f", the newest of {len(places)}" if len(places) > 1 else ""
    if first:
        # Not INFO, which some commands do not show: it must be seen.
        log.warning(
            "using your own HTCondor pool in %s%s (--no-own-pool uses the system's)",
            pool.directory,
            others,
        )
    else:
        log.warning(
            "using your own HTCondor pool in %s%s, as the system's cannot be used: %s",
            pool.directory,
            others,
            why,
        )
    return True


def discover(
    *,
    socket_dir: str | None = None,
    address: Sinful | str | None = None,
    check: bool = True,
) -> discovery.SharedPortLocation:
    """Find this host's shared port and its socket directory.

    What is given explicitly wins over what HTCondor says. With both given,
    ``htcondor2`` is not needed.

    HTCondor is the one that ``CONDOR_CONFIG`` names, else the system's. Where neither is
    there to be used, it is the user's own pool, if one was started by
    ``vine_sharedport pool start``; this process and its children use that from then on,
    and a warning says so. ``use_own_pool`` has the rule.

    A missing socket directory is created (mode 0700) if its parent belongs to the
    calling user, who is not root: then the pool is a personal one, and only this
    user's daemons look there. Elsewhere that is the administrator's decision.

    Args:
        socket_dir: Directory to use in place of ``DAEMON_SOCKET_DIR``.
        address: Address to use in place of the daemon's own; a ``sock`` in it is
            dropped.
        check: Connect to the address, and require that the directory can be used;
            takes up to 10 s if nothing answers where HTCondor runs. False only looks.

    Raises:
        DiscoveryError: The message names the cause and the remedy.
        MissingDependencyError: ``htcondor2`` is needed and not installed.
    """
    if address is None or socket_dir is None:
        use_own_pool()
    return discovery.find_here(socket_dir=socket_dir, address=address, check=check)


def _leave_ended_pool() -> None:
    """Forget a pool that was chosen here and has ended since, as in a notebook of days."""
    if _used and not is_running(_used[0].directory):
        pool = _used.pop()
        if os.environ.get("CONDOR_CONFIG") == pool.config_file:
            pool.deactivate()


def _is_named() -> bool:
    """Whether the environment names an HTCondor."""
    config = os.environ.get("CONDOR_CONFIG")
    if config == "/dev/null":
        # What importing htcondor2 sets where it finds nothing.
        return bindings.config_source() is not None
    return config is not None or any(name.upper() in _NAMING for name in os.environ)


def _problem_of_system() -> str | None:
    """Return why the system's HTCondor has no shared port for us, None if it has."""
    try:
        discovery.find_here()
    except DiscoveryError as error:
        return error.cause  # the remedy that follows is for who has no pool
    return None
