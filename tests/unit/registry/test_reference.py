"""Which manager is meant: an address that leads to one, and what its workers need."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from tests.values import naming
from vine_sharedport.errors import SettingError, SinfulError
from vine_sharedport.registry.reference import Reference, check_address
from vine_sharedport.wire.sinful import Sinful

ADDRESS = "<192.0.2.7:9618?addrs=192.0.2.7-9618&sock=vine_42>"


@pytest.mark.parametrize(
    "text", ["<192.0.2.7:9618>", "<192.0.2.7:9618?sock=.a>", "<192.0.2.7:0?sock=a>"]
)
def test_an_address_that_leads_to_no_manager_is_refused(text: str) -> None:
    with pytest.raises(SinfulError, match=naming(text)):
        check_address(Sinful.parse(text))
    with pytest.raises(SinfulError, match=naming(text)):
        Reference.of(text)


def test_a_port_in_ones_own_private_network_is_one() -> None:
    text = "<192.0.2.7:0?PrivAddr=%3c10.0.0.1:9618%3e&PrivNet=here&sock=a>"
    check_address(Sinful.parse(text), "here")
    with pytest.raises(SinfulError):
        check_address(Sinful.parse(text), "there")


def test_a_manager_an_address_and_a_reference_mean_the_same() -> None:
    known = Reference(Sinful.parse(ADDRESS), secret_file="/s", name="sweep")
    manager = SimpleNamespace(shared_port=SimpleNamespace(reference=known))
    assert Reference.of(manager) == Reference.of(known) == known
    assert Reference.of(ADDRESS) == Reference.of(Sinful.parse(ADDRESS))
    assert Reference.of(ADDRESS).secret_file is None
    assert (known.sock_id, str(known)) == ("vine_42", ADDRESS)


def test_files_are_absolute_and_given_ones_win() -> None:
    known = Reference(Sinful.parse(ADDRESS), secret_file="/s", password_file="/p")
    found = Reference.of(known, secret_file="mine")
    assert found.secret_file == os.path.abspath("mine")
    assert found.password_file == "/p"


@pytest.mark.parametrize("manager", [SimpleNamespace(), SimpleNamespace(shared_port=None), 7])
def test_a_manager_without_a_shared_port_is_refused(manager: object) -> None:
    with pytest.raises(SettingError, match=naming("shared_port=True")):
        Reference.of(manager)


def test_a_system_that_is_none_is_refused() -> None:
    with pytest.raises(SettingError, match=naming("'dask'", "taskvine", "work_queue")):
        Reference(Sinful.parse(ADDRESS), system="dask")


def test_its_worker_gets_the_options_that_it_needs_each_once() -> None:
    address = Sinful.parse(ADDRESS)
    assert Reference(address, system=None).worker == "vine_worker"
    manager = Reference(
        address, system="work_queue", tls=True, tls_sni="host", password_file="/p"
    )
    assert manager.worker == "work_queue_worker"
    assert manager.worker_options(["--cores", "2"]) == [
        "--ssl", "--tls-sni", "host", "--password", "/p", "--cores", "2",
    ]  # fmt: skip
    given = ["--ssl", "-P", "/mine"]
    assert manager.worker_options(given) == ["--tls-sni", "host", *given]
    assert Reference(address).worker_options(["-x"]) == ["-x"]
