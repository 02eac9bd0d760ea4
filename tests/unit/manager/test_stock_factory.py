"""Options of the stock factory, as ``vine_factory`` gets them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import vine_sharedport
from tests.values import naming
from vine_sharedport.errors import OptionError
from vine_sharedport.registry.reference import Reference
from vine_sharedport.wire.sinful import Sinful

ADDRESS = "<192.0.2.7:9618?sock=vine_42>"


def stock(tmp_path: Path, **options: Any) -> Any:
    pytest.importorskip("ndcctools.taskvine")
    reference = Reference(Sinful.parse(ADDRESS), directory=str(tmp_path))
    manager = SimpleNamespace(port=1234, shared_port=SimpleNamespace(reference=reference))
    factory = vine_sharedport.StockFactory("k8s", manager, **options)
    factory._config_file = "config"
    return factory


def test_the_stock_factory_gets_its_own_options_by_their_names(tmp_path: Path) -> None:
    there = str(tmp_path)
    line = stock(tmp_path, scratch_dir=there, k8s_image="vine")._construct_command_line()
    assert {f"--scratch-dir={there}", "--k8s-image=vine", "--wrapper=./launcher.sh"} <= {*line}
    line = stock(tmp_path, directory=there)._construct_command_line()
    assert f"--scratch-dir={there}" in line
    with pytest.raises(OptionError, match=naming("'k8s'", "spool", "'condor'")):
        stock(tmp_path, spool=True)
    with pytest.raises(OptionError, match=naming("max_workers")):
        stock(tmp_path, max_wrkers=1)


def test_a_wrapper_of_the_stock_factory_goes_around_the_launcher(tmp_path: Path) -> None:
    factory = stock(tmp_path, wrapper="nice")
    assert "--wrapper=nice ./launcher.sh" in factory._construct_command_line()
    factory.wrapper = "nice -n 5"
    for _ in range(2):
        assert "--wrapper=nice -n 5 ./launcher.sh" in factory._construct_command_line()
    assert factory.wrapper == "nice -n 5"
