"""The link in one page: reach a manager through HTCondor's shared port, and be reached.

- ``connect(address)`` is the client's side: a socket to whoever serves under the
  address's sock id.
- ``Endpoint(sock_id, directory)`` is the server's side for programs with a loop of
  their own: it yields the clients that the shared port hands over.
- ``attach(library, listen_fd, ...)`` gives an endpoint to a server that cannot be
  changed, such as a TaskVine manager: its own ``accept()`` returns the clients.
"""

from __future__ import annotations

import atexit
import weakref
from dataclasses import dataclass

from vine_sharedport.hook import accept_hook
from vine_sharedport.link.counters import Gauge
from vine_sharedport.link.dial import connect
from vine_sharedport.link.endpoint import Endpoint, Limits
from vine_sharedport.link.porter import Settings
from vine_sharedport.link.porter_handle import PorterHandle
from vine_sharedport.wire.sinful import Sinful

__all__ = ["Counts", "Endpoint", "Limits", "Link", "attach", "connect"]


@dataclass(frozen=True)
class Counts:
    """What has come in so far.

    Attributes:
        accepted: Connections the manager took from the shared port.
        by_tcp: Connections the manager took from its TCP port.
        refused: Connections by the shared port that were not handed on, by reason.
        pending: Connections by the shared port now on their way to the manager.
    """

    accepted: int
    by_tcp: int
    refused: dict[str, int]
    pending: int


class Link:
    """One manager's way in through the shared port; made by ``attach()``.

    Owns the porter and the accept hook's attachment until ``close()``, which also
    happens when the manager closes its port or the interpreter ends.

    Attributes:
        sock_id: The endpoint's name.
        address: Where workers connect, ``sock`` included.
    """

    def __init__(
        self,
        address: Sinful,
        sock_id: str,
        porter: PorterHandle,
        hooked: accept_hook.Attachment,
    ) -> None:
        self.address = address
        self.sock_id = sock_id
        self._porter = porter
        self._hooked = hooked
        self._last = Counts(0, 0, {}, 0)
        _links.add(self)

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<Link {self.address} {state}>"

    @property
    def is_open(self) -> bool:
        """Whether workers can still come in."""
        return self._hooked.is_open

    @property
    def porter_pid(self) -> int | None:
        """Process id of the porter, None after ``close()``."""
        return self._porter.pid

    @property
    def counters(self) -> Counts:
        """The numbers now; after ``close()`` the last ones."""
        if self.is_open:
            shared = self._porter.counters
            # Those between porter and manager are in the socket pair.
            under_way = shared[Gauge.HANDED_OVER] - self._hooked.by_source
            pending = shared[Gauge.PENDING] + shared[Gauge.READY] + max(0, under_way)
            self._last = Counts(
                self._hooked.by_source, self._hooked.by_tcp, shared.refused(), pending
            )
        return self._last

    def brought(self, addrport: str) -> bool:
        """Whether a worker came in by the shared port.

        Args:
            addrport: The worker's address as the manager tells it, such as
                ``task.addrport``.
        """
        return addrport in self._hooked.from_source

    def check(self) -> None:
        """Call when a C call of the manager has returned: see to the porter, raise Ctrl-C.

        Raises:
            BaseException: What a signal's handler raised while the manager accepted.
        """
        accept_hook.raise_deferred()
        if self.is_open:
            self._porter.tend()

    def close(self) -> None:
        """Leave the manager with its TCP port alone, end the porter. Idempotent."""
        _ = self.counters
        self._hooked.detach()
        self._porter.close()
        _links.discard(self)


def attach(
    library: str,
    listen_fd: int,
    *,
    address: Sinful,
    sock_id: str,
    directory: str,
    log_file: str | None = None,
    limits: Limits | None = None,
) -> Link:
    """Make a running server accept clients of the shared port beside its TCP port.

    Args:
        library: File of the loaded library that holds the server's accept loop.
        listen_fd: The server's listening TCP descriptor; stays the server's.
        address: The shared port's own address.
        sock_id: Name to serve under, at most 41 characters.
        directory: HTCondor's ``DAEMON_SOCKET_DIR``.
        log_file: Absolute path for the porter's log.
        limits: How long and how many connections may wait.

    Raises:
        EndpointError: The name or the directory cannot be used.
        HookError: The library is not as expected; it is untouched.
        LaunchError: The porter did not start.
    """
    porter = PorterHandle(
        Settings(sock_id, directory, log_file=log_file, limits=limits or Limits())
    )
    try:
        hooked = accept_hook.attach(library, listen_fd, porter)
    except BaseException:
        porter.close()
        raise
    return Link(address.with_sock(sock_id), sock_id, porter, hooked)


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _close_all() -> None:
    for link in list(_links):
        link.close()


# After accept_hook's own, so it runs before it.
atexit.register(_close_all)
