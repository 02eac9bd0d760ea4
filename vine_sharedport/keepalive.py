"""How the kernel probes a TCP connection that is silent, whichever program has it.

A NAT box or firewall forgets a connection on which nothing has come for a while, often after
30 or 60 s, and tells neither side. The probes keep it known, so it is their interval that
counts: after one that was lost the next must still come in time.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from typing import NamedTuple

from vine_sharedport import environment
from vine_sharedport.errors import SettingError

__all__ = ["DEFAULT", "OFF", "Keepalive", "chosen_keepalive", "parse_keepalive"]

OFF = "off"
"""What stands for none of our own: the kernel's two hours, or what HTCondor has set."""

# MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL and MAX_TCP_KEEPCNT in Linux's include/net/tcp.h.
_MOST = (32767, 32767, 127)


class Keepalive(NamedTuple):
    """When a silent connection is probed.

    Attributes:
        idle: Seconds of silence until the first probe.
        interval: Seconds to the next one, without an answer.
        probes: Those without an answer after which the connection has ended.
    """

    idle: int
    interval: int
    probes: int

    def __str__(self) -> str:
        """Return the text that ``parse_keepalive`` reads."""
        return "/".join(map(str, self))

    def apply(self, sock: socket.socket) -> None:
        """Set it on a TCP socket; one that has broken already says so at its first use."""
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, self.probes)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, self.interval)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, self.idle)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


DEFAULT = Keepalive(8, 8, 75)
"""For NAT boxes that forget after 10 s, and longer ones have a second chance where a probe is
lost; a cut of ten minutes is outlived. Ten thousand workers make 1250 probes a second of it."""


def parse_keepalive(text: str, what: str) -> Keepalive | None:
    """Read ``IDLE/INTERVAL/COUNT``; None for ``off``.

    Args:
        text: As a user wrote it.
        what: The setting's name, for the message.

    Raises:
        SettingError: It is something else.
    """
    if text == OFF:
        return None
    if re.fullmatch(r"[0-9]{1,5}/[0-9]{1,5}/[0-9]{1,5}", text, re.ASCII):
        found = Keepalive(*map(int, text.split("/")))
        if all(1 <= value <= most for value, most in zip(found, _MOST)):
            return found
    raise SettingError(
        f"{what}{text[:80]!r}: wanted IDLE/INTERVAL/COUNT, two lengths of 1 to {_MOST[0]} s "
        f"and a number of probes from 1 to {_MOST[2]}, such as {DEFAULT}; or {OFF}, for what "
        "the system has"
    )


def chosen_keepalive(text: str | None = None) -> Keepalive | None:
    """Return what holds: what is given, else what the environment says, else the default.

    Raises:
        SettingError: It cannot be read.
    """
    if text is not None:
        return parse_keepalive(text, "keepalive=")
    variable = environment.KEEPALIVE
    given = os.environ.get(variable)
    return parse_keepalive(given, f"{variable}=") if given else DEFAULT
