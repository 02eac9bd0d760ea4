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
import contextlib
import logging
import os
import time
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from vine_sharedport.dialing.dial import connect
from vine_sharedport.errors import SinfulError
from vine_sharedport.hook import accept_hook
from vine_sharedport.keepalive import OFF, chosen_keepalive
from vine_sharedport.registry.command_lines import manager_worker_command
from vine_sharedport.registry.reference import Reference
from vine_sharedport.secret_file import read_secret_file
from vine_sharedport.serving.abstract_name import find_owners
from vine_sharedport.serving.counters import Gauge
from vine_sharedport.serving.endpoint import Endpoint, Limits
from vine_sharedport.serving.porter import Settings
from vine_sharedport.serving.porter_handle import PorterHandle
from vine_sharedport.wire.shared_port_ad import parse_my_address
from vine_sharedport.wire.sinful import Sinful

__all__ = ["Counts", "Endpoint", "Limits", "Link", "attach", "connect", "relay_to"]


log = logging.getLogger(__name__)

# In seconds: between two looks whether HTCondor is there, and what a restart of it may take.
_LOOK_INTERVAL = 2.0
_RESTART_TIME = 10.0

# For who asks for another attribute of a link: Python itself guesses the misspelt ones alone.
_TOLD = "address, counters, log_file, mode, reference, secret_file, sock_id"
_MEANT = {
    **{"secret": "secret_file", "name": "sock_id"},
    **{"port": "address.port", "host": "address.host"},
}


@dataclass(frozen=True)
class Counts:
    """What has come in so far.

    Attributes:
        accepted: Connections the manager took from the shared port: of workers, and of the
            factory and others that ask for its status.
        by_tcp: Connections the manager took from its TCP port.
        refused: Connections by the shared port that were not handed on, by the value of a
            ``Refusal``.
        pending: Connections by the shared port now on their way to the manager.
        workers: Connections that the shared port brought and that began as a worker does,
            each time that one connects. With TLS or a password nobody can tell: 0.
        queries: Such as asked for the manager's status; likewise.
        name_taken: How often another program on this host had the sock id's abstract name, and
            may have got connections of workers.
    """

    accepted: int
    by_tcp: int
    refused: dict[str, int]
    pending: int
    workers: int = 0
    queries: int = 0
    name_taken: int = 0


