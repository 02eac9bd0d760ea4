"""What ``shared_port=`` of a manager takes."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

from vine_sharedport.errors import SettingError
from vine_sharedport.keepalive import parse_keepalive
from vine_sharedport.wire.reserved_ids import check_own_sock_id

__all__ = ["SharedPort"]

_MODES = ("auto", "direct", "relay")
_TCP = ("all", "loopback", "off")
_PEER_TRANSFERS = ("off", "site")


@dataclass(frozen=True)
class SharedPort:
    """How a manager is reached through the shared port.

    ``shared_port=True`` is ``SharedPort()``, which finds everything by itself.

    Attributes:
        name: The sock id, at most 41 letters, digits, ``.``, ``_`` or ``-``; a new one
            for each manager by default, and none of HTCondor's own, such as ``collector``
            or ``schedd_1``. It is no secret. With a name of its own, a
            manager that is started again is found by the workers of the one before.
        socket_dir: Directory of the endpoint's socket; HTCondor's
            ``DAEMON_SOCKET_DIR`` by default.
        address: The shared port's address, such as ``<192.0.2.7:9618>``; the running
            daemon's own by default.
        gate: Let in only workers that hold the manager's secret.
        mode: ``direct`` hands connections to the manager as they are; ``relay`` copies
            their bytes to its TCP port, for a manager that cannot be extended; ``auto``
            is direct where that is possible.
        tcp: Where the manager's own TCP port listens: ``all`` interfaces, as stock;
            ``loopback``; or ``off``.
        keepalive: How the kernel probes a worker's connection on which nothing comes, by
            default ``8/8/75``: after 8 s, then every 8 s, and it has ended after 75 without
            an answer. Behind a NAT box that forgets sooner than the next one comes, workers are
            lost.
            ``off`` leaves what HTCondor has set.
        peer_transfers: Whether TaskVine's workers fetch files from each other: ``off``, as
            behind NAT they do not reach each other, and every file comes from the manager;
            or ``site``, where all workers share one LAN. With TLS they are always off.
    """

    name: str | None = None
    socket_dir: str | None = None
    address: str | None = None
    gate: bool = True
    mode: str = "auto"
    tcp: str = "all"
    keepalive: str | None = None
    peer_transfers: str = "off"

    def __post_init__(self) -> None:
        for what in ("name", "socket_dir", "address", "keepalive"):
            value = getattr(self, what)
            if value is not None and not isinstance(value, str):
                raise SettingError(f"SharedPort({what}={value!r}): give a string or None")
        if not isinstance(self.gate, bool):
            raise SettingError(f"SharedPort(gate={self.gate!r}): give True or False")
        if self.name is not None:
            check_own_sock_id(self.name)
        if self.keepalive is not None:
            parse_keepalive(self.keepalive, "SharedPort(keepalive=...): ")
        for what, value, known in (
            ("mode", self.mode, _MODES),
            ("tcp", self.tcp, _TCP),
            ("peer_transfers", self.peer_transfers, _PEER_TRANSFERS),
        ):
            if value not in known:
                raise SettingError(
                    f"SharedPort({what}={value!r}): choose one of {', '.join(known)}"
                )

    def sock_id(self) -> str:
        """Return the name, or a new one."""
        return self.name or f"vine_{os.getpid()}_{secrets.token_hex(6)}"
