"""What running jobs have written to stderr so far, fetched in the background.

HTCondor brings a job's files when it has ended. Until then ``condor_tail`` asks its starter,
which the bindings cannot.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable

__all__ = ["Tails"]

log = logging.getLogger(__name__)

# Bytes of a job's stderr that are looked at.
_SIZE = 8192
# Seconds for one question: it takes some round trips, through CCB to a worker behind NAT.
_TIMEOUT = 20.0
# Seconds from one question about a job to the next, and after one without an answer.
_INTERVAL = 20.0
_FAILED_INTERVAL = 300.0


class Tails:
    """The last words of running jobs, asked for one after the other by a thread.

    Args:
        schedd: Name of the jobs' schedd; None for this host's.
        pool: Collector that knows it; None for this host's.
    """

    def __init__(self, schedd: str | None = None, pool: str | None = None) -> None:
        place = [*(("-name", schedd) if schedd else ()), *(("-pool", pool) if pool else ())]
        self._options = [*place, "-maxbytes", str(_SIZE), "-stderr"]
        self._wanted: frozenset[str] = frozenset()
        self._texts: dict[str, str] = {}
        self._due: dict[str, float] = {}
        self._thread: threading.Thread | None = None
        self._news = threading.Event()
        self._is_open = True
        self._program = shutil.which("condor_tail")

    def want(self, jobs: Iterable[str]) -> None:
        """Ask for these jobs from now on, and no others.

        Args:
            jobs: Ids of running jobs, such as ``12.0``.
        """
        self._wanted = frozenset(jobs)
        self._texts = {id: text for id, text in self._texts.items() if id in self._wanted}
        if self._wanted and self._program is not None:
            self._news.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tail-jobs", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Ask for nothing any more, and let the thread end."""
        self._is_open = False
        self._news.set()

    def get(self, job: str) -> str:
        """Return what a job has written last; empty if that is not known."""
        return self._texts.get(job, "")

    def _run(self) -> None:
        while self._is_open:
            now = time.monotonic()
            wanted = self._wanted
            self._due = {id: due for id, due in self._due.items() if id in wanted}
            due = sorted((self._due.get(id, 0.0), id) for id in wanted)
            if due and due[0][0] <= now:
                self._fetch(due[0][1])
                continue
            self._news.wait(min(_INTERVAL, due[0][0] - now) if due else None)
            self._news.clear()

    def _fetch(self, job: str) -> None:
        """Ask for one job; keep the answer."""
        assert self._program is not None
        try:
            done = subprocess.run(
                [self._program, *self._options, job],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False,
            )  # fmt: skip
            failed = done.returncode != 0 and done.stderr
        except (OSError, subprocess.TimeoutExpired) as error:
            failed = str(error).encode()
        if failed:
            log.debug("cannot read job %s's messages: %s", job, failed.decode(errors="replace"))
            self._due[job] = time.monotonic() + _FAILED_INTERVAL
            return
        self._due[job] = time.monotonic() + _INTERVAL
        if job in self._wanted:
            self._texts = {**self._texts, job: done.stdout[-_SIZE:].decode(errors="replace")}
