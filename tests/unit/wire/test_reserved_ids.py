"""Sock ids that lead to HTCondor's own daemons are not ours to serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from vine_sharedport.errors import SettingError
from vine_sharedport.manager.settings import SharedPort
from vine_sharedport.serving.endpoint import Endpoint
from vine_sharedport.wire.reserved_ids import check_own_sock_id

RESERVED = [
    "collector", "collector01", "COLLECTOR", "http_api", "local", "self", "credd", "negotiator",
    "schedd_4_5277", "schedd_jobs2_77_a1b2_3", "startd_1_ab", "shadow_1_2_3", "starter_1_ff",
    "master_12_00af", "job_router_1_2", "c-gahp_1_2", "had", "view_server", "dagman_7_1",
]  # fmt: skip


@pytest.mark.parametrize("sock_id", RESERVED)
def test_an_id_of_htcondors_daemons_is_refused_wherever_one_is_served(
    sock_id: str, tmp_path: Path
) -> None:
    for serve in (
        check_own_sock_id,
        lambda name: SharedPort(name=name),
        lambda name: Endpoint(name, str(tmp_path)),
    ):
        with pytest.raises(SettingError, match=r"choose another") as caught:
            serve(sock_id)
        assert repr(sock_id) in str(caught.value) or f"'{sock_id}'" in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "sock_id", ["vine_1", "schedduler", "collectors", "handy", "my_schedd_1", "local_run"]
)
def test_others_that_only_look_like_them_are_served(sock_id: str) -> None:
    assert SharedPort(name=sock_id).name == sock_id


def test_the_proposed_id_can_be_served() -> None:
    with pytest.raises(SettingError) as caught:
        check_own_sock_id("schedd_" + "1" * 34)
    proposed = str(caught.value).rsplit("'", 2)[1]
    assert check_own_sock_id(proposed) == proposed
