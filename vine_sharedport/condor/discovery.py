"""Where HTCondor's shared port listens, and where it looks for endpoints.

The daemon's ad file says the address. Nothing else is as good:
``SHARED_PORT_PORT`` says 9618 when another port is bound, and the schedd's ad has
it only while a schedd runs. The file is absent for a moment in restarts and stays
behind a killed daemon. So the address must accept a TCP connection, and as long as
there is somebody who would start the daemon again, the file is read for a while.
"""

from __future__ import annotations

import logging
import os
import shlex
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vine_sharedport.condor import bindings
from vine_sharedport.condor.personal_pool.directory import way_to_own_pool
from vine_sharedport.condor.reachability import connect_problem
from vine_sharedport.errors import DiscoveryError, SinfulError
from vine_sharedport.wire.shared_port_ad import parse_my_address
from vine_sharedport.wire.sinful import Sinful

__all__ = ["MAX_SOCKET_DIR", "SharedPortLocation", "find_here", "tmpfiles_line"]

log = logging.getLogger(__name__)

# In characters: GetAltDaemonSocketDir() in shared_port_endpoint.cpp wants room for
# 18 more in sun_path (108 with its NUL), and else gives file sockets up, silently.
MAX_SOCKET_DIR = 89

# In seconds. A restarting condor_shared_port is back in one or two.
_APPEAR_TIMEOUT = 5.0
_POLL_INTERVAL = 0.1
# Where the whole of HTCondor is restarted, nobody is there for about so long.
_JUST_GONE = 10.0
# So long nobody wonders.
_SILENT = 0.5


@dataclass(frozen=True)
class SharedPortLocation:
    """What an endpoint must know about the shared port of this host.

    Attributes:
        address: The shared port's own address: no ``sock``, neither in it nor in
            its ``PrivAddr``. ``address.with_sock(id)`` is an endpoint's address.
        socket_dir: Absolute path of the directory in which endpoints live.
        source: Where the address was found, in words for a log or a report.
        ad_file: The file that follows changes of the address (see
            ``link.ad_file.parse_my_address``); None when the address was given
            explicitly and so does not change.
        answers: False if it was looked whether the address answers, and it did not.
    """

    address: Sinful
    socket_dir: str
    source: str
    ad_file: str | None = None
    answers: bool = True


def find_here(
    *,
    socket_dir: str | None = None,
    address: Sinful | str | None = None,
    check: bool = True,
) -> SharedPortLocation:
    """Find the shared port of the HTCondor that the environment leads to; as ``discover``."""
    htcondor2 = None if address is not None and socket_dir is not None else bindings.load()
    answers = True
    if address is not None:
        location, source, ad_file = _given_address(address), "the given address", None
        if check and (problem := connect_problem(location)):
            answers = False
            # It may be one that workers alone can reach: a forwarded port, another network.
            log.warning(
                "nothing answers from this host at the given address %s (%s); workers are sent "
                "there nevertheless. If they cannot reach it either, correct it, or leave it "
                "out to use what HTCondor says",
                location,
                problem,
            )
    else:
        _check_enabled(htcondor2)
        location, source, ad_file = _find_address(htcondor2, check)
    if socket_dir is None:
        directory = _configured_socket_dir(htcondor2)
    else:
        directory = os.path.abspath(os.path.expanduser(socket_dir))
        if check and not os.path.isdir(directory):
            _refuse_given(directory, htcondor2)
    if check:
        _check_socket_dir(directory)
    return SharedPortLocation(location, directory, source, ad_file, answers)


def _refuse_given(directory: str, htcondor2: Any) -> None:
    """Refuse a directory that was given and is none; HTCondor's own may be made."""
    own = None if htcondor2 is None else _configured_socket_dir(htcondor2)
    if own != directory:
        where = "" if own is None else f", HTCondor's is {own}"
        found = "is not a directory" if os.path.lexists(directory) else "does not exist"
        raise DiscoveryError(
            f"the socket directory {directory}, which was given as socket_dir, {found}{where}",
            step="leave socket_dir out",
        )


