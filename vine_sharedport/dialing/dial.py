"""The client's way in: from an address to a connected socket."""

from __future__ import annotations

import os
import socket
import time
from typing import Callable

from vine_sharedport.dialing.candidates import candidates, plan
from vine_sharedport.dialing.race import Attempt, DialEvent, Race, reason_of, verdict_of
from vine_sharedport.errors import (
    DialError,
    DialTimeout,
    GateError,
    SinfulError,
    Verdict,
    WrongSecretError,
)
from vine_sharedport.keepalive import chosen_keepalive
from vine_sharedport.wire.gate import MAGIC, NONCE_SIZE, GateClient, GateState
from vine_sharedport.wire.handoff import check_sock_id, encode_connect
from vine_sharedport.wire.sinful import Sinful

__all__ = ["candidates", "connect", "failure_of"]

# Seconds for the other candidates when a shared port has said that nobody is there: most
# likely they lead to the same one, and to wait for a mute one helps nobody.
_LAST_CHANCE = 3.0


def connect(
    address: Sinful | str,
    *,
    secret: bytes | None = None,
    timeout: float = 30.0,
    client_name: str | None = None,
    private_network: str | None = None,
    check: bool = False,
    on_event: Callable[[DialEvent], None] | None = None,
    keepalive: str | None = None,
) -> socket.socket:
    """Connect to whoever serves under the address's sock id.

    Opens TCP to the shared port: the address's candidates start 250 ms apart, or as soon
    as one has failed, and the first that answers gets the CONNECT message, alone. If it
    turns out to be of no use, closed at once say, the others go on. There is no reply:
    that nobody serves under the sock id shows only in the connection's being closed.

    Args:
        address: For example ``<192.0.2.7:9618?sock=vine_42>``. Without ``sock`` the
            connection is plain TCP.
        secret: What a manager with a gate asks for, 32 bytes; None for one without.
        timeout: Seconds for all candidates together, the gate included.
        client_name: How we call ourselves in the daemon's log; the process by default.
        private_network: Name of the network this machine is in. An address with a
            private part for that network is tried by that first.
        check: Without a secret, wait for two round trips and 50 ms, at most 1 s, to
            see whether the shared port closes the connection. With a secret the gate
            tells, at no cost.
        on_event: Called with each step on the way.
        keepalive: How the kernel probes the connection when it is silent:
            ``IDLE/INTERVAL/COUNT``, or ``off``; None for what the environment says, else
            ``8/8/75``.

    Returns:
        The connected socket, blocking and close-on-exec, the caller's.

    Raises:
        SinfulError: The text is no address.
        SettingError: Its sock id is none, or ``keepalive`` cannot be read.
        DialError: No candidate leads to a manager; the message and ``attempts`` tell of each.
        DialTimeout: The time was over first.
        WrongSecretError: The manager has another secret, or whoever answered cannot prove
            to hold ours; or, with ``check`` and without a secret, it asks for one.

    Source: CEDAR 3.3; ``SharedPortClient`` in HTCondor; RFC 8305.
    """
    sinful = Sinful.parse(address) if isinstance(address, str) else address
    name = client_name or f"vine_sharedport {os.getpid()}"
    name = "".join(c if " " <= c <= "~" else "?" for c in name[:200])  # for the daemon's log
    deadline = time.monotonic() + timeout
    if sinful.sock is not None:
        check_sock_id(sinful.sock)
    probes = chosen_keepalive(keepalive)
    places = plan(sinful, private_network=private_network)
    if not places:
        raise SinfulError(f"the address {sinful} names no port to connect to")
    try:
        racing = Race(places, deadline=deadline, on_event=on_event, keepalive=probes)
    except OSError as error:  # out of descriptors
        raise DialError(
            f"cannot reach {sinful}: {reason_of(error)}", verdict_of(error)
        ) from error
    with racing as race:
        while (won := race.winner()) is not None:
            sock = won.sock
            assert sock is not None
            # One that takes every connection and says nothing, such as a firewall's
            # proxy, must leave time for the others.
            now = time.monotonic()
            share = now + (deadline - now) / (1 + race.left)
            try:
                if sinful.sock is not None:
                    _introduce(won, race, sinful.sock, name, secret, check, share)
                sock.settimeout(None)
            except WrongSecretError as error:
                sock.close()
                race.fail(won, error.verdict, str(error))
                raise  # it is the manager that we look for: no other way leads elsewhere
            except (DialError, GateError, OSError) as error:
                sock.close()
                reason = reason_of(error) if isinstance(error, OSError) else str(error)
                race.fail(won, verdict_of(error), reason)
                if verdict_of(error) is Verdict.NOBODY_THERE:
                    race.hurry(_LAST_CHANCE)
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        attempts = race.failures
    what = f"cannot reach {sinful}: " + "; ".join(map(str, attempts))
    kind = DialTimeout if time.monotonic() >= deadline else DialError
    raise kind(what, attempts=attempts)


