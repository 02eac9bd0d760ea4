"""Whether programs of this user can be reached through the shared port of this host.

Nothing is guessed: an endpoint of our own is opened for a moment, and called through the
shared port as a worker calls its manager. The schedd, to which workers are submitted, is
asked for jobs.
"""

from __future__ import annotations

import os
import secrets
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from vine_sharedport import records
from vine_sharedport.condor import bindings
from vine_sharedport.condor.discovery import SharedPortLocation
from vine_sharedport.condor.own_pool import discover
from vine_sharedport.condor.schedd import Schedd
from vine_sharedport.dialing.dial import connect
from vine_sharedport.dialing.race import verdict_of
from vine_sharedport.errors import DiscoveryError, EndpointError, SharedPortError, Verdict
from vine_sharedport.serving.endpoint import Endpoint
from vine_sharedport.wire.sinful import Sinful

__all__ = ["Checked", "check_shared_port", "check_socket_dir"]

# In seconds; where the directory is right it takes 0.05 of one.
_DIRECTORY_TIMEOUT = 5.0
_SECRET_SIZE = 32
_WORD = b"vine_sharedport\n"


@dataclass(frozen=True)
class Checked:
    """What came of the check.

    Attributes:
        location: The shared port; None if it was not found.
        problem: Why it is of no use, and what to do; None if it works.
        schedd_problem: Why this host's schedd does not serve this user, and what to do; None
            if it does, if there is none, or if the shared port is of no use.
    """

    location: SharedPortLocation | None
    problem: str | None
    schedd_problem: str | None = None

    @property
    def usable(self) -> bool:
        """Whether the shared port has handed a connection over, and a schedd takes jobs."""
        return self.problem is None and self.schedd_problem is None

    def __str__(self) -> str:
        """Return the result in one line."""
        if self.problem is not None or self.location is None:
            return f"not usable: {self.problem}"
        hands_over = (
            f"HTCondor's shared port {_short(self.location.address)} hands connections over to "
            "programs of this user"
        )
        if self.schedd_problem is not None:
            return (
                f"not usable: {hands_over}, but no jobs can be submitted: {self.schedd_problem}"
            )
        return f"usable: {hands_over}"

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        found = self.location
        values = {
            "status": "usable" if self.usable else "not-usable",
            "address": None if found is None else str(found.address),
            "socket_dir": None if found is None else found.socket_dir,
            "problem": self.problem,
            "schedd_problem": self.schedd_problem,
        }
        return records.as_dict(values)


def check_shared_port(*, timeout: float = 10.0) -> Checked:
    """Find this host's shared port, and let it hand a connection over to us.

    Args:
        timeout: Seconds for the connection, after the shared port has been found.
    """
    try:
        location = discover()
    except SharedPortError as error:
        return Checked(None, str(error))
    problem = _try(location, timeout)
    return Checked(location, problem, None if problem else _problem_of_schedd())


def _problem_of_schedd() -> str | None:
    """Ask this host's schedd, if there is one; return what goes wrong, and a remedy."""
    try:
        schedd = Schedd()
        if schedd.is_here():
            schedd.query("false", ["ClusterId"])
    except SharedPortError as error:
        return str(error)
    return None


def check_socket_dir(location: SharedPortLocation, *, given: str = "socket_dir") -> None:
    """Refuse a directory or an address chosen by hand, if the shared port does not look there.

    Workers would be refused, and nobody would know why. What else may be wrong now, such as
    a shared port that is busy, need not be so when they come. An address that does not answer
    from here tells nothing.

    Args:
        location: With what was chosen.
        given: What that was, ``socket_dir`` or ``address``.

    Raises:
        DiscoveryError: It does not.
    """
    if not location.answers:
        return
    try:
        failure, _ = _reach(location, _DIRECTORY_TIMEOUT)
    except EndpointError as error:
        raise DiscoveryError(str(error)) from error  # it has a remedy
    if failure is not None and verdict_of(failure) is Verdict.NOBODY_THERE:
        where = f"HTCondor's shared port {_short(location.address)}"
        if given == "address":
            raise DiscoveryError(
                f"{where}, which was given as address, does not look for sockets in "
                f"{location.socket_dir}: it is another HTCondor's, such as a CE's beside the "
                "pool's",
                step="leave address out, or give socket_dir with that one's DAEMON_SOCKET_DIR",
            )
        raise DiscoveryError(
            f"{where} does not look for sockets in "
            f"{location.socket_dir}, which was given as socket_dir; leave socket_dir out"
        )


