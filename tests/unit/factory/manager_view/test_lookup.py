"""Which manager a name leads to, for a factory that was started before it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TextIO

import pytest

from tests.values import naming
from vine_sharedport.errors import SettingError
from vine_sharedport.factory import setup
from vine_sharedport.factory.manager_view import lookup
from vine_sharedport.factory.manager_view.lookup import default_directory
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.options.stored import read_config, write_config
from vine_sharedport.factory.report import paths, runs
from vine_sharedport.registry.reference import Reference
from vine_sharedport.registry.run_file import LOG_FILE, write_run_file
from vine_sharedport.wire.sinful import Sinful

HOST = Sinful.parse("<192.0.2.7:9618>")
Start = Callable[..., TextIO]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    location = SimpleNamespace(address=HOST, socket_dir=str(tmp_path))
    for module in (lookup, runs):
        monkeypatch.setattr(module, "discover", lambda: location)
    return tmp_path


@pytest.fixture
def start(here: Path) -> Iterator[Start]:
    """Return a function that does as a manager here does; to close its log ends it."""
    with contextlib.ExitStack() as stack:

        def run(
            name: str | None, sock_id: str, secret: str | None, *, ssl: bool = False
        ) -> TextIO:
            logs = here / "vine-run-info" / sock_id / "vine-logs"
            logs.mkdir(parents=True)
            endpoint = stack.enter_context(socket.socket(socket.AF_UNIX))
            endpoint.bind(str(here / sock_id))
            endpoint.listen()
            log = stack.enter_context(open(logs / LOG_FILE, "w"))
            address, directory = HOST.with_sock(sock_id), str(logs)
            write_run_file(
                Reference(
                    address, secret, tls=ssl, name=name, directory=directory,
                    socket=str(here / sock_id), password_file="/the.password" if ssl else None,
                )
            )  # fmt: skip
            return log

        yield run


def waiting(**more: object) -> Options:
    """Return the options with which a factory has begun that waits for "sweep"."""
    return Options.make({
        "manager_name": "sweep", **lookup.values_of(lookup.find_by_name("sweep")), **more,
    })  # fmt: skip


def where(options: Options) -> tuple[str | None, str | None]:
    return Sinful.parse(options.address or "").sock, options.secret_file


def test_a_secret_that_comes_after_the_factory_is_found(here: Path) -> None:
    before = waiting()
    assert where(before) == ("sweep", None)
    assert lookup.look_again(before) == before
    secret = here / "vine-run-info" / "shared_port-sweep.secret"
    secret.parent.mkdir()
    secret.write_bytes(bytes(32))
    after = lookup.look_again(before)
    assert where(after) == ("sweep", str(secret))
    assert lookup.look_again(after) == after
    own = waiting(secret_file="/own")
    assert lookup.look_again(own) == own


@pytest.mark.parametrize("sock_id", ["sweep", "vine_1_a"])
def test_a_manager_that_comes_after_the_factory_is_found_in_both_forms(
    start: Start, sock_id: str
) -> None:
    before = waiting()
    start(None if sock_id == "sweep" else "sweep", sock_id, "/the.secret", ssl=True)
    after = lookup.look_again(before)
    assert where(after) == (sock_id, "/the.secret")
    assert after.ssl
    assert after.password_file == waiting().password_file == "/the.password"
    own = lookup.look_again(waiting(password_file="/own"))
    assert own.password_file == "/own"
    assert lookup.look_again(after) == after


def test_a_manager_of_another_htcondor_is_told_from_one_of_this(
    start: Start, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "link").symlink_to(here)
    location = SimpleNamespace(address=HOST, socket_dir=str(here / "link"))
    monkeypatch.setattr(lookup, "discover", lambda: location)
    start("sweep", "vine_1_a", None)
    assert where(waiting()) == ("vine_1_a", None)
    location.socket_dir = str(here / "elsewhere")
    with pytest.raises(SettingError, match=r"sweep .*--no-own-pool") as caught:
        waiting()
    assert f"{here}," in str(caught.value)
    assert f"{here}/elsewhere" in str(caught.value)


def test_one_that_was_started_again_is_found_with_its_own_secret_or_none(
    start: Start, here: Path
) -> None:
    first = start("sweep", "vine_1_a", "/first.secret", ssl=True)
    before = waiting()
    assert where(before) == ("vine_1_a", "/first.secret")
    assert before.ssl
    first.close()
    assert lookup.look_again(before) == before, "nobody is there: nothing is better"
    start("sweep", "vine_2_b", None)
    after = lookup.look_again(before)
    assert where(after) == ("vine_2_b", None)
    assert not after.ssl


def test_what_was_given_as_an_address_is_not_followed(start: Start) -> None:
    start("sweep", "vine_1_a", None)
    given = {"address": "<192.0.2.9:9618?sock=far>", "manager_name": "sweep"}
    options = setup.resolve(given)
    assert where(options) == ("far", None)
    assert lookup.look_again(options) == options


def test_a_file_that_was_given_wins_over_the_managers(start: Start, here: Path) -> None:
    start("sweep", "vine_1_a", "/the.secret", ssl=True)
    own = here / "own"
    own.write_text("open sesame")
    options = setup.resolve({"manager_name": "sweep", "password_file": str(own)})
    assert (options.password_file, options.secret_file) == (str(own), "/the.secret")


def test_a_factory_is_where_the_name_says_whether_its_manager_is_there_or_not(
    start: Start, here: Path
) -> None:
    wanted = str(here / "vine-factory-sweep")
    assert setup.choose_directory(waiting()) == wanted
    start("sweep", "vine_1_a", None)
    assert where(waiting())[0] == "vine_1_a"
    assert setup.choose_directory(waiting()) == wanted


# --- and the configuration


@pytest.fixture
def directory(here: Path) -> str:
    (here / "f").mkdir()
    return str(here / "f")


def config(directory: str) -> str:
    return os.path.join(directory, paths.CONFIG)


def test_the_configuration_follows_the_name_once(start: Start, directory: str) -> None:
    write_config(config(directory), waiting(max_workers=7))
    assert not setup.follow_name(directory)
    start("sweep", "vine_1_a", "/the.secret")
    assert setup.follow_name(directory)
    found = read_config(config(directory))
    assert where(found) == ("vine_1_a", "/the.secret")
    assert found.max_workers == 7
    assert not setup.follow_name(directory)


def test_what_the_users_file_says_of_the_manager_holds(
    start: Start, directory: str, here: Path
) -> None:
    mine = here / "mine.json"
    mine.write_text('{"secret-file": "/own"}')
    write_config(config(directory), waiting(secret_file="/own", config_file=str(mine)))
    start("sweep", "vine_1_a", "/the.secret")
    assert not setup.follow_name(directory)
    assert where(read_config(config(directory))) == ("sweep", "/own")


def test_of_two_with_the_name_none_is_taken_and_that_is_told_once(
    start: Start, directory: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_config(config(directory), waiting())
    start("sweep", "vine_1_a", None)
    start("sweep", "vine_2_b", None)
    with pytest.raises(SettingError, match=naming(2)):
        lookup.look_again(waiting_at_first := read_config(config(directory)))
    with caplog.at_level(logging.WARNING):
        assert not setup.follow_name(directory)
        assert not setup.follow_name(directory)
    assert caplog.text.count("sock=vine_2_b>'") == 1
    assert read_config(config(directory)) == waiting_at_first


def test_what_is_waited_for_is_said_with_what_runs_here(start: Start) -> None:
    options = waiting()
    assert "the factory still waits for one to be started there" in lookup.still_waiting(
        options
    )
    start("sweap", "vine_1_a", None)
    said = lookup.still_waiting(options)
    assert "There is 'sweap': vine_sharedport factory -M sweap" in said
    start("sweep", "vine_2_a", None)
    assert "no manager has answered" in lookup.still_waiting(options)


def test_the_default_directory_is_the_same_again_unless_it_is_in_use(tmp_path: Path) -> None:
    first = default_directory(str(tmp_path), "sweep")
    assert first == str(tmp_path / "vine-factory-sweep")
    os.mkdir(first)
    lock = paths.lock_directory(first)
    assert lock is not None
    try:
        assert default_directory(str(tmp_path), "sweep") == first + "-2"
    finally:
        os.close(lock)
    assert default_directory(str(tmp_path), "sweep") == first
