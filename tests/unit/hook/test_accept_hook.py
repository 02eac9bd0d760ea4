"""What the manager's own loop sees while the hook is installed."""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from vine_sharedport.hook import accept_hook

from . import support
from .support import NOTHING, Hooked, Manager, PairSource, in_child, is_same_connection

ADDRESS = struct.Struct("=H")


def accept_raw(manager: Manager, fd: int | None = None) -> tuple[int, int]:
    """Call accept() once; return its answer and errno."""
    answer = manager.c.server_raw_accept(manager.fd if fd is None else fd, None, None)
    return answer, manager.number("server_errno")


@in_child
def test_a_tcp_client_is_accepted_as_itself(library: str) -> None:
    with Hooked(library) as hooked, hooked.manager.connect() as client:
        fd = hooked.manager.accept()
        client.sendall(b"vine")
        with socket.socket(fileno=os.dup(fd)) as ours:
            ours.setblocking(True)
            assert ours.recv(4) == b"vine"
            assert ours.getsockname() == client.getpeername()
        assert is_same_connection(fd, client)
        assert (hooked.attachment.by_tcp, hooked.attachment.by_source) == (1, 0)
        assert not hooked.attachment.from_source


@in_child
def test_a_client_of_the_source_is_accepted_as_itself(library: str) -> None:
    with Hooked(library) as hooked, hooked.source.bring() as client:
        fd = hooked.manager.accept()
        client.sendall(b"vine")
        with socket.socket(fileno=os.dup(fd)) as ours:
            ours.setblocking(True)
            assert ours.recv(4) == b"vine"
        assert is_same_connection(fd, client)
        assert (hooked.attachment.by_tcp, hooked.attachment.by_source) == (0, 1)
        host, port = client.getsockname()
        assert list(hooked.attachment.from_source) == [f"{host}:{port}"]


@in_child
def test_an_address_that_comes_again_by_tcp_is_no_longer_the_sources(library: str) -> None:
    with Hooked(library) as hooked:
        with hooked.source.bring() as client:
            address = client.getsockname()
            os.close(hooked.manager.accept())
        assert hooked.attachment.from_source
        target = (hooked.manager.host, hooked.manager.port)
        with socket.create_connection(target, timeout=5, source_address=address) as again:
            assert is_same_connection(hooked.manager.accept(), again)
            assert not hooked.attachment.from_source


def wait_for_queue(listener: int, length: int) -> None:
    """Wait until the kernel has so many clients ready to be accepted."""
    with socket.socket(fileno=os.dup(listener)) as sock:
        until = time.monotonic() + 5
        while time.monotonic() < until:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
            if struct.unpack_from("=I", info, 24) == (length,):  # tcpi_unacked
                return
            time.sleep(0.001)
    raise AssertionError(f"{length} clients are not ready")


@pytest.mark.parametrize("side", ["tcp", "source"])
def test_a_wait_that_has_begun_ends_when_a_client_comes(library: str, side: str) -> None:
    @in_child
    def body() -> None:
        manager, source = Manager(library), PairSource()
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            support.wait_until_asleep_in(parent, "poll")
            client = source.bring() if side == "source" else manager.connect()
            client.recv(1)
            os._exit(0)
        attachment = accept_hook.attach(library, manager.fd, source)
        fd = manager.accept(20)
        assert fd >= 0
        assert attachment.by_source == (side == "source")
        os.close(fd)
        os.waitpid(pid, 0)
        manager.close()
        source.close()

    body()


@in_child
def test_neither_side_starves_the_other(library: str) -> None:
    with Hooked(library, backlog=64) as hooked:
        by_tcp = [hooked.manager.connect() for _ in range(20)]
        by_source = [hooked.source.bring() for _ in range(20)]
        wait_for_queue(hooked.attachment.listener_fd, 20)
        sides = {client.getsockname(): "t" for client in by_tcp}
        sides.update({client.getsockname(): "s" for client in by_source})
        order = ""
        for _ in range(40):
            with socket.socket(fileno=hooked.manager.accept()) as ours:
                order += sides.pop(ours.getpeername())
        assert order in ("ts" * 20, "st" * 20)
        assert (hooked.attachment.by_tcp, hooked.attachment.by_source) == (20, 20)
        assert len(hooked.attachment.from_source) == 20
        for client in by_tcp + by_source:
            client.close()