class Link:
    """One manager's way in through the shared port; made by ``attach()`` or ``relay_to()``.

    Owns the porter and the accept hook's attachment until ``close()``, which also
    happens when the manager closes its port or the interpreter ends.

    Attributes:
        sock_id: The endpoint's name.
        secret_file: File that workers must hold a copy of; None without a gate.
        log_file: The porter's log; None without one.
        mode: ``direct`` or ``relay``.
    """

    def __init__(
        self,
        address: Sinful,
        porter: PorterHandle,
        hooked: accept_hook.Attachment | None,
        *,
        ad_file: str | None,
        secret_file: str | None,
    ) -> None:
        self.sock_id = porter.sock_id
        self.secret_file = secret_file
        self.log_file = porter.log_file
        self.mode = "direct" if hooked is not None else "relay"
        self._porter = porter
        self._hooked = hooked
        self._is_open = True
        self._pid = os.getpid()
        self._last = Counts(0, 0, {}, 0)
        self._reference = Reference(
            address.with_sock(self.sock_id),
            secret_file and os.path.abspath(secret_file),
            directory=self.log_file and os.path.dirname(self.log_file),
        )
        self._ad_file = ad_file
        self._ad_time = 0
        self._told: Sinful | None = None  # the address that the program may have handed on
        self._looked = self._seen = time.monotonic()
        self._name_is_taken = False
        _links.add(self)

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<Link {self._reference} {self.mode} {state}>"

    if not TYPE_CHECKING:  # for which any name would be right

        def __getattr__(self, name: str) -> NoReturn:
            hint = f"did you mean {_MEANT[name]}?" if name in _MEANT else f"it has {_TOLD}"
            raise AttributeError(f"a manager's shared_port has no {name!r}; {hint}")

    @property
    def address(self) -> Sinful:
        """Where workers connect now, ``sock`` included; follows a restarted shared port."""
        if self._ad_file is not None:
            # The file is absent for a moment in restarts; the address stays meanwhile.
            with contextlib.suppress(OSError, SinfulError):
                changed = os.stat(self._ad_file).st_mtime_ns
                if changed != self._ad_time:
                    with open(self._ad_file, encoding="utf-8", errors="replace") as file:
                        found = parse_my_address(file.read()).with_sock(self.sock_id)
                    self._reference = replace(self._reference, address=found)
                    self._ad_time = changed
        return self._reference.address

    @property
    def reference(self) -> Reference:
        """What stands for the manager where its object is not, in other processes too."""
        _ = self.address
        return self._reference

    def describe(self, **known: Any) -> None:
        """Set what else is known of the manager, by the names of ``Reference``."""
        self._reference = replace(self._reference, **known)

    @property
    def worker_command(self) -> str:
        """The line that starts a worker by hand, to be pasted into a shell."""
        return manager_worker_command(self.reference)

    @property
    def is_open(self) -> bool:
        """Whether workers can still come in."""
        return self._is_open and (self._hooked is None or self._hooked.is_open)

    @property
    def is_copy(self) -> bool:
        """Whether this is a forked child, in which workers and porter are the parent's."""
        return os.getpid() != self._pid

    @property
    def porter_pid(self) -> int | None:
        """Process id of the porter, None after ``close()``."""
        return self._porter.pid

    @property
    def counters(self) -> Counts:
        """The numbers now; after ``close()`` the last ones.

        With ``mode="relay"`` the manager's own port is not counted.
        """
        if self.is_open:
            shared = self._porter.counters
            accepted, by_tcp, under_way = shared[Gauge.HANDED_OVER], 0, 0
            if self._hooked is not None:
                # Those between porter and manager are in the socket pair.
                under_way = max(0, accepted - self._hooked.by_source)
                accepted, by_tcp = self._hooked.by_source, self._hooked.by_tcp
            pending = shared[Gauge.PENDING] + shared[Gauge.READY] + under_way
            self._last = Counts(
                *(accepted, by_tcp, shared.refused(), pending),
                *(
                    shared[Gauge.WORKERS],
                    shared[Gauge.QUERIES],
                    shared[Gauge.NAME_TAKEN_SO_FAR],
                ),
            )
        return self._last

    def accepted(self, addrport: str) -> bool:
        """Whether a worker came in by the shared port.

        With ``mode="relay"`` every worker has the relay's address, and is none of ours
        by this measure.

        Args:
            addrport: The worker's address as the manager tells it, such as
                ``task.addrport``.
        """
        return self._hooked is not None and addrport in self._hooked.from_source

    def check(self) -> None:
        """Call when a C call of the manager has returned: see to the porter, raise Ctrl-C.

        Raises:
            BaseException: What a signal's handler raised while the manager accepted.
        """
        accept_hook.raise_deferred()
        if self.is_open:
            self._porter.tend()
            if time.monotonic() > self._looked + _LOOK_INTERVAL:
                self._look_at_name()
                self._look_at_shared_port()

    def _look_at_name(self) -> None:
        """Tell the program's user when somebody else has the sock id's other name."""
        is_taken = bool(self._porter.counters[Gauge.NAME_TAKEN])
        if is_taken and not self._name_is_taken:
            log.warning(
                "another program on this host has taken the abstract socket name of %s, and "
                "may get the connections of its workers: tell the administrator, and start the "
                "program again with another sock id",
                self.sock_id,
            )
        elif self._name_is_taken and not is_taken:
            log.warning("the abstract socket name of %s is held again", self.sock_id)
        self._name_is_taken = is_taken

    def _look_at_shared_port(self) -> None:
        """Tell the program's user when HTCondor ends, or comes back elsewhere."""
        now = self._looked = time.monotonic()
        if self._ad_file is None:
            return
        if not os.path.exists(self._ad_file):
            # Absent for a moment in restarts.
            if self._seen and now > self._seen + _RESTART_TIME:
                self._seen = 0.0
                log.warning(
                    "HTCondor's shared port has ended (%s is gone): no worker of %s comes in "
                    "until HTCondor, or your pool, is started again",
                    self._ad_file,
                    self.sock_id,
                )
            return
        was_gone, self._seen = not self._seen, now
        told, self._told = self._told, self.address
        if told is not None and told != self._told:
            log.warning(
                "HTCondor's shared port has another address: the manager is at %s now; workers "
                "that were started with the old one do not find it, start new ones",
                self._told,
            )
        elif was_gone:
            log.warning("HTCondor's shared port is there again, at the same address")

    def close(self) -> None:
        """Leave the manager with its TCP port alone, end the porter. Idempotent."""
        _ = self.counters
        self._is_open = False
        if self._hooked is not None:
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
    tcp: str = "all",
    secret_file: str | None = None,
    ad_file: str | None = None,
    log_file: str | None = None,
    limits: Limits | None = None,
    keepalive: str | None = None,
) -> Link:
    """Make a running server accept clients of the shared port beside its TCP port.

    Args:
        library: File of the loaded library that holds the server's accept loop.
        listen_fd: The server's listening TCP descriptor; stays the server's.
        address: The shared port's own address.
        sock_id: Name to serve under, at most 41 characters.
        directory: HTCondor's ``DAEMON_SOCKET_DIR``.
        tcp: Where the TCP port listens from now on: ``all``, ``loopback`` or ``off``.
        secret_file: Clients must hold the secret in this file; None lets everybody in.
        ad_file: The shared port's ad file, by which changes of ``address`` are followed.
        log_file: Absolute path for the porter's log.
        limits: How long and how many connections may wait.
        keepalive: How a client that is silent is probed, as ``Endpoint`` takes it.

    Raises:
        EndpointError: The name is taken, or the directory cannot be used.
        SettingError: The name, the secret file or ``keepalive`` cannot be used.
        HookError: The library is not as expected; it is untouched.
        LaunchError: The porter did not start.
    """
    porter = _start_porter(
        *(sock_id, directory, secret_file, log_file, limits, keepalive, ad_file)
    )
    try:
        hooked = accept_hook.attach(library, listen_fd, porter, tcp=tcp)
    except BaseException:
        porter.close()
        raise
    return Link(address, porter, hooked, ad_file=ad_file, secret_file=secret_file)