def _try(location: SharedPortLocation, timeout: float) -> str | None:
    """Serve under a name of our own, and call it; return what does not work, and a remedy."""
    try:
        failure, refused = _reach(location, timeout)
    except EndpointError as error:
        return str(error)  # it has a remedy
    return None if failure is None else _explained(failure, refused, location)


def _reach(location: SharedPortLocation, timeout: float) -> tuple[Exception | None, str]:
    """Do so; return what went wrong, if anything did, and who was refused."""
    sock_id, secret = f"vine_check_{secrets.token_hex(6)}", os.urandom(_SECRET_SIZE)
    address = _from_here(location.address).with_sock(sock_id)
    deadline = time.monotonic() + timeout
    endpoint = Endpoint(sock_id, location.socket_dir, secret=secret)
    with endpoint, ThreadPoolExecutor(1) as caller:
        answer = caller.submit(_call, address, secret, deadline)
        _serve(endpoint, answer)
        failure = answer.exception()
        refused = ", ".join(reason.text for reason in endpoint.refused)
    if failure is not None and not isinstance(failure, (SharedPortError, OSError)):
        raise failure
    return failure, refused


def _from_here(address: Sinful) -> Sinful:
    """Return an address of the shared port that answers on its own host."""
    try:
        forwarded = bindings.parameter(bindings.load(), "TCP_FORWARDING_HOST") is not None
    except SharedPortError:  # all was given by hand, and HTCondor is not needed
        forwarded = False
    if not forwarded:
        return address
    # It is the forwarder's, which need not answer from inside; the same port is open here.
    loopback = f"127.0.0.1-{address.port}"
    known = address.get("addrs")
    return address.with_param("addrs", f"{known}+{loopback}" if known else loopback)


def _call(address: Sinful, secret: bytes, deadline: float) -> None:
    """Reach the endpoint through the shared port, and have a word sent back."""
    left = max(0.001, deadline - time.monotonic())
    name = "vine_sharedport doctor"
    with connect(address, secret=secret, timeout=left, client_name=name) as client:
        client.settimeout(max(0.001, deadline - time.monotonic()))
        client.sendall(_WORD)
        if client.recv(len(_WORD)) != _WORD:
            raise OSError("the connection was cut after it had been handed over")


def _serve(endpoint: Endpoint, answer: Future[None]) -> None:
    """Send back what clients say, until the call has ended; it has a time limit."""
    while not answer.done():
        for client in endpoint.poll(0.1):
            with client:
                client.send(client.recv(len(_WORD)))


def _explained(failure: Exception, refused: str, location: SharedPortLocation) -> str:
    """Say why nothing was handed over, and what to do about it."""
    where = f"HTCondor's shared port {_short(location.address)}"
    log = bindings.parameter(bindings.load(), "SHARED_PORT_LOG") or "SharedPortLog"
    if refused:
        return f"{where} handed a connection over, but it was refused: {refused}; see {log}"
    if verdict_of(failure) is Verdict.NOBODY_THERE:
        return (
            f"{where} does not reach sockets in {location.socket_dir}; ask the administrator "
            f"whether HTCondor was started as root, and whether its DAEMON_SOCKET_DIR is this "
            f"directory; its log is {log}"
        )
    return f"{where} handed no connection over: {failure}; its log is {log}"


def _short(address: Sinful) -> str:
    return str(Sinful(address.host, address.port))
