"""Descriptors over Unix sockets: one at a time, close-on-exec, and none that is left open."""

from __future__ import annotations

import array
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vine_sharedport.errors import HandOffError
from vine_sharedport.fdpass import peer_credentials, receive_fd, send_fd


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_the_descriptor_comes_with_its_byte_and_no_child_inherits_it(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    with open(tmp_path / "file") as file:
        send_fd(pair[0], file.fileno(), b"a")
        assert os.fstat(file.fileno()), "the number stays the sender's"
    data, fd = receive_fd(pair[1])
    assert data == b"a"
    assert fd is not None
    try:
        assert os.read(fd, 9) == b"x"
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_a_byte_without_a_descriptor_and_the_end_are_told_apart(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[0].sendall(b"ab")
    assert receive_fd(pair[1]) == (b"a", None)
    assert receive_fd(pair[1]) == (b"b", None)
    pair[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        receive_fd(pair[1])
    pair[0].close()
    assert receive_fd(pair[1]) == (b"", None)


def test_two_descriptors_are_refused_and_closed(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    fds = array.array("i", [0, 1])
    pair[0].sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    with pytest.raises(HandOffError):
        receive_fd(pair[1])
    pair[0].sendall(b"c")
    assert receive_fd(pair[1]) == (b"c", None)


def test_where_no_more_descriptor_fits_that_is_said(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    send_fd(pair[0], 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)  # the next number is beyond the limit
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        with pytest.raises(HandOffError, match="ulimit -n"):
            receive_fd(pair[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.true_uid
def test_the_kernel_says_who_is_at_the_other_end(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    who = peer_credentials(pair[0])
    assert (who.pid, who.uid) == (os.getpid(), os.getuid())
