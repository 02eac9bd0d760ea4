"""What a factory's status consists of."""

from __future__ import annotations

import pytest

from vine_sharedport.factory.report.record import WorkerSize


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (WorkerSize(), "1 core"),
        (WorkerSize(cores=1, memory=100, disk=50, gpus=0), "1 core, 100 MB, 50 MB of disk"),
        (WorkerSize(cores=8, gpus=1), "8 cores, 1 GPU"),
        (WorkerSize(gpus=2), "1 core, 2 GPUs"),
        (WorkerSize(cores=8, autosize=True), "its whole slot"),
    ],
)  # fmt: skip
def test_what_a_worker_gets_is_told_in_words(size: WorkerSize, text: str) -> None:
    assert str(size) == text
