"""The options that submit_workers and a factory share."""

from __future__ import annotations

import pytest

from vine_sharedport.condor.worker_job.options import WorkerOptions
from vine_sharedport.factory.options.schema import Options


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("memory", "2GB", 2048), ("memory", "512", 512), ("disk", "1.5 TB", 1572864),
        ("cores", "1", 1), ("timeout", "5m", 300),
    ],
)  # fmt: skip
def test_text_stands_for_a_number_as_in_a_factory(name: str, value: str, expected: int) -> None:
    given = {name: value}
    assert getattr(WorkerOptions.of(**given), name) == expected
    assert getattr(Options.make(given), name) == expected