@in_child
def test_with_nobody_there_c_goes_on_at_once(library: str) -> None:
    with Hooked(library) as hooked:
        assert accept_raw(hooked.manager)[0] == NOTHING
        # What link_accept() does with it fails, waits for nothing and closes nothing.
        descriptors = support.open_descriptors()
        assert hooked.manager.c.server_accept(hooked.manager.fd, 60_000) == -1
        assert support.open_descriptors() == descriptors
        assert hooked.manager.number("server_strangers") == 0
        with hooked.manager.connect() as client:
            assert is_same_connection(hooked.manager.accept(), client)


@in_child
def test_a_client_that_has_gone_again_does_not_hold_the_manager_up(library: str) -> None:
    with Hooked(library) as hooked:
        for client in (hooked.manager.connect(), hooked.source.bring()):
            reset = struct.pack("ii", 1, 0)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            client.close()
        for _ in range(2):
            fd = hooked.manager.accept()
            if fd >= 0:
                os.close(fd)
        with hooked.manager.connect() as client:
            assert is_same_connection(hooked.manager.accept(), client)


@in_child
def test_the_port_is_still_the_managers(library: str) -> None:
    with Hooked(library) as hooked:
        assert hooked.manager.c.server_port(hooked.manager.fd) == hooked.manager.port
        assert hooked.manager.c.server_port(-1) == 0
        with hooked.manager.connect() as client:  # of another descriptor: its own
            fd = hooked.manager.accept()
            assert hooked.manager.c.server_port(fd) == hooked.manager.port
            assert is_same_connection(fd, client)


@pytest.mark.parametrize("side", ["tcp", "source"])
def test_accept_fills_the_peers_address(library: str, side: str) -> None:
    @in_child
    def body() -> None:
        with Hooked(library) as hooked:
            client = hooked.source.bring() if side == "source" else hooked.manager.connect()
            assert hooked.manager.c.server_wait(hooked.manager.fd, 5000)
            address = ctypes.create_string_buffer(b"\xff" * 64, 64)
            length = ctypes.c_uint32(64)
            fd = hooked.manager.c.server_raw_accept(
                hooked.manager.fd, ctypes.byref(address), ctypes.byref(length)
            )
            host, port = client.getsockname()
            assert length.value == 16
            assert ADDRESS.unpack_from(address) == (socket.AF_INET,)
            assert address.raw[2:8] == struct.pack("!H", port) + socket.inet_aton(host)
            assert is_same_connection(fd, client)
            client.close()

    body()


@in_child
def test_ipv6_peers_are_remembered_as_the_manager_writes_them(library: str) -> None:
    if not os.path.exists("/proc/net/if_inet6"):
        return
    with Hooked(library) as hooked:
        try:
            server = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError:
            hooked.attachment.detach()
            hooked.manager.close()
            return
        with server, socket.create_connection(server.getsockname()[:2]) as client:
            passed, _ = server.accept()
            with passed:
                hooked.source.send(passed.fileno())
            os.close(hooked.manager.accept())
            assert list(hooked.attachment.from_source) == [f"::1:{client.getsockname()[1]}"]


@in_child
def test_a_descriptor_without_a_peer_is_answered_too(library: str) -> None:
    with Hooked(library) as hooked:
        reader, writer = os.pipe()
        hooked.source.send(reader)
        fd, _ = accept_raw(hooked.manager)
        os.write(writer, b"x")
        assert os.read(fd, 1) == b"x"
        for descriptor in (fd, reader, writer):
            os.close(descriptor)


@in_child
def test_another_listener_of_the_library_has_the_kernels_own_answers(library: str) -> None:
    with Hooked(library) as hooked:
        other = Manager(library)
        assert accept_raw(other) == (-1, errno.EAGAIN)
        assert accept_raw(other, 0x7FFFFFF0) == (-1, errno.EBADF)
        assert accept_raw(other, hooked.source.fileno()) == (-1, errno.EINVAL)
        with hooked.source.bring() as waiting, other.connect() as client:
            fd = other.accept()
            assert is_same_connection(fd, client)
            assert accept_raw(other) == (-1, errno.EAGAIN)
            assert is_same_connection(hooked.manager.accept(), waiting)
        assert other.close() == 0
        assert other.c.server_close(-1) == -1
        assert other.number("server_errno") == errno.EBADF


