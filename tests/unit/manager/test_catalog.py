"""A manager with a name is warned of a name service that does not answer, and of no other."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from vine_sharedport.manager import catalog
from vine_sharedport.manager.catalog import CatalogCheck

DRAWN = f"catalog-{random.randrange(10**9)}.example.org"


@pytest.fixture
def name_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], list[str]]]:
    """Set what the name service does; returns the hosts that it is asked for."""
    over = threading.Event()
    monkeypatch.setattr(catalog, "_PATIENCE", 0.2)
    catalog._ask.cache_clear()
    catalog._warn.cache_clear()

    def set_up(does: str) -> list[str]:
        asked: list[str] = []

        def look_up(host: str, _: object) -> list[object]:
            asked.append(host)
            if does == "hangs":
                over.wait(20)
            if does == "knows none":
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            if does == "fails":
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")
            return []

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        return asked

    yield set_up
    over.set()
    for thread in threading.enumerate():
        if thread.name == "look-up-catalog":
            thread.join()


@pytest.mark.parametrize(
    "hosts", [None, "localhost:9097", pytest.param(f"a.example.org:1,{DRAWN}:9097", id="drawn")]
)
@pytest.mark.parametrize("does", ["hangs", "knows none", "fails", "answers"])
def test_only_a_name_service_that_does_not_answer_is_warned_of(
    name_service: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    does: str,
    hosts: str | None,
) -> None:
    monkeypatch.delenv("CATALOG_HOST", raising=False)
    if hosts is not None:
        monkeypatch.setenv("CATALOG_HOST", hosts)
    asked = name_service(does)
    began = time.monotonic()
    CatalogCheck(begin=True).warn()
    assert time.monotonic() - began < 5
    if does == "hangs":
        (record,) = caplog.records
        assert hosts is None or hosts in record.getMessage()
        assert "CATALOG_HOST=localhost" in record.getMessage()
        CatalogCheck(begin=True).warn()
        assert len(caplog.records) == 1, "once"
    else:
        assert caplog.records == []
        expected = (hosts or catalog._DEFAULT).split(",")
        assert asked == [host.partition(":")[0] for host in expected]


def test_a_manager_without_a_name_asks_nobody(
    name_service: Callable[[str], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    asked = name_service("hangs")
    CatalogCheck(begin=False).warn()
    assert (asked, caplog.records) == ([], [])
