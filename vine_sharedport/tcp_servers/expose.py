"""A sock id for a TCP server of this host: managers in C, Makeflow, or anything else."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vine_sharedport.condor.own_pool import discover
from vine_sharedport.condor.shared_port_check import check_socket_dir
from vine_sharedport.errors import SettingError
from vine_sharedport.htcondor_shared_link import Link, relay_to
from vine_sharedport.manager.settings import SharedPort
from vine_sharedport.registry.run_file import LOG_FILE, write_run_file
from vine_sharedport.secret_file import make_secret_file, read_secret_file
from vine_sharedport.trusted_files import absolute, reason_of

__all__ = ["expose"]


@contextmanager
def expose(
    port: int, settings: SharedPort, *, secret_file: str | None = None
) -> Iterator[Link]:
    """Relay clients of the shared port to a TCP port of this host, for the block's length.

    Args:
        port: The server's port on the loopback interface.
        settings: Name, socket directory, address, gate and keepalive.
        secret_file: Where the secret is written, or read if it is there already; by
            default ``NAME.secret`` in the present directory. Removed at the end only if it
            is the default one and was made here.

    Raises:
        SettingError: Nothing listens on the port.
        DiscoveryError: HTCondor's shared port cannot be used.
    """
    if settings.gate and secret_file:
        _check_secret_file(absolute(secret_file))
    location = discover(socket_dir=settings.socket_dir, address=settings.address)
    if settings.socket_dir is not None:
        check_socket_dir(location)
    elif settings.address is not None:
        check_socket_dir(location, given="address")
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError as error:
        raise SettingError(
            f"nothing listens on TCP port {port} of this host ({reason_of(error)}); start "
            "the server first"
        ) from error
    sock_id = settings.sock_id()
    default = absolute(f"{sock_id}.secret")
    path = absolute(secret_file) if secret_file else default
    ours = settings.gate and path == default and not os.path.lexists(path)
    with ExitStack() as stack:
        if ours:
            stack.callback(Path(path).unlink, missing_ok=True)
        if settings.gate:
            make_secret_file(path, keep=True)
        # By its log and the run file beside that, other commands of ours find it.
        logs = stack.enter_context(TemporaryDirectory(prefix="vine-expose-"))
        link = relay_to(
            port,
            address=location.address,
            sock_id=sock_id,
            directory=location.socket_dir,
            ad_file=location.ad_file,
            log_file=os.path.join(logs, LOG_FILE),
            secret_file=path if settings.gate else None,
            keepalive=settings.keepalive,
        )
        stack.callback(link.close)
        link.describe(system=None)
        write_run_file(link.reference)
        yield link


def _check_secret_file(path: str) -> None:
    """Refuse a file that is no secret, or cannot be made, before HTCondor is asked."""
    if os.path.lexists(path):
        read_secret_file(path, private=True)
        return
    above = os.path.dirname(path)
    if not os.path.isdir(above):
        raise SettingError(
            f"cannot write the secret file {path}: there is no directory {above}; "
            f"mkdir -p {shlex.quote(above)}"
        )