def _given_address(address: Sinful | str) -> Sinful:
    """Return an explicitly given address as the shared port's own."""
    try:
        parsed = Sinful.parse(address) if isinstance(address, str) else address
    except SinfulError as error:
        raise DiscoveryError(f"the given address is not one: {error}") from error
    if not parsed.port:
        raise DiscoveryError(
            f"the given address {parsed} has no port",
            step=f"write <host:port>, for example <{parsed.host}:9618>",
        )
    return _without_sock(parsed)


def _without_sock(address: Sinful) -> Sinful:
    """Turn the address of a daemon behind the shared port into the shared port's."""
    private = address.private_address
    if private is not None:
        address = address.with_param("PrivAddr", private.without("sock").format())
    return address.without("sock")


def _check_enabled(htcondor2: Any) -> None:
    """Refuse a configuration that has switched the shared port off."""
    value = bindings.parameter(htcondor2, "USE_SHARED_PORT")
    # 'false' and 'f' in any case, 'no', 0: as string_is_boolean_param() reads them.
    if value is not None and value.lower() in ("false", "f", "no", "n", "0"):
        raise DiscoveryError(
            f"HTCondor's configuration {bindings.config_source()} says USE_SHARED_PORT = "
            f"{value}, so there is no shared port",
            step=f"ask the administrator to remove that "
            f"setting and restart HTCondor, or {way_to_own_pool()}",
        )


def _find_address(htcondor2: Any, check: bool) -> tuple[Sinful, str, str | None]:
    """Return the running shared port's address, its source and its ad file."""
    ad_file = bindings.parameter(htcondor2, "SHARED_PORT_DAEMON_AD_FILE")
    forwarded = bindings.parameter(htcondor2, "TCP_FORWARDING_HOST") is not None
    problem = "SHARED_PORT_DAEMON_AD_FILE is not set"
    start = time.monotonic()
    said = False
    while ad_file is not None:
        try:
            address = parse_my_address(Path(ad_file).read_text(errors="replace"))
        except FileNotFoundError:
            problem = f"its ad file {ad_file} does not exist"
            if not os.path.isdir(os.path.dirname(ad_file)):
                break  # Not the short absence of a restart.
        except OSError as error:
            problem = f"its ad file {ad_file} cannot be read: {error.strerror}"
            break
        except SinfulError as error:
            problem = f"its ad file {ad_file}: {error}"
        else:
            refusal = connect_problem(address, forwarded=forwarded) if check else None
            if refusal is None:
                return _without_sock(address), f"ad file {ad_file}", ad_file
            problem = f"its ad file {ad_file} says {address}, but nothing answers: {refusal}"
        waited = time.monotonic() - start
        if waited > _APPEAR_TIMEOUT or not _may_come_back(ad_file):
            break
        if waited > _SILENT and not said:
            said = True
            log.warning(
                "HTCondor is here, but its shared port does not answer (%s); waiting up to "
                "%g s for it",
                problem,
                _APPEAR_TIMEOUT,
            )
        time.sleep(_POLL_INTERVAL)
    found, schedd_problem = _ask_schedd(htcondor2, check, forwarded)
    if found is not None:
        return found, "the schedd's address", ad_file
    raise DiscoveryError(
        f"HTCondor's shared port is not running on this host: {problem}",
        step=f"{schedd_problem} "
        f"(configuration: {bindings.config_source()}); start HTCondor on this host "
        f"('systemctl start condor'), or {way_to_own_pool()}",
    )


def _may_come_back(ad_file: str) -> bool:
    """Whether somebody is there to start the shared port (again), or was just now."""
    directory = os.path.dirname(ad_file)
    try:
        place = os.stat(directory)
        # An orderly end takes the file away. The new master may not be there yet.
        if not os.path.exists(ad_file) and abs(time.time() - place.st_mtime) < _JUST_GONE:
            return True
        # The master of another user's pool is not the one that we wait for.
        users = {0, place.st_uid}
        processes = _processes()
    except OSError:
        return False
    if "1" not in processes:  # mounted with hidepid: others' processes cannot be seen
        return True
    for pid in processes:
        try:
            if os.stat(f"/proc/{pid}").st_uid in users:
                name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
                if name == "condor_master":
                    return True
        except OSError:
            continue  # it has ended
    return False


def _processes() -> list[str]:
    return [entry for entry in os.listdir("/proc") if entry.isdigit()]


