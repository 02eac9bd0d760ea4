"""Discovery without HTCondor: the bindings' absence, waiting, the messages."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.loopback import mute
from tests.values import naming
from vine_sharedport.condor import bindings as _htcondor
from vine_sharedport.condor import discovery, own_pool, reachability
from vine_sharedport.errors import DiscoveryError, MissingDependencyError
from vine_sharedport.wire.sinful import Sinful

# Written by condor_shared_port 23.9.6 of a personal pool; the address of HTCondor's
# manual put in.
AD = """\
MyAddress = "<192.0.2.7:9618?addrs=192.0.2.7-9618+[2001-db8--7]-9618&alias=ap&noUDP>"
RequestsBlocked = 0
RequestsFailed = 0
RequestsPendingCurrent = 0
RequestsPendingPeak = 0
RequestsSucceeded = 0
SharedPortCommandSinfuls = "<192.0.2.7:9618>"
"""
ADDRESS = "<192.0.2.7:9618?addrs=192.0.2.7-9618+[2001-db8--7]-9618&alias=ap&noUDP>"
SCHEDD = "<192.0.2.7:9618?addrs=192.0.2.7-9618&alias=ap&noUDP&sock=schedd_12_ab34>"


class FakeBindings(ModuleType):
    """As much of ``htcondor2`` as discovery uses; raises what 23.9 raises."""

    DaemonType = type("DaemonType", (), {"Schedd": "schedd"})

    def __init__(self) -> None:
        super().__init__("htcondor2")
        self.param: dict[str, Any] = {}
        self.schedd: str | None = None
        self.reloaded: list[str | None] = []

    def reload_config(self) -> None:
        self.reloaded.append(os.environ.get("CONDOR_CONFIG"))

    def Collector(self) -> FakeBindings:
        return self

    def locate(self, kind: str) -> dict[str, str]:
        assert kind == "schedd"
        if self.schedd is None:
            raise RuntimeError("Unable to locate local daemon.")
        return {"MyAddress": self.schedd}


@pytest.fixture
def htcondor2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeBindings:
    """Return bindings of a host whose shared port has written its ad file."""
    bindings = FakeBindings()
    monkeypatch.setitem(sys.modules, "htcondor2", bindings)
    monkeypatch.setattr(_htcondor, "_loaded_from", [])
    config = tmp_path / "condor_config"
    # With the name set, nothing asks the resolver.
    config.write_text("NETWORK_HOSTNAME = ap\n")
    monkeypatch.setenv("CONDOR_CONFIG", str(config))
    lock = tmp_path / "lock"
    (lock / "daemon_sock").mkdir(parents=True)
    (lock / "shared_port_ad").write_text(AD)
    bindings.param = {
        "DAEMON_SOCKET_DIR": "auto",
        "LOCK": str(lock),
        "SHARED_PORT_DAEMON_AD_FILE": str(lock / "shared_port_ad"),
        "SHARED_PORT_PORT": 9999,  # as untrue as the real one
        "USE_SHARED_PORT": True,
    }
    return bindings


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let discovery's waiting take no time; the list has what it slept."""
    slept: list[float] = []

    class Time:
        time = staticmethod(time.time)
        monotonic = staticmethod(lambda: sum(slept))
        sleep = staticmethod(slept.append)

    monkeypatch.setattr(discovery, "time", Time)
    return slept


# --- what is found -----------------------------------------------------------------------


def test_address_comes_from_the_ad_file_and_not_from_the_port_setting(
    htcondor2: FakeBindings, tmp_path: Path
) -> None:
    found = own_pool.discover(check=False)
    assert str(found.address) == ADDRESS
    assert found.ad_file == str(tmp_path / "lock" / "shared_port_ad")
    assert found.ad_file in found.source
    assert found.socket_dir == str(tmp_path / "lock" / "daemon_sock")


def test_socket_directory_that_is_not_auto_is_taken_as_it_is(htcondor2: FakeBindings) -> None:
    htcondor2.param["DAEMON_SOCKET_DIR"] = "/run/condor/daemon_sock"
    assert own_pool.discover(check=False).socket_dir == "/run/condor/daemon_sock"


