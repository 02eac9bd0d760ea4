"""The secret's file: made whole and private, never over another, read with care."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.values import naming
from vine_sharedport.errors import SettingError
from vine_sharedport.secret_file import make_secret_file, read_secret_file


def test_a_new_secret_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        secret = make_secret_file(str(tmp_path / "s"))
    finally:
        os.umask(before)
    assert len(secret) == 32
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    assert read_secret_file(str(tmp_path / "s"), private=True) == secret
    assert os.listdir(tmp_path) == ["s"]


def test_every_secret_is_new_unless_it_is_to_be_kept(tmp_path: Path) -> None:
    first = make_secret_file(str(tmp_path / "1"))
    assert make_secret_file(str(tmp_path / "2")) != first
    assert make_secret_file(str(tmp_path / "1"), keep=True) == first


def test_nothing_is_written_over_a_file_or_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("target", "link"):
        with pytest.raises(SettingError, match="File exists"):
            make_secret_file(str(tmp_path / name))
    assert (tmp_path / "target").read_bytes() == b"mine"


@pytest.mark.parametrize(("content", "found"), [(b"", 0), (bytes(31), 31), (bytes(33), 33)])
def test_a_file_of_another_size_is_refused_with_what_to_do(
    tmp_path: Path, content: bytes, found: int
) -> None:
    path = tmp_path / "s's"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingError, match=naming(path, found, 32)):
        read_secret_file(str(path))
    # On the manager's side too it may be any file of the user's, which is not to be lost.
    with pytest.raises(SettingError, match=naming(path, found, 32)) as caught:
        read_secret_file(str(path), private=True)
    step = str(caught.value).rpartition(": ")[2]
    subprocess.run(["sh", "-c", step], check=True)
    assert (tmp_path / "s's.old").read_bytes() == content
    make_secret_file(str(path), keep=True)


def test_what_others_could_have_read_is_refused_on_the_managers_side(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(bytes(32))
    (tmp_path / "s").chmod(0o640)
    with pytest.raises(SettingError, match=naming(640)) as caught:
        make_secret_file(str(tmp_path / "s"), keep=True)
    assert str(caught.value).endswith(f": chmod 600 {tmp_path}/s")
    assert read_secret_file(str(tmp_path / "s")) == bytes(32)


@pytest.mark.parametrize("kind", ["directory", "pipe", "missing"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(SettingError, match=naming(path)):
        read_secret_file(str(path))


def test_a_copy_that_others_can_read_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s"
    make_secret_file(str(path))
    read_secret_file(str(path))
    assert not caplog.records
    path.chmod(0o644)
    for _ in range(2):  # as a factory does
        assert len(read_secret_file(str(path))) == 32
    (record,) = caplog.records
    assert str(path) in record.getMessage()


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=naming(tmp_path / "missing/s")):
        make_secret_file(str(tmp_path / "missing" / "s"))
