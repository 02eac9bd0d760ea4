"""Whether the catalog server, to which a manager with a name reports, can be looked up in time.

The manager looks it up within its own loop, again and again, and without a name service that
answers each look takes as long as the system lets it: 40 s, in which no task moves.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import threading
import time

__all__ = ["CatalogCheck"]

log = logging.getLogger(__name__)

# catalog_query.h of cctools: the variable, and what holds without it.
_VARIABLE = "CATALOG_HOST"
_DEFAULT = "catalog.cse.nd.edu,backup-catalog.cse.nd.edu"

# Seconds: a name service that answers does so in less.
_PATIENCE = 2.0


class CatalogCheck:
    """Looks the catalog's hosts up beside whatever else is done, once for each setting.

    Args:
        begin: Begin now; else nothing is done.
    """

    def __init__(self, *, begin: bool) -> None:
        self._hosts = os.environ.get(_VARIABLE, _DEFAULT)
        self._began = time.monotonic()
        self._answered = _ask(self._hosts) if begin else None

    def warn(self) -> None:
        """Warn if there is no answer after some time; wait for that at most."""
        if self._answered is None:
            return
        if not self._answered.wait(max(0.0, self._began + _PATIENCE - time.monotonic())):
            _warn(self._hosts)


@functools.cache
def _ask(hosts: str) -> threading.Event:
    """Return what is set when the name service has answered for each host, whatever it said."""
    answered = threading.Event()

    def look_up() -> None:
        for host in hosts.split(","):
            with contextlib.suppress(OSError, UnicodeError):  # an answer as well
                socket.getaddrinfo(host.partition(":")[0].strip() or "localhost", None)
        answered.set()

    try:
        threading.Thread(target=look_up, name="look-up-catalog", daemon=True).start()
    except RuntimeError:  # the limit of processes: nothing is known
        answered.set()
    return answered


@functools.cache
def _warn(hosts: str) -> None:
    log.warning(
        "the name service does not answer for the catalog server (%s), to which a manager "
        "with a name reports: each look for it holds the manager for up to 40 s, in which no "
        "task moves. Set %s=localhost in the program's environment, or give no name; a "
        "manager's name is found by our commands without the catalog",
        hosts,
        _VARIABLE,
    )
