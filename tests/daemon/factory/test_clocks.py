"""Programs whose time zone or clock is not that of HTCondor's daemons."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import helpers

pytestmark = pytest.mark.daemon

vine = pytest.importorskip("vine_sharedport")

# Two workers, one of which can be submitted and never starts.
PROGRAM = """
import json, sys, time
import vine_sharedport as vine
from tests.daemon.factory_helpers import SWIFT, drive, finish

with vine.Manager(0, shared_port=True, run_info_path=sys.argv[1]) as m:
    options = {**SWIFT, "max_workers": 2, "min_workers": 2}
    options["condor_requirements"] = "MY.ProcId == 0"
    with vine.Factory("condor", manager=m, **options) as workers:
        m.submit(vine.Task("true"))
        finish(m)
        drive(m, lambda: workers.status().workers.connected == 1)
        began = time.monotonic()  # the schedd looks at its jobs' conditions meanwhile
        drive(m, lambda: time.monotonic() > began + float(sys.argv[2]))
        counts = workers.status().workers
        with open(workers.directory + "/workers.log") as log:
            removed = sum(line.startswith("009 ") for line in log)
        print(json.dumps([workers.status().submitted, counts.connected, counts.idle,
                          counts.others, counts.evicted, removed]))
"""

SHIFT = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long shift(void)
{
    const char *text = getenv("CLOCK_SHIFT");
    return text ? atol(text) : 0;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(id, ts);
    if (id == CLOCK_REALTIME)
        ts->tv_sec += shift();
    return status;
}

time_t time(time_t *out)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (out)
        *out = ts.tv_sec;
    return ts.tv_sec;
}

int gettimeofday(struct timeval *tv, void *zone)
{
    struct timespec ts;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}
"""


def run(tmp_path: Path, seconds: float, **variables: str) -> list[int]:
    """Run the program; return what it counted."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path), str(seconds)],
        env={**os.environ, "PYTHONPATH": str(helpers.ROOT), **variables}, cwd=tmp_path,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    return list(json.loads(done.stdout.splitlines()[-1]))


AS_EVER = [2, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "XYZ-5:45", "XYZ-13"])
def test_another_time_zone_changes_nothing(pool: Any, tmp_path: Path, zone: str) -> None:
    assert run(tmp_path, 1, TZ=zone) == AS_EVER


@pytest.mark.parametrize("seconds", [-3600, 3600, -7200])
def test_a_clock_that_is_off_by_hours_neither_removes_nor_resubmits_what_waits(
    pool: Any, tmp_path: Path, seconds: int
) -> None:
    source, library = tmp_path / "shift.c", tmp_path / "shift.so"
    source.write_text(SHIFT)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True, timeout=60
    )
    # The schedd of this pool looks every few seconds.
    assert run(tmp_path, 12, LD_PRELOAD=str(library), CLOCK_SHIFT=str(seconds)) == AS_EVER
