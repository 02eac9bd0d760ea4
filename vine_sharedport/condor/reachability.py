"""Whether an address of a shared port answers on its own host."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import selectors
import socket
import threading
import time

from vine_sharedport.wire.sinful import Sinful

__all__ = ["connect_problem"]

_CONNECT_TIMEOUT = 3.0


def connect_problem(address: Sinful, *, forwarded: bool = False) -> str | None:
    """Connect by TCP; return None if one candidate accepts, or what went wrong.

    All candidates are tried at once, for at most ``_CONNECT_TIMEOUT`` seconds.
    """
    problems: list[str] = []
    with selectors.DefaultSelector() as selector:
        try:
            for host, port in _candidates(address, forwarded):
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                try:
                    sock = socket.socket(family, socket.SOCK_STREAM)
                except OSError as error:
                    problems.append(f"{host} port {port}: {error.strerror}")
                    continue
                sock.setblocking(False)
                selector.register(sock, selectors.EVENT_WRITE, (host, port))
                code = sock.connect_ex((host, port))
                if code not in (0, errno.EINPROGRESS):
                    selector.unregister(sock)
                    sock.close()
                    problems.append(f"{host} port {port}: {os.strerror(code)}")
            deadline = time.monotonic() + _CONNECT_TIMEOUT
            while selector.get_map():
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    waiting = [key.data for key in selector.get_map().values()]
                    problems += [
                        f"{host} port {port}: no answer in {_CONNECT_TIMEOUT:g} s"
                        for host, port in waiting
                    ]
                    break
                for key, _ in ready:
                    tried: socket.socket = key.fileobj  # type: ignore[assignment]  # ours
                    code = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if code == 0:
                        return None
                    selector.unregister(tried)
                    tried.close()
                    problems.append("{} port {}: {}".format(*key.data, os.strerror(code)))
        finally:
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]  # a socket of ours
    return "; ".join(problems) or (
        f"the name service tells no address of {address.host}, or not in {_CONNECT_TIMEOUT:g} s"
    )


def _candidates(address: Sinful, forwarded: bool) -> list[tuple[str, int]]:
    """Return literal addresses and ports at which the shared port may be reached."""
    found = address.addrs
    if not found or forwarded:
        found = [*found, *_resolve(address.host, address.port or 0)]
    if forwarded:
        # The address is the forwarder's, which need not answer from inside. The
        # same port is open here, on whichever interface HTCondor is bound to.
        port = address.port or 0
        found += [("127.0.0.1", port), *_resolve(socket.gethostname(), port)]
    return list(dict.fromkeys(found))


def _resolve(host: str, port: int) -> list[tuple[str, int]]:
    """Return a host's literal addresses; none if it has none, or the name service hangs."""
    try:
        return [(str(ipaddress.ip_address(host)), port)]
    except ValueError:
        pass
    found: list[tuple[str, int]] = []

    def look_up() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend((str(info[4][0]), port) for info in infos)

    # getaddrinfo() takes no time limit; the thread is left behind.
    thread = threading.Thread(target=look_up, name="resolve-shared-port", daemon=True)
    thread.start()
    thread.join(_CONNECT_TIMEOUT)
    return list(found)
