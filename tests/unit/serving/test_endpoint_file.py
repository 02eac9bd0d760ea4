"""The endpoint's socket file: who may use it, whom it replaces, how it is kept."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from pathlib import Path

import pytest

from tests.unit import helpers
from tests.values import naming
from vine_sharedport.errors import EndpointError, SettingError
from vine_sharedport.serving import endpoint as endpoint_module
from vine_sharedport.serving.endpoint import MAX_DIRECTORY, MAX_PATH, Endpoint


def test_socket_is_the_users_alone_whatever_the_umask(short_directory: Path) -> None:
    for umask in (0o000, 0o022, 0o077, 0o277, 0o777):
        before = os.umask(umask)
        try:
            endpoint = Endpoint("vine_1", str(short_directory))
        finally:
            os.umask(before)
        with endpoint:
            mode = os.stat(endpoint.path).st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600, f"umask {umask:o}"


def test_socket_is_never_open_to_others_not_even_for_a_moment(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Watched(socket.socket):
        def bind(self, address) -> None:
            super().bind(address)
            seen.append(stat.S_IMODE(os.stat(address).st_mode))

    monkeypatch.setattr(endpoint_module.socket, "socket", Watched)
    before = os.umask(0)
    try:
        with Endpoint("vine_1", str(short_directory)):
            pass
    finally:
        os.umask(before)
    assert seen
    assert all(mode & 0o077 == 0 for mode in seen)


def test_path_is_the_directory_and_the_sock_id(
    endpoint: Endpoint, short_directory: Path
) -> None:
    assert endpoint.path == f"{short_directory}/vine_1"
    assert endpoint.sock_id == "vine_1"


def test_close_removes_the_file_and_drops_what_is_pending(short_directory: Path) -> None:
    endpoint = Endpoint("vine_1", str(short_directory))
    with (
        helpers.handed_off(endpoint.path) as client,
        helpers.connect_unix(endpoint.path) as arrived,
    ):
        endpoint.poll()
        with helpers.connect_unix(endpoint.path) as queued:
            endpoint.close()
            endpoint.close()
            assert endpoint.pending == 0
            for sock in (client, arrived, queued):
                assert helpers.is_closed(sock)
    assert list(short_directory.iterdir()) == []


def test_close_leaves_a_file_that_is_not_ours(short_directory: Path) -> None:
    first = Endpoint("vine_1", str(short_directory))
    os.unlink(first.path)
    with Endpoint("vine_1", str(short_directory)) as second:
        first.close()
        with helpers.handed_off(second.path, b"x"):
            helpers.poll_one(second).close()


def test_stale_socket_of_a_dead_owner_is_replaced(short_directory: Path) -> None:
    path = short_directory / "vine_1"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    with Endpoint("vine_1", str(short_directory)) as endpoint:
        with helpers.handed_off(endpoint.path, b"x"):
            helpers.poll_one(endpoint).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_stale_link_is_replaced_and_its_target_left_alone(short_directory: Path) -> None:
    target = short_directory / "other"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(target))
    (short_directory / "vine_1").symlink_to(target)
    with Endpoint("vine_1", str(short_directory)):
        assert not (short_directory / "vine_1").is_symlink()
    assert target.exists()


def test_living_endpoint_is_not_replaced(endpoint: Endpoint, short_directory: Path) -> None:
    wanted = naming("'vine_1'", endpoint.path)
    with pytest.raises(EndpointError, match=wanted):
        Endpoint("vine_1", str(short_directory))
    with helpers.handed_off(endpoint.path, b"x"):
        endpoint.accept(10).close()


def test_living_endpoint_with_a_full_backlog_is_not_replaced(short_directory: Path) -> None:
    path = str(short_directory / "vine_1")
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(path)
        busy.listen(0)
        full = False
        while not full:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            try:
                waiting.connect(path)
            except BlockingIOError:
                full = True
        with pytest.raises(EndpointError, match=naming("'vine_1'", path)):
            Endpoint("vine_1", str(short_directory))
        assert os.path.exists(path)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_no_socket_is_never_removed(short_directory: Path, kind: str) -> None:
    path = short_directory / "vine_1"
    if kind == "file":
        path.write_text("precious")
    else:
        path.mkdir()
    with pytest.raises(EndpointError, match=naming(path)):
        Endpoint("vine_1", str(short_directory))
    assert path.is_dir() or path.read_text() == "precious"


def test_socket_of_another_kind_is_left_alone(short_directory: Path) -> None:
    path = short_directory / "vine_1"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(EndpointError, match=naming(path)):
            Endpoint("vine_1", str(short_directory))
        assert path.exists()


@pytest.mark.true_uid
@pytest.mark.skipif(os.geteuid() == 0, reason="root may connect to every socket")
def test_socket_that_we_may_not_use_is_left_alone(short_directory: Path) -> None:
    path = short_directory / "vine_1"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        path.chmod(0)
        with pytest.raises(EndpointError, match=naming(path)):
            Endpoint("vine_1", str(short_directory))
        assert path.exists()


def _directory_of(size: int, parent: Path) -> str:
    name = "d" * (size - len(str(parent)) - 1)
    (parent / name).mkdir()
    return str(parent / name)


def test_directory_above_the_limit_of_htcondor_is_refused(short_directory: Path) -> None:
    directory = _directory_of(MAX_DIRECTORY + 1, short_directory)
    with pytest.raises(EndpointError, match=naming(90, 89, directory, "DAEMON_SOCKET_DIR")):
        Endpoint("v", directory)


def test_directory_is_measured_in_bytes(short_directory: Path) -> None:
    directory = str(short_directory / ("ü" * ((90 - len(str(short_directory))) // 2)))
    os.mkdir(directory)
    assert len(directory) < MAX_DIRECTORY < len(os.fsencode(directory))
    with pytest.raises(EndpointError, match=naming(len(os.fsencode(directory)), 89)):
        Endpoint("v", directory)


def test_longest_path_that_fits_works_and_one_byte_more_is_refused(
    short_directory: Path,
) -> None:
    directory = _directory_of(MAX_DIRECTORY, short_directory)
    fits = "i" * (MAX_PATH - MAX_DIRECTORY - 1)
    with Endpoint(fits, directory) as endpoint:
        assert len(endpoint.path) == 107
        with helpers.handed_off(endpoint.path, b"x"):
            helpers.poll_one(endpoint).close()
    values = naming(108, 107, f"{directory}/{fits}i", "DAEMON_SOCKET_DIR")
    with pytest.raises(EndpointError, match=values):
        Endpoint(fits + "i", directory)


def test_sock_id_of_41_characters_works_and_42_are_refused(short_directory: Path) -> None:
    with Endpoint("i" * 41, str(short_directory)) as endpoint:
        assert os.path.exists(endpoint.path)
    with pytest.raises(SettingError, match=naming(42, 41)):
        Endpoint("i" * 42, str(short_directory))


@pytest.mark.parametrize("sock_id", ["", "a/b", "..", "a b", "ä", "self"])
def test_text_that_is_no_sock_id_is_refused(short_directory: Path, sock_id: str) -> None:
    with pytest.raises(SettingError):
        Endpoint(sock_id, str(short_directory))
    assert list(short_directory.iterdir()) == []


def test_missing_directory_is_named(short_directory: Path) -> None:
    directory = short_directory / "none"
    with pytest.raises(EndpointError, match=naming(directory, "No such file or directory")):
        Endpoint("vine_1", str(directory))


def test_directory_that_is_none_is_named(short_directory: Path) -> None:
    path = short_directory / "file"
    path.touch()
    with pytest.raises(EndpointError, match=naming(path)):
        Endpoint("vine_1", str(path))


@pytest.mark.true_uid
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_directory_that_is_not_writable_is_named(short_directory: Path) -> None:
    short_directory.chmod(0o500)
    with pytest.raises(EndpointError, match=rf"{short_directory}/vine_1: Permission denied"):
        Endpoint("vine_1", str(short_directory))
    short_directory.chmod(0o700)


# ---- keep_alive ----


def test_keep_alive_renews_the_files_time(endpoint: Endpoint) -> None:
    os.utime(endpoint.path, (0, 0))
    inode = os.stat(endpoint.path).st_ino
    before = time.time()
    endpoint.keep_alive()
    found = os.stat(endpoint.path)
    assert found.st_mtime >= before - 1
    assert found.st_ino == inode


def test_vanished_file_is_made_again(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    with helpers.handed_off(endpoint.path) as held:
        endpoint.poll()
        os.unlink(endpoint.path)
        endpoint.keep_alive()
        assert stat.S_IMODE(os.stat(endpoint.path).st_mode) == 0o600
        assert endpoint.path in caplog.text
        with helpers.handed_off(endpoint.path, b"new"), helpers.poll_one(endpoint) as server:
            assert server.recv(9) == b"new"
        held.sendall(b"held")
        with helpers.poll_one(endpoint) as server:
            assert server.recv(9) == b"held"
    path = endpoint.path
    endpoint.close()
    assert not os.path.exists(path)


def test_pause_outlives_a_vanished_file(endpoint: Endpoint) -> None:
    endpoint.pause(True)
    os.unlink(endpoint.path)
    endpoint.keep_alive()
    with helpers.handed_off(endpoint.path, b"x"):
        assert endpoint.poll() == []
        assert endpoint.pending == 0
        endpoint.pause(False)
        helpers.poll_one(endpoint).close()


def test_keep_alive_reports_a_name_that_another_has_taken(
    endpoint: Endpoint, short_directory: Path
) -> None:
    os.unlink(endpoint.path)
    with Endpoint("vine_1", str(short_directory)) as other:
        with pytest.raises(EndpointError, match=naming("'vine_1'", endpoint.path)):
            endpoint.keep_alive()
        with helpers.handed_off(other.path, b"x"):
            other.accept(10).close()
    # Its owner has gone: ours again.
    endpoint.keep_alive()
    with helpers.handed_off(endpoint.path, b"x"):
        helpers.poll_one(endpoint).close()


def test_keep_alive_in_a_directory_that_has_vanished_fails_and_can_be_repeated(
    short_directory: Path,
) -> None:
    directory = short_directory / "sockets"
    directory.mkdir()
    with Endpoint("vine_1", str(directory)) as endpoint:
        os.unlink(endpoint.path)
        directory.rmdir()
        with pytest.raises(EndpointError, match="No such file"):
            endpoint.keep_alive()
        directory.mkdir()
        endpoint.keep_alive()
        with helpers.handed_off(endpoint.path, b"x"):
            helpers.poll_one(endpoint).close()


def test_nothing_is_left_in_a_process_that_has_done_everything(short_directory: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Endpoint("vine_1", str(short_directory)) as endpoint:
            with helpers.handed_off(endpoint.path, b"x"), helpers.handed_off(endpoint.path):
                helpers.poll_one(endpoint).close()
            endpoint.poll()
        assert len(os.listdir("/proc/self/fd")) == before
    assert list(short_directory.iterdir()) == []
