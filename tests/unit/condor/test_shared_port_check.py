"""What the check of the shared port says, and its exit status."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vine_sharedport
from vine_sharedport.condor import bindings
from vine_sharedport.condor import shared_port_check as check
from vine_sharedport.condor.discovery import SharedPortLocation
from vine_sharedport.errors import DialError, Verdict
from vine_sharedport.wire.sinful import Sinful

ADDRESS = "<192.0.2.7:9618?addrs=192.0.2.7-9618+[2001-db8--7]-9618&alias=ap&noUDP>"
LOCATION = SharedPortLocation(Sinful.parse(ADDRESS), "/run/lock/condor/daemon_sock", "test")


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the settings of an HTCondor that is not needed."""
    found: dict[str, str] = {"SHARED_PORT_LOG": "/var/log/condor/SharedPortLog"}
    monkeypatch.setattr(bindings, "load", lambda: None)
    monkeypatch.setattr(bindings, "parameter", lambda _bindings, name: found.get(name))
    return found


def test_a_usable_shared_port_is_said_in_one_line_without_the_addresss_small_print() -> None:
    assert str(check.Checked(LOCATION, None)) == (
        "usable: HTCondor's shared port <192.0.2.7:9618> hands connections over to programs of "
        "this user"
    )


def test_nobody_behind_the_shared_port_names_directory_and_log(
    settings: dict[str, str],
) -> None:
    text = check._explained(DialError("x", Verdict.NOBODY_THERE), "", LOCATION)
    assert "does not reach sockets in /run/lock/condor/daemon_sock" in text
    assert "administrator" in text
    assert text.endswith("its log is /var/log/condor/SharedPortLog")


@pytest.mark.parametrize(
    ("reason", "refused", "wanted"),
    [
        ("no answer in time", "", "handed no connection over: no answer in time"),
        ("closed", "another user", "it was refused: another user"),
    ],
)
def test_other_failures_name_the_reason_and_the_log(
    settings: dict[str, str], reason: str, refused: str, wanted: str
) -> None:
    text = check._explained(DialError(reason), refused, LOCATION)
    assert wanted in text
    assert text.endswith("/var/log/condor/SharedPortLog")


def test_behind_a_forwarder_the_port_is_tried_on_its_own_host(
    settings: dict[str, str],
) -> None:
    forwarder = Sinful.parse("<198.51.100.1:9618?alias=ap>")
    assert check._from_here(forwarder) == forwarder
    settings["TCP_FORWARDING_HOST"] = "198.51.100.1"
    assert check._from_here(forwarder).addrs == [("127.0.0.1", 9618)]
    assert ("127.0.0.1", 9618) in check._from_here(LOCATION.address).addrs
    assert set(LOCATION.address.addrs) < set(check._from_here(LOCATION.address).addrs)


@pytest.mark.parametrize("version", [(3, 6, 8), (3, 8, 18)])
def test_an_old_python_is_named_before_anything_is_imported(version: tuple[int, ...]) -> None:
    program = (
        "import importlib.util, runpy, sys\n"
        "spec = importlib.util.find_spec('vine_sharedport.__main__')\n"
        f"sys.version_info = {version}\n"
        "sys.modules['vine_sharedport.cli'] = None\n"
        "runpy.run_path(spec.origin, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"is Python 3.{version[1]}, wanted is 3.9 or later" in done.stderr
    assert "Traceback" not in done.stderr
    # What Python 3.6 reads on its way to there must be Python 3.6.
    for name in ("__init__.py", "__main__.py"):
        source = Path(vine_sharedport.__file__).with_name(name).read_text()
        assert "from __future__ import annotations" not in source
        ast.parse(source, feature_version=(3, 6))
        assert not re.search(r"(->|:) (list|dict|set|tuple)\[", source)
