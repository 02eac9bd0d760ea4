"""What the fuzzers have kept, and each crash ever found: run once, without Atheris."""

from __future__ import annotations

import pytest

from .harness import CORPUS, names, target


@pytest.mark.parametrize("name", names())
def test_every_kept_input_runs_without_a_finding(name: str) -> None:
    one_input = target(name)
    files = sorted((CORPUS / name).iterdir())
    assert files, "a target without a corpus"
    for path in files:
        try:
            one_input(path.read_bytes())
        except BaseException as error:
            raise AssertionError(f"{path}: {error!r}") from error


def test_corpus_belongs_to_targets() -> None:
    assert sorted(path.name for path in CORPUS.iterdir()) == names()
    kept = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in kept) < 200_000
    assert len(kept) < 1000


def test_empty_and_long_inputs_are_inputs() -> None:
    for name in names():
        for data in (b"", b"\0", bytes(200), b"\xff" * 200):
            target(name)(data)
