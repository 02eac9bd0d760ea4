"""Sock ids that are HTCondor's own: who serves one gets what is meant for a daemon.

The master starts a daemon as ``SUBSYSTEM_PID_TAG``, and some by their bare names; others take
the name that the configuration gives them, such as ``collector01``. Source:
``SharedPortEndpoint::GenerateEndpointName`` in src/condor_io/shared_port_endpoint.cpp, and
``SharedPortServer`` in src/condor_io/shared_port_server.cpp for connections that name no id.
"""

from __future__ import annotations

import re

from vine_sharedport.errors import SettingError
from vine_sharedport.wire.handoff import check_sock_id

__all__ = ["check_own_sock_id"]

_DAEMONS = (
    "annexd", "c-gahp", "c_gahp", "c-gahp_worker_thread", "ckpt_server", "collector", "credd",
    "credmon", "dagman", "defrag", "ft-gahp", "gangliad", "gridmanager", "had", "job_router",
    "kbdd", "lease_manager", "master", "negotiator", "placementd", "replication", "rooster",
    "schedd", "shadow", "shared_port", "startd", "starter", "transferd", "transferer",
    "view_collector", "view_server", "vm-gahp",
)  # fmt: skip
_ALONE = ("http_api", "local", "self")

_RESERVED = re.compile(
    rf"(?:{'|'.join(map(re.escape, _DAEMONS))})(?:[0-9_].*)?|{'|'.join(_ALONE)}",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)


def check_own_sock_id(text: str) -> str:
    """Return the sock id, or say what keeps us from serving it.

    Raises:
        SettingError: ``check_sock_id`` refuses it, or it is HTCondor's.
    """
    check_sock_id(text)
    if _RESERVED.fullmatch(text):
        raise SettingError(
            f"sock id {text!r} is one of HTCondor's own daemons', whose connections would come "
            f"here; choose another, such as {('vine_' + text)[:41]!r}"
        )
    return text