def test_ad_file_that_is_briefly_absent_is_waited_for(
    htcondor2: FakeBindings, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    ad_file = Path(htcondor2.param["SHARED_PORT_DAEMON_AD_FILE"])
    ad_file.unlink()
    monkeypatch.setattr(
        discovery.time,
        "sleep",
        lambda s: (clock.append(s), len(clock) > 5 and ad_file.write_text(AD)),
    )
    assert str(own_pool.discover(check=False).address) == ADDRESS
    assert len(clock) > 5


@contextmanager
def _master(tmp_path: Path) -> Iterator[None]:
    """Run a process of this user that is called as HTCondor's."""
    program = tmp_path / "condor_master"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as process:
        name = Path(f"/proc/{process.pid}/comm")
        while name.read_text() != "condor_master\n":
            time.sleep(0.01)
        yield
        process.kill()


def _gone_for_long(ad_file: str) -> None:
    """Remove an ad file as if that had been an hour ago."""
    os.unlink(ad_file)
    os.utime(os.path.dirname(ad_file), (time.time() - 3600,) * 2)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be no condor_master, such as that of the other tests' pool."""
    monkeypatch.setattr(discovery, "_processes", lambda: ["1", str(os.getpid())])


@pytest.mark.usefixtures("alone")
def test_nobody_is_waited_for_where_htcondor_does_not_run(
    htcondor2: FakeBindings, clock: list[float]
) -> None:
    _gone_for_long(htcondor2.param["SHARED_PORT_DAEMON_AD_FILE"])
    with pytest.raises(DiscoveryError, match=r"shared_port_ad .*systemctl start condor"):
        own_pool.discover(check=False)
    assert clock == []


@pytest.mark.usefixtures("alone")
def test_a_killed_htcondors_ad_is_not_waited_for(
    htcondor2: FakeBindings, clock: list[float]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        address = f"<127.0.0.1:{nobody.getsockname()[1]}>"
        ad_file = Path(htcondor2.param["SHARED_PORT_DAEMON_AD_FILE"])
        ad_file.write_text(f'MyAddress = "{address}"\n')
        with pytest.raises(DiscoveryError, match=re.escape(address)):
            own_pool.discover()
    assert clock == []


def test_a_master_is_given_time_to_start_its_shared_port_again_and_that_is_said(
    htcondor2: FakeBindings,
    clock: list[float],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _gone_for_long(htcondor2.param["SHARED_PORT_DAEMON_AD_FILE"])
    with _master(tmp_path), pytest.raises(DiscoveryError, match="systemctl start condor"):
        own_pool.discover(check=False)
    assert sum(clock) >= 5
    assert caplog.text.count(" 5 s") == 1


def test_another_users_master_is_not_waited_for(
    htcondor2: FakeBindings,
    clock: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ad_file = htcondor2.param["SHARED_PORT_DAEMON_AD_FILE"]
    _gone_for_long(ad_file)
    stat = os.stat

    def of_somebody(path: Any, **options: Any) -> Any:
        found = stat(path, **options)
        if path != os.path.dirname(ad_file):
            return found
        return os.stat_result((*found[:4], 4711, *found[5:10]))

    with _master(tmp_path), monkeypatch.context() as patch:
        patch.setattr(discovery.os, "stat", of_somebody)
        assert not discovery._may_come_back(ad_file)
    assert clock == []


def test_schedds_address_serves_without_its_sock_where_the_ad_file_is_missing(
    htcondor2: FakeBindings, clock: list[float]
) -> None:
    Path(htcondor2.param["SHARED_PORT_DAEMON_AD_FILE"]).unlink()
    private = "<10.1.2.3:9618?sock=schedd_12_ab34>"
    htcondor2.schedd = str(Sinful.parse(SCHEDD).with_param("PrivAddr", private))
    found = own_pool.discover(check=False)
    assert found.source == "the schedd's address"
    assert found.address.sock is None
    assert str(found.address.private_address) == "<10.1.2.3:9618>"
    assert "sock" not in str(found.address)
    assert sum(clock) >= 5  # the ad file was given its time first


def test_what_is_given_wins_and_needs_no_bindings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "htcondor2", None)
    found = own_pool.discover(address=SCHEDD, socket_dir=str(tmp_path), check=False)
    assert found.address.sock is None
    assert found.address.port == 9618
    assert found.socket_dir == str(tmp_path)
    assert found.ad_file is None


def test_given_address_wins_over_a_switched_off_shared_port(htcondor2: FakeBindings) -> None:
    htcondor2.param["USE_SHARED_PORT"] = False
    found = own_pool.discover(address="<192.0.2.9:1234>", check=False)
    assert str(found.address) == "<192.0.2.9:1234>"


@pytest.mark.parametrize("kind", ["refuses", "is mute", "is drawn"])
def test_a_given_address_that_only_workers_reach_is_taken_with_a_warning(
    htcondor2: FakeBindings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    kind: str,
) -> None:
    monkeypatch.setattr(reachability, "_CONNECT_TIMEOUT", 0.3)
    with socket.socket() as bound, socket.socket() as other, mute() as mute_port:
        drawn = f"127.{random.randrange(256)}.{random.randrange(256)}.2"
        bound.bind(("127.0.0.1", 0))  # and does not listen
        other.bind((drawn, 0))
        text = {
            "refuses": f"<127.0.0.1:{bound.getsockname()[1]}>",
            "is mute": f"<127.0.0.1:{mute_port}>",
            "is drawn": f"<{drawn}:{other.getsockname()[1]}>",
        }[kind]
        found = own_pool.discover(address=text, socket_dir=str(tmp_path))
    assert str(found.address) == text
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert text in record.getMessage()


def test_changed_configuration_is_read_again(
    htcondor2: FakeBindings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own_pool.discover(check=False)
    own_pool.discover(check=False)
    other = tmp_path / "other_config"
    other.write_text("NETWORK_HOSTNAME = ap\n")
    monkeypatch.setenv("CONDOR_CONFIG", str(other))
    own_pool.discover(check=False)
    assert htcondor2.reloaded == [str(tmp_path / "condor_config"), str(other)]


# --- what is missing ---------------------------------------------------------------------


@pytest.mark.parametrize("value", [False, "false", "F", "no", "0"])
def test_switched_off_shared_port_is_named(htcondor2: FakeBindings, value: object) -> None:
    htcondor2.param["USE_SHARED_PORT"] = value
    with pytest.raises(DiscoveryError, match=r"USE_SHARED_PORT.*pool start"):
        own_pool.discover(check=False)


def test_shared_port_that_does_not_run_is_named_with_both_reasons(
    htcondor2: FakeBindings, clock: list[float]
) -> None:
    Path(htcondor2.param["SHARED_PORT_DAEMON_AD_FILE"]).unlink()
    with pytest.raises(
        DiscoveryError, match=r"shared_port_ad .*schedd.*systemctl start condor"
    ):
        own_pool.discover(check=False)


def test_schedd_with_a_port_of_its_own_is_no_shared_port(
    htcondor2: FakeBindings, clock: list[float]
) -> None:
    Path(htcondor2.param["SHARED_PORT_DAEMON_AD_FILE"]).unlink()
    htcondor2.schedd = "<192.0.2.7:4321>"
    with pytest.raises(DiscoveryError, match=naming("<192.0.2.7:4321>")):
        own_pool.discover(check=False)


def test_host_without_condor_directories_is_told_at_once(
    htcondor2: FakeBindings, clock: list[float], tmp_path: Path
) -> None:
    htcondor2.param["SHARED_PORT_DAEMON_AD_FILE"] = str(tmp_path / "gone" / "shared_port_ad")
    with pytest.raises(DiscoveryError, match=r"gone/shared_port_ad .*systemctl start condor"):
        own_pool.discover(check=False)
    assert clock == []


@pytest.mark.parametrize("address", ["192.0.2.7:9618", "<192.0.2.7>", "<192.0.2.7:0>"])
def test_given_text_that_is_no_address_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(DiscoveryError, match=re.escape(address)):
        own_pool.discover(address=address, socket_dir=str(tmp_path), check=False)


def test_missing_bindings_say_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "htcondor2", raising=False)
    monkeypatch.setattr(_htcondor.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"htcondor2.*install"):
        own_pool.discover()


@pytest.mark.parametrize("source", ["/nonexistent/condor_config", "/dev/null", "/"])
def test_missing_configuration_is_named(
    htcondor2: FakeBindings, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("CONDOR_CONFIG", source)
    with pytest.raises(DiscoveryError, match=r"CONDOR_CONFIG"):
        own_pool.discover()
    assert htcondor2.reloaded == []


def test_a_configuration_that_is_gone_is_to_be_unset(
    htcondor2: FakeBindings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "gone"
    monkeypatch.setenv("CONDOR_CONFIG", str(path))
    with pytest.raises(DiscoveryError, match=naming(f"'{path}'", "'unset CONDOR_CONFIG'")):
        own_pool.discover()
    path.mkdir()
    with pytest.raises(DiscoveryError, match=r"^(?!.*unset).*/gone'"):
        own_pool.discover()


@pytest.mark.parametrize("source", ["ONLY_ENV", "condor_fetch_config |"])
def test_configuration_that_is_no_file_is_accepted(
    monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("CONDOR_CONFIG", source)
    assert _htcondor.config_source() == source


def test_settings_in_the_environment_are_a_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CONDOR_CONFIG", "/dev/null")
    monkeypatch.setenv("_condor_LOCK", "/run/lock/condor")
    assert _htcondor.config_source() == "/dev/null"


# --- the host name -----------------------------------------------------------------------


def _resolver(answer: OSError | None) -> Any:
    def getaddrinfo(*args: object, **kwargs: object) -> list[Any]:
        if answer is not None:
            raise answer
        return []

    return getaddrinfo


def test_host_name_on_which_htcondor_would_hang_is_named(
    htcondor2: FakeBindings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(os.environ["CONDOR_CONFIG"]).write_text("")
    failure = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    monkeypatch.setattr(_htcondor.socket, "getaddrinfo", _resolver(failure))
    with pytest.raises(DiscoveryError, match=r"name resolution.*/etc/hosts"):
        own_pool.discover(check=False)
    assert htcondor2.reloaded == []


@pytest.mark.parametrize(
    "answer", [None, socket.gaierror(socket.EAI_NONAME, "Name or service not known")]
)
def test_host_name_on_which_htcondor_goes_on_is_none_of_our_business(
    htcondor2: FakeBindings, monkeypatch: pytest.MonkeyPatch, answer: OSError | None
) -> None:
    Path(os.environ["CONDOR_CONFIG"]).write_text("")
    monkeypatch.setattr(_htcondor.socket, "getaddrinfo", _resolver(answer))
    assert str(own_pool.discover(check=False).address) == ADDRESS


# --- the socket directory ----------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "daemon_sock"


def _refusal(path: Path | str) -> str:
    with pytest.raises(DiscoveryError) as caught:
        discovery._check_socket_dir(str(path))
    return str(caught.value)


def test_directory_is_made_where_the_place_is_the_users_own(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "_may_create", lambda path: True)
    discovery._check_socket_dir(str(directory))
    assert directory.stat().st_mode & 0o7777 == 0o700


def test_directory_in_somebody_elses_place_is_left_to_the_administrator(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "_may_create", lambda path: False)
    message = _refusal(directory)
    assert str(directory) in message
    assert f"d {os.path.realpath(directory)} 1733 root root -" in message
    assert "DAEMON_SOCKET_DIR" in message
    assert not directory.exists()


@pytest.mark.parametrize("user", [0, 4711, os.geteuid()])
def test_only_an_ordinary_users_own_place_is_made_in(
    directory: Path, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    monkeypatch.setattr(discovery.os, "geteuid", lambda: user)
    assert discovery._may_create(str(directory)) is (
        user != 0 and directory.parent.stat().st_uid == user
    )


def test_tmpfiles_line_names_the_place_behind_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As /var/lock is a link to /run/lock on Debian, and tmpfiles.d objects to it.
    (tmp_path / "run").mkdir()
    (tmp_path / "var").symlink_to("run")
    monkeypatch.setattr(discovery, "_may_create", lambda path: False)
    assert f"d {os.path.realpath(tmp_path)}/run/sock 1733" in _refusal(tmp_path / "var/sock")


def test_file_in_place_of_the_directory_is_named(directory: Path) -> None:
    directory.write_text("")
    assert f"{directory} " in _refusal(directory)


def test_directory_that_is_not_writable_is_named_with_its_mode(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir(mode=0o755)
    monkeypatch.setattr(discovery.os, "access", lambda path, mode: False)
    message = _refusal(directory)
    assert re.search(naming(directory, "0755"), message)
    assert "1733 root root" in message


@pytest.mark.parametrize(
    ("mode", "refused"),
    [(0o777, True), (0o703, True), (0o773, True), (0o1777, False), (0o1733, False),
     (0o700, False), (0o770, False)],
)  # fmt: skip
@pytest.mark.parametrize("mine", [True, False])
def test_directory_where_others_can_replace_a_socket_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch, mode: int, refused: bool, mine: bool
) -> None:
    directory.mkdir()
    directory.chmod(mode)
    if not mine:
        monkeypatch.setattr(discovery.os, "geteuid", lambda: 4242)
    if not refused:
        discovery._check_socket_dir(str(directory))
        return
    message = _refusal(directory)
    assert re.search(naming(directory, f"{mode:04o}"), message)
    assert ("chmod o-w" in message) is mine
    assert ("1733 root root" in message) is not mine


def test_path_of_89_characters_is_the_longest() -> None:
    longest = "/nonexistent/" + "d" * (89 - len("/nonexistent/"))
    assert "tmpfiles" in _refusal(longest)
    message = _refusal(longest + "d")
    assert re.search(naming(90, 89), message)
    assert "condor_reconfig" in message


def test_relative_path_is_refused() -> None:
    assert "absolute" in _refusal("daemon_sock")


def test_directory_that_cannot_be_made_is_named(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdir(path: str, mode: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(discovery, "_may_create", lambda path: True)
    monkeypatch.setattr(discovery.os, "mkdir", mkdir)
    assert "Read-only file system" in _refusal(directory)
