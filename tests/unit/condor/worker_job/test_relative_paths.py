"""Relative paths among a user's submit commands are those of where the user stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from vine_sharedport.condor.submit_description import Commands
from vine_sharedport.condor.worker_job.relative_paths import brings_files_back, make_absolute


@pytest.mark.parametrize(
    ("name", "text", "made"),
    [
        ("log", "my.log", "{here}/my.log"),
        ("Output", "out/../x.$(Cluster)", "{here}/x.$(Cluster)"),
        ("in", "/data/in", "/data/in"),
        ("container_image", "a.sif", "{here}/a.sif"),
        ("container_image", "docker://a/b", "docker://a/b"),
        ("container_image", "docker:debian", "docker:debian"),
        ("container_image", '"$(IMAGE)"', '"$(IMAGE)"'),
        ("x509userproxy", "proxy", "{here}/proxy"),
        (
            "transfer_input_files",
            "a, b/ ,/c, osdf:///d, $(E)/e",
            "{here}/a, {here}/b/, /c, osdf:///d, $(E)/e",
        ),
        ("transfer_output_remaps", '"a=b; c=/d"', '"a={here}/b; c=/d"'),
        ("requirements", "Memory > 1", "Memory > 1"),
        ("encrypt_input_files", "*.key", "*.key"),
        ("My.Log", '"a"', '"a"'),
    ],
)
def test_paths_of_files_here_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, made: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = make_absolute(Commands({name: text}))
    assert found[name] == made.format(here=tmp_path)


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ({"transfer_output_files": "result"}, True),
        ({"Transfer_Output_Files": '"a, b"'}, True),
        ({"transfer_output_files": '""'}, False),
        ({"transfer_checkpoint_files": "state"}, True),
        ({"transfer_input_files": "a"}, False),
    ],
)
def test_files_that_come_back_are_noticed(commands: dict[str, str], expected: bool) -> None:
    assert brings_files_back(Commands(commands)) is expected