def relay_to(
    port: int,
    *,
    address: Sinful,
    sock_id: str,
    directory: str,
    secret_file: str | None = None,
    ad_file: str | None = None,
    log_file: str | None = None,
    limits: Limits | None = None,
    keepalive: str | None = None,
) -> Link:
    """Relay clients of the shared port to a TCP port of this machine.

    For servers that ``attach()`` cannot extend. Every byte is copied, and the server
    sees 127.0.0.1 as every client's address. The caller must call ``check()`` now and
    then, which restarts the porter if it has died.

    Args:
        port: The server's TCP port on the loopback interface. The others are those of
            ``attach()``.
    """
    porter = _start_porter(
        *(sock_id, directory, secret_file, log_file, limits, keepalive, ad_file),
        relay_port=port,
    )
    return Link(address, porter, None, ad_file=ad_file, secret_file=secret_file)


def _start_porter(
    sock_id: str,
    directory: str,
    secret_file: str | None,
    log_file: str | None,
    limits: Limits | None,
    keepalive: str | None,
    ad_file: str | None,
    relay_port: int | None = None,
) -> PorterHandle:
    secret = None if secret_file is None else read_secret_file(secret_file, private=True).hex()
    settings = Settings(
        sock_id,
        directory,
        log_file=log_file,
        limits=limits or Limits(),
        secret=secret,
        relay_port=relay_port,
        # As this process has it: the porter that replaces one is to have the same.
        keepalive=str(chosen_keepalive(keepalive) or OFF),
        owners=find_owners(ad_file),
    )
    return PorterHandle(settings)


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _close_all() -> None:
    for link in list(_links):
        link.close()


# After accept_hook's own, so it runs before it.
atexit.register(_close_all)
