"""Where the manager's own TCP port listens while it has a shared port."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from tests.values import naming
from vine_sharedport.errors import HookError
from vine_sharedport.hook import _libc, accept_hook

from . import support
from .support import NOTHING, Manager, PairSource, in_child, is_same_connection

LOOPBACK = "127.0.0.1"  # the manager itself listens on 127.0.0.2


def takes_tcp(manager: Manager, host: str | None = None) -> bool:
    if manager.refuses(host):
        return False
    with manager.connect(host) as client:
        fd = manager.accept()
        while not is_same_connection(fd, client):  # that of refuses(), gone again
            fd = manager.accept()
    return True


@pytest.mark.parametrize(
    ("tcp", "own", "loopback"),
    [("all", True, False), ("loopback", False, True), ("off", False, False)],
)
def test_the_port_listens_where_the_user_wishes(
    library: str, tcp: str, own: bool, loopback: bool
) -> None:
    @in_child
    def body() -> None:
        manager, source = Manager(library, host=2), PairSource()
        for _ in range(2):
            attachment = accept_hook.attach(library, manager.fd, source, tcp=tcp)
            assert takes_tcp(manager) == own
            assert takes_tcp(manager, LOOPBACK) == loopback
            assert manager.c.server_port(manager.fd) == manager.port
            with source.bring() as client:
                assert is_same_connection(manager.accept(), client)
            assert manager.c.server_raw_accept(manager.fd, None, None) == NOTHING
            attachment.detach()
            assert takes_tcp(manager)
            assert manager.refuses(LOOPBACK)
            assert manager.c.server_port(manager.fd) == manager.port
        manager.close()
        source.close()

    body()


@pytest.mark.parametrize("tcp", ["all", "loopback", "off"])
def test_a_port_that_the_kernel_chose_is_kept(library: str, tcp: str) -> None:
    @in_child
    def body() -> None:
        support.Manager(library).close()  # loads the library
        source = PairSource()
        with socket.create_server(("127.0.0.2", 0)) as listener:
            address = listener.getsockname()
            listener.setblocking(False)
            attachment = accept_hook.attach(library, listener.fileno(), source, tcp=tcp)
            attachment.detach()
            assert listener.getsockname() == address
            with socket.create_connection(address, timeout=5):
                listener.accept()[0].close()
        source.close()

    body()


@pytest.mark.parametrize("tcp", ["all", "loopback", "off"])
def test_the_managers_close_leaves_nothing_listening(library: str, tcp: str) -> None:
    @in_child
    def body() -> None:
        descriptors = support.open_descriptors()
        manager, source = Manager(library, host=2), PairSource()
        accept_hook.attach(library, manager.fd, source, tcp=tcp)
        manager.close()
        assert manager.refuses()
        assert manager.refuses(LOOPBACK)
        source.close()
        assert support.open_descriptors() == descriptors

    body()


@pytest.mark.parametrize("tcp", ["loopback", "off"])
def test_a_failure_after_it_was_narrowed_leaves_the_port_listening(
    library: str, monkeypatch: pytest.MonkeyPatch, tcp: str
) -> None:
    def fail(*args: Any) -> None:
        raise HookError("no")

    @in_child
    def body() -> None:
        manager, source = Manager(library, host=2), PairSource()
        descriptors = support.open_descriptors()
        with monkeypatch.context() as patch:
            patch.setattr(_libc, "write_pointer", fail)
            with pytest.raises(HookError):
                accept_hook.attach(library, manager.fd, source, tcp=tcp)
        assert support.open_descriptors() == descriptors
        assert takes_tcp(manager)
        manager.close()
        source.close()

    body()


@in_child
def test_a_loopback_port_that_is_taken_is_refused(library: str) -> None:
    manager, source = Manager(library, host=2), PairSource()
    with socket.socket() as other:
        other.bind((LOOPBACK, manager.port))
        other.listen()
        descriptors = support.open_descriptors()
        with pytest.raises(HookError, match=naming("Address already in use", "tcp='all'")):
            accept_hook.attach(library, manager.fd, source, tcp="loopback")
        assert support.open_descriptors() == descriptors
    assert os.readlink(f"/proc/self/fd/{manager.fd}").startswith("socket:")
    assert takes_tcp(manager)
    manager.close()
    source.close()


@pytest.mark.parametrize("tcp", ["loopback", "off"])
def test_a_source_that_was_closed_first_does_not_keep_the_port(library: str, tcp: str) -> None:
    @in_child
    def body() -> None:
        manager, source = Manager(library, host=2), PairSource()
        attachment = accept_hook.attach(library, manager.fd, source, tcp=tcp)
        source.close()

        def closed() -> int:
            raise ValueError("I/O operation on closed epoll object")

        source.fileno = closed  # type: ignore[method-assign]
        attachment.detach()
        assert takes_tcp(manager)
        manager.close()

    body()
