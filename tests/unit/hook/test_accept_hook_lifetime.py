"""How an attachment ends: by the manager, by us, with the interpreter, in a child."""

from __future__ import annotations

import os
import signal
import socket
import textwrap
import threading
from typing import Any

import pytest

from vine_sharedport.hook import _libc, accept_hook

from . import support
from .support import NOTHING, Hooked, Manager, PairSource, in_child, is_same_connection


@in_child
def test_the_managers_close_ends_everything(library: str) -> None:
    values = []
    descriptors = support.open_descriptors()
    hooked = Hooked(library)
    values = hooked.attachment._hook._before.copy()
    assert hooked.manager.close() == 0
    assert not hooked.attachment.is_open
    assert hooked.source.released == 1
    assert support.slot_values(library) == {name: [value] for name, value in values.items()}
    assert hooked.manager.refuses()
    hooked.source.close()
    assert support.open_descriptors() == descriptors


@in_child
def test_closing_other_descriptors_ends_nothing(library: str) -> None:
    with Hooked(library) as hooked, hooked.manager.connect() as client:
        fd = hooked.manager.accept()
        assert hooked.manager.c.server_close(fd) == 0
        assert client.recv(1) == b""  # really closed
        hooked.manager.c.server_close(-1)
        assert hooked.attachment.is_open
        assert hooked.source.released == 0


@in_child
def test_detach_gives_the_manager_its_listener_back(library: str) -> None:
    hooked = Hooked(library)
    with hooked.manager.connect() as waiting:
        for _ in range(2):  # idempotent
            hooked.attachment.detach()
            assert not hooked.attachment.is_open
            assert hooked.source.released == 1
        assert os.readlink(f"/proc/self/fd/{hooked.manager.fd}").startswith("socket:")
        assert not os.get_inheritable(hooked.manager.fd)
        assert is_same_connection(hooked.manager.accept(), waiting)
    with hooked.manager.connect() as client:
        assert is_same_connection(hooked.manager.accept(), client)
    assert hooked.manager.c.server_port(hooked.manager.fd) == hooked.manager.port
    hooked.manager.close()
    assert hooked.manager.refuses()
    hooked.source.close()


@in_child
def test_a_new_listener_with_the_old_number_is_not_hooked(library: str) -> None:
    with Hooked(library) as other:  # keeps the library redirected
        hooked = Hooked(library)
        number = hooked.manager.fd
        hooked.manager.close()
        manager = Manager(library)
        assert manager.fd == number
        with hooked.source.bring(), manager.connect() as client:
            assert is_same_connection(manager.accept(), client)
            assert manager.c.server_raw_accept(manager.fd, None, None) == -1  # not NOTHING
        attachment = accept_hook.attach(library, manager.fd, hooked.source)
        fd = manager.accept()  # the one that was waiting in the source
        assert fd >= 0
        os.close(fd)
        assert attachment.by_source == 1
        manager.close()
        assert other.attachment.is_open
        hooked.source.close()


@in_child
def test_a_listener_closed_behind_our_back_does_not_keep_its_number(library: str) -> None:
    hooked = Hooked(library)
    number = hooked.manager.fd
    os.close(number)  # not through the library
    manager = Manager(library)
    assert manager.fd == number
    source = PairSource()
    attachment = accept_hook.attach(library, number, source)
    assert not hooked.attachment.is_open
    assert hooked.manager.refuses()
    with source.bring() as client:
        assert is_same_connection(manager.accept(), client)
    assert attachment.is_open
    manager.close()
    for closing in (source, hooked.source):
        closing.close()


@in_child
def test_twenty_managers_one_after_another_leave_nothing(library: str) -> None:
    manager = Manager(library)
    manager.bind_imports()
    manager.close()
    descriptors = support.open_descriptors()
    values = support.slot_values(library)
    for number in range(20):
        hooked = Hooked(library)
        with hooked.source.bring() as client:
            assert is_same_connection(hooked.manager.accept(), client)
        if number % 2:
            hooked.attachment.detach()
        hooked.manager.close()
        hooked.source.close()
    assert support.open_descriptors() == descriptors
    assert support.slot_values(library) == values
    assert not accept_hook._attachments


