"""What submit_workers takes."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

from vine_sharedport.condor.worker_job.options import WorkerOptions
from vine_sharedport.condor.worker_job.submit import submit_workers
from vine_sharedport.factory.options.schema import Options


def test_submit_workers_and_a_factory_have_the_same_names(tmp_path: Path) -> None:
    shared = {option.name for option in dataclasses.fields(WorkerOptions)}
    assert shared <= {option.name for option in dataclasses.fields(Options)}
    arguments = set(inspect.signature(submit_workers).parameters)
    assert arguments >= shared
    ours = {"manager", "count"}
    assert arguments - ours <= {option.name for option in dataclasses.fields(Options)}
