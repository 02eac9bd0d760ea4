"""What ``shared_port=`` of a manager takes."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

from vine_sharedport.wire.handoff import check_sock_id

__all__ = ["SharedPort"]


@dataclass(frozen=True)
class SharedPort:
    """How a manager is reached through the shared port.

    ``shared_port=True`` is ``SharedPort()``, which finds everything by itself.

    Attributes:
        name: The sock id, at most 41 letters, digits, ``.``, ``_`` or ``-``; a new one
            for each manager by default. It is no secret.
        socket_dir: Directory of the endpoint's socket; HTCondor's
            ``DAEMON_SOCKET_DIR`` by default.
        address: The shared port's address, such as ``<192.0.2.7:9618>``; the running
            daemon's own by default.
    """

    name: str | None = None
    socket_dir: str | None = None
    address: str | None = None

    def sock_id(self) -> str:
        """Return the name, or a new one.

        Raises:
            EndpointError: The name is no sock id.
        """
        if self.name is None:
            return f"vine_{os.getpid()}_{secrets.token_hex(6)}"
        return check_sock_id(self.name)
