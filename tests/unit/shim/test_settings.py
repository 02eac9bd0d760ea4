"""Settings that cannot be used end the worker at once, with a message that says why."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from .support import CONNECT, SECRET, SOCK_ID, Client, EchoManager, Result

NOT_USABLE = 78
GOOD = f"<127.0.0.1:9618?sock={SOCK_ID}>"


def check_refused(done: Result, *texts: str) -> None:
    assert done.status == NOT_USABLE, done.stderr
    assert done.stdout == ""  # the worker has not begun
    (line,) = done.stderr.splitlines()
    assert line.startswith("vine_sharedport: ")
    for text in texts:
        assert text in line


BAD_ADDRESSES = {
    "127.0.0.1:9618": "angle brackets",
    "<>": "host or port",
    "<127.0.0.1:9618>": "no sock= parameter",
    "<127.0.0.1:9618?sock=>": "no sock= parameter",
    f"<127.0.0.1?sock={SOCK_ID}>": "no port",
    f"<127.0.0.1:65536?sock={SOCK_ID}>": "host or port",
    f"<127.0.0.1:-1?sock={SOCK_ID}>": "host or port",
    f"<256.0.0.1:1?sock={SOCK_ID}>": "host or port",
    f"<10.1:9618?sock={SOCK_ID}>": "host or port",
    "<127.0.0.1:9618?sock=../../etc/passwd>": "sock id",
    "<127.0.0.1:9618?sock=" + "x" * 42 + ">": "41 characters",
    "<127.0.0.1:9618?sock=self>": "sock id",
    f"<127.0.0.1:9618?addrs=nonsense&sock={SOCK_ID}>": "addrs",
    f"<127.0.0.1:9618?sock={SOCK_ID}%zz>": "parameter",
    "<127.0.0.1:9618?sock=a b>": "blank",
    "<127.0.0.1:9618?sock=a\x1b[31mred>": "control",
    "<127.0.0.1:9618?sock=" + "x" * 20000 + ">": "16384",
    "<" + "[" * 5000: "angle brackets",
}  # fmt: skip


@pytest.mark.parametrize("address", BAD_ADDRESSES, ids=lambda text: ascii(text)[:40])
def test_an_address_that_is_none_is_refused(client: Client, address: str) -> None:
    check_refused(client.run("env", address=address), "address", BAD_ADDRESSES[address])


def test_a_message_forges_no_line_and_steers_no_terminal(glibc: Client) -> None:
    done = glibc.run("env", address="<a\nvine_sharedport: all is well\x1b[2J>")
    check_refused(done)
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5", "9" * 30, " 5"])
def test_a_time_limit_that_is_none_is_refused(glibc: Client, limit: str) -> None:
    done = glibc.run("env", address=GOOD, connect_timeout=limit)
    check_refused(done, "VINE_SHAREDPORT_CONNECT_TIMEOUT", limit, "seconds")


@pytest.mark.parametrize(
    "text",
    ["25", "25/25", "25/25/24/1", "0/1/1", "1/1/128", "1//1", "/", "32768/1/1", "on", "1/1/1 "],
)
def test_a_keepalive_that_is_none_is_refused(glibc: Client, text: str) -> None:
    done = glibc.run("env", address=GOOD, keepalive=text)
    check_refused(done, "VINE_SHAREDPORT_KEEPALIVE", text, "IDLE/INTERVAL/COUNT")


@pytest.mark.parametrize("name", ["address", "secret_file", "connect_timeout", "keepalive"])
def test_an_empty_variable_is_like_none(glibc: Client, name: str) -> None:
    variables = {"address": GOOD, name: ""}
    done = glibc.run("env", **variables)
    assert (done.status, done.stderr) == (0, "")


# --- the secret's file ------------------------------------------------------------------


def refuse_file(client: Client, path: Path | str, *texts: str) -> None:
    started = time.monotonic()
    done = client.run("env", address=GOOD, secret_file=str(path))
    assert time.monotonic() - started < 5
    check_refused(done, "secret file", str(path)[:60], *texts)


def test_a_missing_file_is_refused(client: Client, tmp_path: Path) -> None:
    refuse_file(client, tmp_path / "none", "no such file")
    refuse_file(client, tmp_path / "none" / "none", "no such file")


def test_a_name_that_is_too_long_is_refused(glibc: Client) -> None:
    refuse_file(glibc, "/" + "x" * 5000, "name too long")


@pytest.mark.true_uid
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_refused(client: Client, tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(SECRET)
    (tmp_path / "s").chmod(0)
    refuse_file(client, tmp_path / "s", "permission denied")


def test_a_directory_is_refused(client: Client, tmp_path: Path) -> None:
    refuse_file(client, tmp_path, "no regular file")


def test_a_fifo_is_refused_without_waiting(client: Client, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s")
    refuse_file(client, tmp_path / "s", "no regular file")


def test_a_device_is_refused(glibc: Client) -> None:
    refuse_file(glibc, "/dev/zero", "no regular file")


@pytest.mark.parametrize("size", [0, 1, 31])
def test_a_short_file_is_refused(client: Client, tmp_path: Path, size: int) -> None:
    (tmp_path / "s").write_bytes(bytes(size))
    refuse_file(client, tmp_path / "s", "fewer than 32 bytes")


@pytest.mark.parametrize("size", [33, 64, 100_000])
def test_a_long_file_is_refused(client: Client, tmp_path: Path, size: int) -> None:
    (tmp_path / "s").write_bytes(bytes(size))
    refuse_file(client, tmp_path / "s", "more than 32 bytes")


def test_a_file_that_others_can_read_is_a_warning(client: Client, tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(SECRET)
    for mode, said in ((0o644, 1), (0o640, 1), (0o600, 0)):
        (tmp_path / "s").chmod(mode)
        done = client.run("env", address=GOOD, secret_file=str(tmp_path / "s"))
        assert done.status == 0
        assert done.stderr.count("others can read the secret file") == said
    (tmp_path / "s").chmod(0o644)
    # The launcher compares what it hears.
    asked = client.run("env", address=GOOD, secret_file=str(tmp_path / "s"), check="1")
    assert (asked.stdout, asked.stderr) == ("vine_sharedport shim\n", "")


def test_a_secret_may_have_any_bytes_and_stand_behind_a_link(
    client: Client, manager: EchoManager, tmp_path: Path
) -> None:
    os.symlink(manager.secret_file, tmp_path / "link")
    done = client.run(*CONNECT, address=manager.address, secret_file=str(tmp_path / "link"))
    assert done.lines("connect") == ["0"], done.stderr
