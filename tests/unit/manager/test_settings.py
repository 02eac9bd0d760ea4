"""What shared_port= takes, and what is refused with what can be chosen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.values import naming
from vine_sharedport.errors import SettingError
from vine_sharedport.manager.settings import SharedPort


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"name": 7}, ("name=7",)),
        ({"name": "../x"}, ("'../x'",)),
        ({"name": "a" * 42}, (41,)),
        ({"socket_dir": b"/x"}, (r"socket_dir=b'/x'",)),
        ({"address": 9618}, ("address=9618",)),
        ({"gate": "no"}, ("gate='no'", "True", "False")),
        ({"mode": "tcp"}, ("mode='tcp'", "auto", "direct", "relay")),
        ({"tcp": "none"}, ("tcp='none'", "all", "loopback", "off")),
    ],
)
def test_what_is_none_is_named(values: dict[str, Any], found: tuple[object, ...]) -> None:
    with pytest.raises(SettingError, match=naming(*found)):
        SharedPort(**values)


def test_a_name_stays_and_without_one_each_manager_gets_another() -> None:
    assert SharedPort("sweep").sock_id() == "sweep"
    nameless = SharedPort()
    assert nameless.sock_id() != nameless.sock_id()
    SharedPort(nameless.sock_id())  # it is a name that can be given
