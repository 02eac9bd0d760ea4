"""A factory's status as JSON: what programs rely on, and what is no status."""

from __future__ import annotations

import json

import pytest

from vine_sharedport.factory.report.snapshot import Snapshot

from .samples import SNAPSHOT


def test_json_brings_back_what_was_written() -> None:
    text = json.dumps(SNAPSHOT.as_dict())
    assert Snapshot.from_dict(json.loads(text)) == SNAPSHOT


def test_json_has_the_names_that_programs_rely_on() -> None:
    values = SNAPSHOT.as_dict()
    assert list(values) == [
        "schema",
        "time", "factory", "pid", "state", "message", "directory", "manager", "min_workers",
        "max_workers", "needed", "submitted", "workers", "jobs", "problems",
        "started", "each", "phase", "events", "jobs_left_out", "due",
    ]  # fmt: skip
    assert set(values["manager"]) == {
        "address", "host", "port", "reachable", "error", "tasks_waiting", "tasks_running",
        "workers", "by_shared_port", "by_tcp", "name", "tasks_done", "silent",
            "attempts",
    }  # fmt: skip
    assert set(values["each"]) == {"cores", "memory", "disk", "gpus", "autosize"}
    assert set(values["workers"]) == {
        "idle", "running", "connected", "not_connected", "held", "ended",
        "failed", "evicted", "others", "silent", "suspended", "lost",
    }  # fmt: skip
    assert set(values["jobs"][0]) == {
        "id", "state", "since", "host", "worker", "reason", "exit_status", "evictions",
        "last_line",
    }  # fmt: skip
    assert set(values["problems"][0]) == {
        "cause", "explanation", "remedy", "jobs", "repaired", "jobs_left_out",
    }  # fmt: skip


def test_a_newer_versions_keys_are_passed_over_and_other_files_refused() -> None:
    values = {**SNAPSHOT.as_dict(), "colour": "blue"}
    values["workers"] = {**values["workers"], "sleeping": 1}
    assert Snapshot.from_dict(values) == SNAPSHOT
    for wrong in ({}, {"time": 1}, {**values, "workers": 5}, {**values, "jobs": [3]}):
        with pytest.raises(ValueError, match="no factory's status"):
            Snapshot.from_dict(wrong)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("time", "x"), ("time", None), ("time", float("nan")), ("time", 10**400),
        ("pid", "zz"), ("pid", True), ("pid", -1), ("pid", 0), ("pid", 1 << 40),
        ("state", 3), ("message", ["m"]), ("min_workers", "1"), ("max_workers", None),
        ("phase", None), ("events", []), ("events", {"held": "1"}),
        ("each", {"cores": "2"}), ("each", 3), ("started", "x"),
        ("needed", []), ("submitted", 1.5), ("manager", {"tasks_waiting": "5"}),
        ("manager", {"address": 5}), ("manager", {"reachable": "yes"}), ("manager", "m"),
        ("workers", {"idle": "2"}), ("workers", {"idle": False}), ("jobs", {"a": 1}),
        ("jobs", [{"id": "1.0", "state": "idle", "since": "now"}]),
        ("jobs", [{"id": 1.0, "state": "idle", "since": 3}]),
        ("problems", [{"cause": "a", "explanation": "b", "remedy": "c", "jobs": [1]}]),
        ("problems", [{"cause": "a", "explanation": "b", "remedy": "c", "jobs": "1.0"}]),
        ("problems", [{"cause": "a", "explanation": None, "remedy": "c"}]),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_no_status(name: str, value: object) -> None:
    with pytest.raises(ValueError, match="no factory's status") as caught:
        Snapshot.from_dict({**SNAPSHOT.as_dict(), name: value})
    assert len(str(caught.value)) < 200


def test_a_whole_number_is_a_time_too() -> None:
    assert Snapshot.from_dict({**SNAPSHOT.as_dict(), "time": 1000}) == SNAPSHOT


# Prometheus's own grammar of a line: name{label="value",...} number