@pytest.mark.parametrize("step", range(6))
def test_a_detach_that_ctrl_c_ends_is_carried_through(
    library: str, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    targets: list[tuple[Any, str]] = [
        (os, "dup2"),
        (accept_hook._LibraryHook, "release"),
        (_libc, "write_pointer"),
        (socket.socket, "close"),
        (PairSource, "release"),
        (accept_hook.Attachment, "forget"),
    ]
    target, name = targets[step]

    @in_child
    def body() -> None:
        manager = Manager(library)
        manager.bind_imports()
        manager.close()
        values = support.slot_values(library)
        hooked = Hooked(library)
        real = getattr(target, name)

        def interrupted(*args: Any, **kwargs: Any) -> None:
            monkeypatch.undo()
            if step % 2:  # right after it, or right before
                real(*args, **kwargs)
            raise KeyboardInterrupt

        monkeypatch.setattr(target, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            hooked.attachment.detach()
        hooked.attachment.detach()
        assert hooked.source.released >= 1
        assert support.slot_values(library) == values
        assert not accept_hook._attachments
        with hooked.manager.connect() as client:
            assert is_same_connection(hooked.manager.accept(), client)
        hooked.manager.close()
        assert hooked.manager.refuses()
        hooked.source.close()

    body()


@pytest.mark.parametrize(
    ("ending", "status", "output"),
    [
        ("pass", 0, "restored\n"),
        ("sys.exit(3)", 3, "restored\n"),
        ("attachment.detach()", 0, "restored\n"),
        ("c.server_close(manager.fd)", 0, ""),
        ("os.close(manager.fd)", 0, ""),
        ("source.close()", 0, "restored\n"),
        ("os._exit(4)", 4, ""),
        ("signal.raise_signal(signal.SIGTERM)", -signal.SIGTERM, ""),
    ],
)
def test_the_interpreters_end_restores_the_library(
    library: str, ending: str, status: int, output: str
) -> None:
    # C goes on in its destructors, when there is no Python left to call back.
    program = """
        import atexit, os, signal, sys
        atexit.register(lambda: source.close())  # the last of all
        from tests.unit.hook.support import *
        manager, source = Manager(sys.argv[1]), PairSource()
        c = manager.c
        attachment = accept_hook.attach(manager.library, manager.fd, source)
        ctypes.c_int.in_dll(c, "server_fd_at_exit").value = manager.fd
    """
    done = support.run_python(textwrap.dedent(program) + ending, library)
    assert (done.returncode, done.stdout, done.stderr) == (status, output, "")


@in_child
def test_a_forked_child_that_ends_disturbs_nothing(library: str) -> None:
    with Hooked(library) as hooked:
        pid = os.fork()
        if not pid:
            # In the child: unhooked, and without the parent's descriptors.
            status = 1
            try:
                assert not hooked.attachment.is_open
                assert not accept_hook._attachments
                values = support.slot_values(library)
                addresses = set(accept_hook._CALLBACK_ADDRESSES.values())
                assert not addresses & {value for (value,) in values.values()}
                hooked.attachment.detach()
                assert hooked.source.released == 0
                accept_hook._detach_all()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        still_works(hooked)


@in_child
def test_a_forked_child_that_closes_its_copy_disturbs_nothing(library: str) -> None:
    with Hooked(library) as hooked:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                assert hooked.manager.close() == 0
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        still_works(hooked)


@in_child
def test_a_forked_child_can_have_a_manager_of_its_own(library: str) -> None:
    with Hooked(library) as hooked:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                with Hooked(library) as own:
                    with own.source.bring() as client:
                        assert is_same_connection(own.manager.accept(), client)
                    own.manager.close()
                addresses = set(accept_hook._CALLBACK_ADDRESSES.values())
                values = support.slot_values(library)
                assert not addresses & {value for (value,) in values.values()}
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        still_works(hooked)


@in_child
def test_a_fork_while_another_thread_attaches_leaves_no_lock_behind(library: str) -> None:
    with Hooked(library) as hooked:
        held, go_on = threading.Event(), threading.Event()

        def attach_slowly() -> None:
            with accept_hook._lock:
                held.set()
                go_on.wait(20)

        thread = threading.Thread(target=attach_slowly)
        thread.start()
        held.wait(20)
        pid = os.fork()
        if not pid:
            signal.alarm(10)
            hooked.attachment.detach()
            Hooked(library).attachment.detach()
            os._exit(0)
        go_on.set()
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        still_works(hooked)


@in_child
def test_a_child_that_only_c_knows_of_disturbs_nothing(library: str) -> None:
    with Hooked(library) as hooked:
        # Its close() runs the hook's callback in the child.
        assert hooked.manager.c.server_fork_and_close(hooked.manager.fd) == 0
        still_works(hooked)
        reader, writer = os.pipe()
        assert hooked.manager.c.server_fork_and_close(writer) == 0
        os.close(writer)
        assert os.read(reader, 1) == b""
        os.close(reader)
        still_works(hooked)


def still_works(hooked: Hooked) -> None:
    assert hooked.attachment.is_open
    assert hooked.source.released == 0
    with hooked.source.bring() as client:
        assert is_same_connection(hooked.manager.accept(), client)
    with hooked.manager.connect() as client:
        assert is_same_connection(hooked.manager.accept(), client)
    assert hooked.manager.c.server_raw_accept(hooked.manager.fd, None, None) == NOTHING
    assert hooked.manager.c.server_port(hooked.manager.fd) == hooked.manager.port


def test_a_forked_childs_own_end_is_quiet(library: str) -> None:
    program = """
        import os, sys
        from tests.unit.hook.support import *
        hooked = Hooked(sys.argv[1])
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
            with hooked.source.bring() as client:
                assert is_same_connection(hooked.manager.accept(), client)
            hooked.manager.close()
            hooked.source.close()
            print("parent")
        # The child goes on to the end of the interpreter.
    """
    done = support.run_python(textwrap.dedent(program), library)
    assert (done.returncode, done.stdout, done.stderr) == (0, "parent\n", "")
