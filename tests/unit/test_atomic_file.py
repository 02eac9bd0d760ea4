"""Files are written whole or not at all."""

from __future__ import annotations

import ast
import os
import stat
from pathlib import Path

import pytest

import vine_sharedport
from vine_sharedport.atomic_file import write_atomically
from vine_sharedport.bundle.package import write_package

PACKAGE = Path(vine_sharedport.__file__).parent


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_who_has_the_former_file_open_reads_the_former_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(str(path), "old")
    with path.open() as reader:
        write_atomically(str(path), "a longer one")
        assert reader.read() == "old"
    assert path.read_text() == "a longer one"
    assert os.listdir(tmp_path) == ["file"]


def test_a_package_that_is_on_its_way_to_a_machine_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "vine_sharedport.pyz"
    path.write_bytes(b"of the version before")
    with path.open("rb") as transfer:
        assert transfer.read(3) == b"of "
        write_package(str(path))
        assert transfer.read() == b"the version before"
    assert path.read_bytes()[:2] == b"PK"


def test_the_mode_is_the_one_given_else_by_the_mask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for mode, wanted in ((None, 0o640), (0o600, 0o600), (0o755, 0o755)):
            write_atomically(str(tmp_path / "file"), b"", mode=mode)
            assert _mode(tmp_path / "file") == wanted
    finally:
        os.umask(before)


@pytest.mark.parametrize("replace", [True, False])
def test_nothing_is_left_of_a_file_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "kept").write_text("old")
    for name in ("replace", "link"):
        monkeypatch.setattr(os, name, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(str(tmp_path / "kept"), "new", replace=replace)
    assert os.listdir(tmp_path) == ["kept"]
    assert (tmp_path / "kept").read_text() == "old"


def test_links_are_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("mine")
    link.symlink_to(target)
    with pytest.raises(FileExistsError):
        write_atomically(str(link), "new", replace=False)
    write_atomically(str(link), "new")
    assert target.read_text() == "mine"
    assert not link.is_symlink()


def test_a_file_that_is_there_is_kept_if_wanted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(str(path), "first", replace=False)
    with pytest.raises(FileExistsError):
        write_atomically(str(path), "second", replace=False)
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("durable", [True, False])
def test_the_disk_is_waited_for_where_wanted_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append(stat.S_IFMT(os.fstat(fd).st_mode))
    )
    write_atomically(str(tmp_path / "file"), "text", durable=durable)
    assert synced == ([stat.S_IFREG, stat.S_IFDIR] if durable else [])


def test_a_name_of_the_longest_length_can_be_written(tmp_path: Path) -> None:
    longest = tmp_path / ("n" * 255)
    (tmp_path / "plain").write_text("")
    try:
        (tmp_path / "plain").rename(longest)
    except OSError:  # proot's own limit
        longest = tmp_path / ("n" * 128)
    write_atomically(str(longest), "text")
    assert longest.read_text() == "text"


def test_nobody_else_replaces_files() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name == "atomic_file.py":
            continue
        calls = {
            f"{node.value.id}.{node.attr}"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        }
        assert not calls & {"os.replace", "os.rename", "os.link"}, path
