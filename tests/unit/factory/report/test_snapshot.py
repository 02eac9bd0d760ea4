"""What a factory tells: the same in every form, and nothing that breaks the form."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest

from vine_sharedport.errors import DialAttempt, DialError, Verdict
from vine_sharedport.factory.report.phase import Phase
from vine_sharedport.factory.report.prometheus import format_prometheus
from vine_sharedport.factory.report.record import (
    JobReport,
    ManagerReport,
    Problem,
    WorkerCounts,
    WorkerSize,
)
from vine_sharedport.factory.report.snapshot import Snapshot
from vine_sharedport.factory.report.text import format_age, format_html, format_text

NASTY = 'say "<b>no</b>" \\ to\nit'
SNAPSHOT = Snapshot(
    time=1000.0,
    factory="f" * 32,
    pid=7,
    state="running",
    message="submitted 2 workers as cluster 12",
    directory='/tmp/a "b"\\c',
    manager=ManagerReport(
        address="<192.0.2.7:9618?sock=vine_42>", reachable=True,
        tasks_waiting=5, tasks_running=3, workers=5, by_shared_port=3, by_tcp=2,
        name="sweep", tasks_done=12,
    ),
    min_workers=1,
    max_workers=9,
    needed=6,
    submitted=11,
    workers=WorkerCounts(
        idle=2, running=4, connected=3, not_connected=1,
        held=1, ended=4, failed=2, evicted=5, others=6,
    ),
    jobs=(
        JobReport("12.0", "running", 940.0, host="node7", reason="not connected after 60 s"),
        JobReport("12.1", "held", 990.0, reason=NASTY, evictions=2),
        JobReport("11.0", "ended", 900.0, exit_status=75, reason="not reached", last_line="x"),
        JobReport("11.1", "connected", 900.0, host="node8"),
    ),
    problems=(
        Problem("memory", NASTY, "give more", ("12.1",)),
        Problem("disk", "too small", "give more", ("9.0", "9.1"), repaired=True),
    ),
    started=700.0,
    each=WorkerSize(cores=2, memory=800),
    phase=Phase.SUBMITTED.value,
    events={"submitted": 11, "job-failed": 2},
)  # fmt: skip


def test_json_brings_back_what_was_written() -> None:
    text = json.dumps(SNAPSHOT.as_dict())
    assert Snapshot.from_dict(json.loads(text)) == SNAPSHOT


def test_json_has_the_names_that_programs_rely_on() -> None:
    values = SNAPSHOT.as_dict()
    assert list(values) == [
        "schema",
        "time", "factory", "pid", "state", "message", "directory", "manager", "min_workers",
        "max_workers", "needed", "submitted", "workers", "jobs", "problems",
        "started", "each", "phase", "events",
    ]  # fmt: skip
    assert set(values["manager"]) == {
        "address", "host", "port", "reachable", "error", "tasks_waiting", "tasks_running",
        "workers", "by_shared_port", "by_tcp", "name", "tasks_done", "attempts",
    }  # fmt: skip
    assert set(values["each"]) == {"cores", "memory", "disk", "gpus", "autosize"}
    assert set(values["workers"]) == {
        "idle", "running", "connected", "not_connected", "held", "ended",
        "failed", "evicted", "others",
    }  # fmt: skip
    assert set(values["jobs"][0]) == {
        "id", "state", "since", "host", "worker", "reason", "exit_status", "evictions",
        "last_line",
    }  # fmt: skip
    assert set(values["problems"][0]) == {
        "cause", "explanation", "remedy", "jobs", "repaired",
    }  # fmt: skip


def test_a_newer_versions_keys_are_passed_over_and_other_files_refused() -> None:
    values = {**SNAPSHOT.as_dict(), "colour": "blue"}
    values["workers"] = {**values["workers"], "lost": 1}
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


def test_text_says_what_is_wrong_and_what_to_do() -> None:
    text = format_text(SNAPSHOT, now=1000.0)
    assert text.startswith("factory ffffffff running: submitted 2 workers")
    assert "manager    sweep at <192.0.2.7:9618?sock=vine_42>" in text
    assert (
        "5 tasks waiting, 3 running, 12 done, 5 workers (3 by the shared port, 2 by TCP)"
        in text
    )
    assert "4, 3 of them connected" in text
    assert "problem (memory): say" in text
    assert "remedy: give more" in text
    assert "repaired: give more" in text
    assert "12.0 running for 1m, on node7: not connected after 60 s" in text
    assert "11.0 ended for 1m40s, status 75: not reached - x" in text
    assert "11.1" not in text, "nothing to say about it"
    assert "limits     1 to 9 workers, each 2 cores, 800 MB\n" in text


@pytest.mark.parametrize(
    ("now", "text"), [(999.0, "0 s ago"), (1000.5, "0 s ago"), (1059.0, "59 s ago"),
                      (1061.0, "1m1s ago"), (8200.0, "2h ago")],
)  # fmt: skip
def test_each_form_tells_its_own_age(now: float, text: str) -> None:
    for snapshot in (SNAPSHOT, dataclasses.replace(SNAPSHOT, state="ended")):
        assert f"  as of      {text}\n" in format_text(snapshot, now=now)
        assert f">{text}</td>" in format_html(snapshot, now=now)


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


def test_an_unreachable_manager_is_told_with_the_reason() -> None:
    manager = dataclasses.replace(SNAPSHOT.manager, reachable=False, error="it hangs")
    text = format_text(dataclasses.replace(SNAPSHOT, manager=manager), now=1000.0)
    assert "no answer: it hangs" in text
    refused = DialAttempt("192.0.2.7:9618", Verdict.CONNECTION_REFUSED, "Connection refused")
    error = str(DialError(f"cannot reach {manager.address}: {refused}", attempts=[refused]))
    manager = dataclasses.replace(manager, error=error, attempts=(refused,))
    told = format_text(dataclasses.replace(SNAPSHOT, manager=manager), now=1000.0)
    assert f"no answer: {refused}" in told
    assert told.count(str(manager.address)) == 1
    assert "5 tasks" not in text


class _Checker(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_well_formed_and_takes_nothing_for_a_tag() -> None:
    checker = _Checker()
    checker.feed(format_html(SNAPSHOT, now=1000.0))
    assert checker.open == []
    assert NASTY in checker.text
    assert "<192.0.2.7:9618?sock=vine_42>" in checker.text


# Prometheus's own grammar of a line: name{label="value",...} number
_SAMPLE = re.compile(
    r'[a-zA-Z_:][a-zA-Z0-9_:]*\{([a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*\} -?[0-9.e+]+'
)


def test_prometheus_reads_every_line_of_it() -> None:
    text = format_prometheus(SNAPSHOT)
    assert text.endswith("\n")
    helped, typed = set(), {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped.add(line.split()[2])
        elif line.startswith("# TYPE "):
            typed[line.split()[2]] = line.split()[3]
        else:
            assert _SAMPLE.fullmatch(line), line
            assert line.split("{")[0] in typed
    assert helped == set(typed)
    for name, kind in typed.items():
        assert (kind == "counter") == name.endswith("_total")


def test_prometheus_has_the_same_numbers() -> None:
    text = format_prometheus(SNAPSHOT)

    def value(name: str, label: str = "") -> float:
        (line,) = [
            line
            for line in text.splitlines()
            if line.startswith(f"vine_sharedport_factory_{name}{{") and label in line
        ]
        return float(line.rsplit(" ", 1)[1])

    assert value("workers", 'state="idle"') == 2
    assert value("workers", 'state="connected"') == 3
    assert value("workers", 'state="held"') == 1
    assert value("workers_needed") == 6
    assert value("jobs_submitted_total") == 11
    assert value("jobs_failed_total") == 2
    assert value("manager_tasks", 'state="waiting"') == 5
    assert value("manager_tasks_done_total") == 12
    assert value("problems", 'cause="disk"') == 2
    assert value("running") == 1
    assert value("phase", 'phase="submitted"') == 1
    assert value("events_total", 'event="job-failed"') == 2
    ended = format_prometheus(dataclasses.replace(SNAPSHOT, state="ended"))
    assert re.search(r"factory_running\{.*\} 0\n", ended)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (59, "59s"), (60, "1m"), (61, "1m1s"), (3600, "1h"), (3660, "1h1m"),
     (90061, "1d1h")],
)  # fmt: skip
def test_ages_are_short(seconds: float, text: str) -> None:
    assert format_age(seconds) == text
