"""A factory's status as Prometheus reads it."""

from __future__ import annotations

import dataclasses
import re

from vine_sharedport.factory.report.prometheus import format_prometheus

from .samples import SNAPSHOT

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
