"""How silent connections are probed: what users write, and what the kernel then has."""

from __future__ import annotations

import random
import socket

import pytest

from vine_sharedport import environment
from vine_sharedport.errors import SettingError
from vine_sharedport.keepalive import DEFAULT, Keepalive, chosen_keepalive, parse_keepalive
from vine_sharedport.manager.settings import SharedPort

DRAWN = f"{random.randint(1, 32767)}/{random.randint(1, 32767)}/{random.randint(1, 127)}"


def probes(sock: socket.socket) -> tuple[int, int, int]:
    """Return what the kernel has for a socket."""
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    idle, interval, count = (sock.getsockopt(socket.IPPROTO_TCP, name) for name in options)
    return idle, interval, count


@pytest.mark.parametrize(
    "text", ["25/25/24", "1/1/1", "32767/32767/127", pytest.param(DRAWN, id="drawn")]
)
def test_a_setting_becomes_the_sockets(text: str) -> None:
    found = parse_keepalive(text, "")
    assert found is not None
    assert str(found) == text
    with socket.socket() as sock:
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        found.apply(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert probes(sock) == found


WRONG = [
    *("", "25", "25/25", "25/25/24/1", "0/25/24", "25/0/24", "25/25/0", "-1/25/24"),
    *("32768/25/24", "25/32768/24", "25/25/128", "25 /25/24", "25/25/24\n", "1.5/25/24"),
    *("OFF", "none", "٢٥/25/24"),
    pytest.param(f"{random.randint(32768, 99999)}/25/24", id="drawn"),
]


@pytest.mark.parametrize("text", WRONG, ids=ascii)
def test_a_setting_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError):
        SharedPort(keepalive=text)
    monkeypatch.setenv(environment.KEEPALIVE, text)
    if text:  # an empty variable is like none
        with pytest.raises(SettingError):
            chosen_keepalive()


def test_what_is_given_goes_before_the_environment_and_that_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(environment.KEEPALIVE, raising=False)
    assert chosen_keepalive() == DEFAULT == (8, 8, 75)
    monkeypatch.setenv(environment.KEEPALIVE, DRAWN)
    assert str(chosen_keepalive()) == DRAWN
    assert chosen_keepalive("7/8/9") == Keepalive(7, 8, 9)
    assert chosen_keepalive("off") is None
    monkeypatch.setenv(environment.KEEPALIVE, "off")
    assert chosen_keepalive() is None
