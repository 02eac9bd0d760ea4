"""What submit_workers takes."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest

from vine_sharedport.condor.worker_job.options import WorkerOptions
from vine_sharedport.condor.worker_job.submit import WorkerJobs, submit_workers
from vine_sharedport.errors import DiscoveryError, ScheddError
from vine_sharedport.factory.options.schema import Options


def test_submit_workers_and_a_factory_have_the_same_names(tmp_path: Path) -> None:
    shared = {option.name for option in dataclasses.fields(WorkerOptions)}
    assert shared <= {option.name for option in dataclasses.fields(Options)}
    arguments = set(inspect.signature(submit_workers).parameters)
    assert arguments >= shared
    ours = {"manager", "count"}
    assert arguments - ours <= {option.name for option in dataclasses.fields(Options)}


@pytest.mark.parametrize(
    "error",
    [ScheddError("gone"), DiscoveryError("none"), OSError(2, "gone"), RuntimeError("x")],
)
def test_jobs_that_cannot_be_removed_leave_the_programs_exception(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(WorkerJobs, "remove", fail)
    with pytest.raises(KeyError, match="mine"), WorkerJobs(7, 1, "/d", ""):
        raise KeyError("mine")
    assert "condor_rm 7" in caplog.text
    assert str(error) in caplog.text