def _introduce(
    won: Attempt,
    race: Race,
    sock_id: str,
    name: str,
    secret: bytes | None,
    check: bool,
    deadline: float,
) -> None:
    """Say whom we want, and make as sure as can be that we have got there."""
    sock = won.sock
    assert sock is not None
    _bound(sock, deadline)
    whole_seconds = max(1, round(deadline - time.monotonic()))
    # One write: daemons before 24.12.16 may drop a connection whose first bytes arrive
    # in pieces (HTCONDOR-3420).
    sock.sendall(encode_connect(sock_id, name, timeout=whole_seconds))
    sent = time.monotonic()
    race.report("sent", won, sent)
    if secret is not None:
        _pass_gate(sock, secret, sock_id, deadline)
        race.report("gate passed", won, sent)
    elif check:
        _bound(sock, min(sent + 2 * won.round_trip + 0.05, sent + 1.0, deadline))
        race.report("answered" if _is_answered(sock) else "not closed", won, sent)


def _pass_gate(sock: socket.socket, secret: bytes, sock_id: str, deadline: float) -> None:
    """Prove that we hold the secret, and let the server prove that it does."""
    gate = GateClient(secret, sock_id, os.urandom(NONCE_SIZE))
    while gate.state is GateState.WAITING:
        _bound(sock, deadline)
        orderly = True
        try:
            data = sock.recv(gate.wanted)
        except socket.timeout:
            raise DialError(
                "connected, but the gate has said nothing in time: a manager without a gate, "
                "or something that only takes connections",
                Verdict.GATE_SILENT,
            ) from None
        except ConnectionResetError:
            data, orderly = b"", False  # how the daemon closes, and a porter that dies
        if data:
            try:
                answer = gate.feed(data)
            except GateError as error:
                if not gate.greeted:
                    raise  # some other service, or version
                raise WrongSecretError(
                    f"{error}: whoever serves {sock_id} is another manager, or has a secret "
                    "of its own",
                    error.verdict,
                    step="submit new workers, or send them the present file",
                ) from error
            if answer:
                sock.sendall(answer)
        elif gate.greeted and orderly:
            raise WrongSecretError(
                f"the manager {sock_id} closed the connection at its gate: it has another "
                "secret than this worker",
                step="submit new workers, or send them the present file",
            )
        elif gate.greeted:
            raise DialError("the manager broke off at its gate", Verdict.CLOSED_AT_GATE)
        else:
            raise failure_of(b"")


def _is_answered(sock: socket.socket) -> bool:
    """Give the shared port time to close a connection that it has nobody for.

    Returns whether bytes have come meanwhile, which stay there to be read. Workers speak
    first, so silence is the good sign; a server of another kind may say something.
    """
    try:
        first = sock.recv(len(MAGIC), socket.MSG_PEEK)
    except socket.timeout:
        return False
    except ConnectionResetError:
        first = b""
    if first in (b"", MAGIC):
        raise failure_of(first)
    return True


def failure_of(first: bytes) -> DialError | WrongSecretError:
    """Return what the first bytes mean to a client without a secret: none, or a gate's."""
    if first == MAGIC:
        return WrongSecretError(
            "the manager asks for its secret, and this worker has none",
            Verdict.SECRET_NEEDED,
            step="give --secret-file "
            "with a copy of the file that manager.shared_port.secret_file names",
        )
    return DialError(
        "the shared port closed the connection without a byte: no manager serves this sock id "
        "(any more), or it is too busy",
        Verdict.NOBODY_THERE,
    )


def _bound(sock: socket.socket, deadline: float) -> None:
    sock.settimeout(max(0.001, deadline - time.monotonic()))
