"""The names of ``vine_sharedport.work_queue``: ours, and those of Work Queue."""

from __future__ import annotations

import subprocess
import sys

import pytest

import vine_sharedport
from vine_sharedport import work_queue as wq


def test_what_is_ours_is_here_too_and_what_is_taskvines_is_not() -> None:
    assert wq.SharedPort is vine_sharedport.SharedPort
    assert wq.submit_workers is vine_sharedport.submit_workers
    pytest.importorskip("ndcctools.work_queue")
    for name in ("Manager", "no_such_name", "_private"):
        with pytest.raises(AttributeError, match=name):
            getattr(wq, name)


def test_work_queues_own_names_are_found() -> None:
    stock = pytest.importorskip("ndcctools.work_queue")
    assert wq.Task is stock.Task
    assert issubclass(wq.WorkQueue, stock.WorkQueue)
    assert {"WorkQueue", "Factory", "StockFactory", "Task", "SharedPort"} <= {*dir(wq)}
    assert "Manager" not in dir(wq)


def test_importing_it_loads_no_work_queue() -> None:
    program = (
        "import sys, vine_sharedport.work_queue; "
        "assert not {'ndcctools', 'ndcctools.work_queue'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