def _ask_schedd(htcondor2: Any, check: bool, forwarded: bool) -> tuple[Sinful | None, str]:
    """Return the address without the local schedd's ``sock``, or why there is none."""
    try:
        ad = htcondor2.Collector().locate(htcondor2.DaemonType.Schedd)
        address = Sinful.parse(str(ad["MyAddress"]))
    except bindings.failures(htcondor2) as error:
        reason = str(error).rstrip(".")
        told = "" if reason == "Unable to locate local daemon" else f" ({reason})"
        return None, f"no local schedd either{told}"
    if address.sock is None or not address.port:
        return None, f"the local schedd has {address}, an address without shared port"
    if check and (problem := connect_problem(address, forwarded=forwarded)):
        return None, f"the local schedd was at {address}, where nothing answers: {problem}"
    return _without_sock(address), ""


def _configured_socket_dir(htcondor2: Any) -> str:
    """Return ``DAEMON_SOCKET_DIR``, with its default expanded.

    Source: ``GetAltDaemonSocketDir`` in ``src/condor_io/shared_port_endpoint.cpp``.
    """
    value = bindings.parameter(htcondor2, "DAEMON_SOCKET_DIR") or "auto"
    if value != "auto":
        return value
    lock = bindings.parameter(htcondor2, "LOCK")
    if lock is None:
        raise DiscoveryError(
            "DAEMON_SOCKET_DIR is 'auto', which means $(LOCK)/daemon_sock, but LOCK is not set "
            f"in {bindings.config_source()}",
            step="set LOCK or DAEMON_SOCKET_DIR there",
        )
    return f"{lock}/daemon_sock"


def _check_socket_dir(path: str) -> None:
    """Refuse a directory in which we cannot make a socket that HTCondor finds."""
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_DIR:
        raise DiscoveryError(
            f"the socket directory {path} has {length} characters, the limit is "
            f"{MAX_SOCKET_DIR}",
            step="set DAEMON_SOCKET_DIR to a shorter path, such as "
            "/run/condor/daemon_sock, and run condor_reconfig",
        )
    if not os.path.isabs(path):
        raise DiscoveryError(
            f"the socket directory is {path!r}",
            step="DAEMON_SOCKET_DIR must be an absolute path",
        )
    if not os.path.lexists(path) and _may_create(path):
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass  # Another program of this user was faster.
        except OSError as error:
            raise DiscoveryError(
                f"the socket directory {path} cannot be made: {error.strerror}",
                step="make it, or set DAEMON_SOCKET_DIR to another place",
            ) from error
    remedy = (
        f"ask the administrator to put the line '{tmpfiles_line(path)}' into "
        "/etc/tmpfiles.d/vine-sharedport.conf and to run 'systemd-tmpfiles --create', or to "
        "set DAEMON_SOCKET_DIR to such a directory"
    )
    if not os.path.exists(path):
        raise DiscoveryError(f"the socket directory {path} does not exist", step=remedy)
    if not os.path.isdir(path):
        raise DiscoveryError(
            f"the socket directory {path} is not a directory",
            step="remove that file, or set "
            "DAEMON_SOCKET_DIR to another place and run condor_reconfig",
        )
    info = os.stat(path)
    if info.st_mode & stat.S_IWOTH and not info.st_mode & stat.S_ISVTX:
        mine = info.st_uid == os.geteuid()
        raise DiscoveryError(
            f"every user of this host can replace the sockets in the directory {path} (mode "
            f"{info.st_mode & 0o7777:04o}, wanted 1733)",
            step=f"chmod o-w {shlex.quote(path)}" if mine else remedy,
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise DiscoveryError(
            f"the socket directory {path} is not writable for user id {os.geteuid()} (mode "
            f"{info.st_mode & 0o7777:04o}, owner {info.st_uid}, wanted 1733)",
            step=remedy,
        )


def tmpfiles_line(path: str) -> str:
    """Return the administrator's line for ``tmpfiles.d`` that makes the directory.

    Users may make sockets in it, nobody can list it or remove another's.
    """
    # The daemon follows links; tmpfiles.d wants /run/lock, not /var/lock.
    return f"d {os.path.realpath(path)} 1733 root root -"


def _may_create(path: str) -> bool:
    """Whether the directory would be in a place of this user's own."""
    user = os.geteuid()
    try:
        return user != 0 and os.stat(os.path.dirname(path)).st_uid == user
    except OSError:
        return False
