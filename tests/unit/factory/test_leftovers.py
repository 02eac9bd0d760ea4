"""What a killed factory has left for another manager than the present one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from vine_sharedport.condor.personal_pool.user import owner
from vine_sharedport.condor.schedd import Schedd
from vine_sharedport.dialing import dial
from vine_sharedport.errors import DialError, ScheddError, Verdict, WrongSecretError
from vine_sharedport.factory import leftovers
from vine_sharedport.factory.options.schema import Options
from vine_sharedport.factory.options.stored import write_config
from vine_sharedport.factory.report import paths
from vine_sharedport.factory.submission.destination import Destination
from vine_sharedport.factory.submission.location import JobLocation
from vine_sharedport.wire.sinful import Sinful


@pytest.mark.parametrize(
    ("kept", "jobs", "answers", "removed"),
    [
        ("vine_1", 2, False, True),
        ("vine_1", 2, True, False),
        ("vine_1", 2, None, False),
        ("vine_1", 0, False, False),
        ("vine_2", 2, False, False),
    ],
    ids=["its manager has gone", "it lives", "nobody knows", "no jobs", "the present one"],
)
def test_jobs_for_a_manager_that_has_gone_are_removed_and_no_others(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kept: str,
    jobs: int,
    answers: bool | None,
    removed: bool,
) -> None:
    def connect(address: Sinful, **_: object) -> socket.socket:
        assert address.sock == "vine_1"
        if answers:
            raise WrongSecretError("no secret", Verdict.SECRET_NEEDED)
        gone = answers is False
        raise DialError("x", Verdict.NOBODY_THERE if gone else Verdict.CONNECTION_REFUSED)

    monkeypatch.setattr(dial, "connect", connect)
    done: list[str] = []
    monkeypatch.setattr(Schedd, "query", lambda *_: [{"JobStatus": 1}] * jobs)
    monkeypatch.setattr(Schedd, "act", lambda _, action, which, reason: done.append(which))
    directory = str(tmp_path)
    write_config(
        os.path.join(directory, paths.CONFIG), Options(address="<192.0.2.7:9618?sock=vine_2>")
    )
    leftovers.remove_for_other_manager(directory)
    assert not done, "nothing was ever submitted"
    JobLocation(kept, Destination(), None, 300).write(directory)
    leftovers.remove_for_other_manager(directory)
    id = paths.factory_id(directory)
    ours = f'VineSharedPortFactory =?= "{id}" && Owner =?= "{owner()}"'
    assert done == ([ours] if removed else [])


def test_a_schedd_that_does_not_answer_keeps_nobody_from_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ScheddError("the schedd does not answer")

    monkeypatch.setattr(Schedd, "query", fail)
    address = "<192.0.2.7:9618?sock=vine_2>"
    write_config(str(tmp_path / paths.CONFIG), Options(address=address))
    JobLocation("vine_1", Destination(), None, 300).write(str(tmp_path))
    leftovers.remove_for_other_manager(str(tmp_path))
    assert "the schedd does not answer" in caplog.text