@in_child
def test_two_managers_in_one_library_have_their_own_clients(library: str) -> None:
    with Hooked(library) as one, Hooked(library) as two:
        for this, other in ((one, two), (two, one)):
            with this.source.bring() as client, this.manager.connect() as by_tcp:
                assert accept_raw(other.manager)[0] == NOTHING
                descriptors = [this.manager.accept(), this.manager.accept()]
                clients = {client.getsockname(), by_tcp.getsockname()}
                for fd in descriptors:
                    with socket.socket(fileno=fd) as ours:
                        clients.remove(ours.getpeername())
                assert not clients
        two.manager.close()
        assert one.attachment.is_open
        assert not two.attachment.is_open
        with one.source.bring() as client:
            assert is_same_connection(one.manager.accept(), client)


@in_child
def test_managers_in_two_threads_do_not_disturb_each_other(library: str) -> None:
    # C holds the GIL, so that the threads take turns within the callbacks.
    total = 150
    managers = [Manager(library, backlog=512) for _ in range(2)]
    sources = [PairSource() for _ in managers]
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writer)
        clients = []
        for number in range(total):
            for manager, source in zip(managers, sources):
                clients.append(source.bring() if number % 2 else manager.connect())
        os.read(reader, 1)  # until the parent has accepted them all
        os._exit(0)
    attached = [
        accept_hook.attach(library, manager.fd, source)
        for manager, source in zip(managers, sources)
    ]
    results: list[tuple[Any, ctypes.c_int]] = [
        ((ctypes.c_int * (2 * total))(), ctypes.c_int()) for _ in managers
    ]

    def serve(manager: Manager, clients: Any, count: ctypes.c_int) -> None:
        for _ in range(20 * total):
            if count.value >= total:
                return
            manager.c.server_serve(manager.fd, 100, clients, ctypes.byref(count), total)

    threads = [
        threading.Thread(target=serve, args=(manager, *result))
        for manager, result in zip(managers, results)
    ]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    os.close(writer)
    os.waitpid(pid, 0)
    os.close(reader)
    for clients, count in results:
        assert count.value == total
        assert len(set(clients[:total])) == total
        for fd in clients[:total]:
            os.close(fd)
    assert managers[0].number("server_strangers") == 0
    assert [(a.by_tcp, a.by_source) for a in attached] == [(total // 2, total // 2)] * 2
    for closing in (*managers, *sources):
        closing.close()


@in_child
def test_a_failing_source_is_logged_and_the_loop_goes_on(
    library: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Hooked(library) as hooked:
        hooked.source.fail_with(RuntimeError("no source today"))
        with hooked.manager.connect() as client:
            assert is_same_connection(hooked.manager.accept(), client)
        for _ in range(2):
            assert accept_raw(hooked.manager)[0] == NOTHING
        hooked.source.fail_with(None)
        with hooked.source.bring() as client:
            assert is_same_connection(hooked.manager.accept(), client)
        with caplog.at_level(logging.ERROR):
            accept_hook.raise_deferred()
        assert caplog.records
        for record in caplog.records:
            assert record.levelname == "ERROR"
            assert "no source today" in str(record.exc_info[1] if record.exc_info else "")
        caplog.clear()
        accept_hook.raise_deferred()
        assert not caplog.records
        # The exceptions' frames hold the caller's objects.
        gc.collect()


@in_child
def test_programs_that_the_manager_starts_inherit_nothing(library: str) -> None:
    before = support.open_descriptors()
    with Hooked(library) as hooked:
        ours = {what for fd, what in support.open_descriptors().items() if fd not in before}
        assert {what.split(":")[0] for what in ours} == {"socket", "anon_inode"}
        assert "anon_inode:[eventpoll]" not in before.values()
        program = (
            "import os\n"
            "for name in os.listdir('/proc/self/fd'):\n"
            "    try: print(os.readlink('/proc/self/fd/' + name))\n"
            "    except OSError: pass\n"
        )
        for attached in (True, False):
            listing = subprocess.run(
                [sys.executable, "-S", "-c", program],
                close_fds=False,
                check=True,
                capture_output=True,
                text=True,
            ).stdout.splitlines()
            assert listing
            assert not ours & set(listing)
            if attached:
                hooked.attachment.detach()
        hooked.manager.close()
