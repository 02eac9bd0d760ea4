"""Word statistics of every licence text on this machine, counted by HTCondor jobs.

Uses the HTCondor that this machine has, or else starts a personal pool for as long as
it runs. The workers reach the manager through condor_shared_port and nothing else.
Afterwards no job, no process and no socket is left.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from typing import Any

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ndcctools tells that Dask is not installed
        import vine_sharedport as vine

        vine.Task  # noqa: B018 - imports ndcctools
except ImportError as error:
    sys.exit(
        f"quickstart: {error}\nWith nothing installed, run it in the sandbox: "
        "./sandbox/run python examples/quickstart.py"
    )

TEXTS = (
    "/usr/share/common-licenses/*",
    "/usr/share/doc/*/copyright",
    "/usr/share/licenses/*/*",
    os.path.join(sys.prefix, "**", "*LICEN[CS]E*"),
)

# What one task does with its chunk: one word a line, then count. Any POSIX system has
# these programs, so the execute point needs no Python for it.
COUNT = r"""
export LC_ALL=C
tr 'A-Z' 'a-z' < chunk | tr -cs 'a-z' '\n' | sort | uniq -c > counts
"""
# The reduction adds up the tasks' counts.
REDUCE = "cat counts.* | awk '{n[$2] += $1} END {for (w in n) if (w) print n[w], w}' > total"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=3, help="worker jobs (default: 3)")
    parser.add_argument("--tasks", type=int, default=60, help="chunks of text (default: 60)")
    parser.add_argument(
        "--patience", type=float, default=600, metavar="SECONDS",
        help="give up when no task has ended for so long (default: 600)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    if options.workers < 1:
        parser.error(f"--workers is {options.workers}; give 1 or more")
    started = time.monotonic()
    work = tempfile.mkdtemp(prefix="vine-quickstart-")
    try:
        with contextlib.ExitStack() as stack:
            use_pool(stack)
            manager = stack.enter_context(
                vine.Manager(0, shared_port=True, run_info_path=os.path.join(work, "run-info"))
            )
            say(f"Manager at {manager.shared_port.address}")
            jobs = stack.enter_context(
                vine.submit_workers(manager, options.workers, cores=1, timeout=300)
            )
            say(f"Submitted {options.workers} workers as HTCondor cluster {jobs.cluster}")
            result = count_words(manager, jobs, work, options)
    except vine.SharedPortError as error:
        say(f"quickstart: {error}")
        say(f"Logs are kept in {work}")
        return 1
    except BaseException:
        say(f"Logs are kept in {work}")
        raise
    shutil.rmtree(work)
    result["seconds"] = round(time.monotonic() - started, 1)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
    return 0


def use_pool(stack: contextlib.ExitStack) -> None:
    """Use this machine's HTCondor, or else start a pool of our own; tell which."""
    try:
        say(f"Using HTCondor's shared port {vine.discover().address}")
        return
    except vine.SharedPortError as error:
        reason = error
    with contextlib.suppress(vine.SharedPortError):
        vine.discover(check=False)  # there is one, so the reason is worth reading
        say(f"This machine's HTCondor cannot be used: {reason}")
    say("Starting a personal HTCondor pool for this run...")
    stack.enter_context(vine.PersonalPool())


def count_words(
    manager: Any, jobs: Any, work: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Run the workflow: one task for each chunk of text, then the reduction."""
    chunks, files = make_chunks(work, options.tasks)
    counts = []
    for number, chunk in enumerate(chunks):
        task = vine.Task(COUNT)
        task.add_input(manager.declare_file(chunk), "chunk")
        counts.append(manager.declare_file(os.path.join(work, f"counts.{number}")))
        task.add_output(counts[-1], "counts")
        task.set_cores(1)
        manager.submit(task)
    with progress("Counting words", len(chunks) + 1) as advance:
        done = list(finished(manager, jobs, len(chunks), options.patience, advance))
        task = vine.Task(REDUCE)
        for number, file in enumerate(counts):
            task.add_input(file, f"counts.{number}")
        total = os.path.join(work, "total")
        task.add_output(manager.declare_file(total), "total")
        task.set_cores(1)
        manager.submit(task)
        done += finished(manager, jobs, 1, options.patience, advance)

    words: Counter[str] = Counter()
    with open(total, encoding="ascii") as lines:
        for line in lines:
            number, word = line.split()
            words[word] = int(number)
    link = manager.shared_port
    workers: dict[str, dict[str, Any]] = {}
    for task in done:
        worker = workers.setdefault(
            task.addrport,
            {
                "host": task.hostname,
                "address": task.addrport,
                "came_by": "shared port" if link.accepted(task.addrport) else "TCP",
                "tasks": 0,
            },
        )
        worker["tasks"] += 1
    return {
        "files": files,
        "words": sum(words.values()),
        "distinct": len(words),
        "most_common": words.most_common(10),
        "tasks": len(done),
        "by_shared_port": sum(
            w["tasks"] for w in workers.values() if w["came_by"] == "shared port"
        ),
        "workers": list(workers.values()),
    }


def make_chunks(work: str, count: int) -> tuple[list[str], int]:
    """Write the texts of this machine into about ``count`` files of about one size."""
    paths = sorted(
        {
            os.path.realpath(path)
            for pattern in TEXTS
            for path in glob.glob(pattern, recursive=True)
            if os.path.isfile(path) and os.access(path, os.R_OK)
        },
        key=os.path.getsize,
        reverse=True,
    )
    if not paths:
        raise SystemExit("quickstart: no licence text found; looked for " + ", ".join(TEXTS))
    chunks = [os.path.join(work, f"chunk.{number}") for number in range(min(count, len(paths)))]
    for number, path in enumerate(paths):
        with open(chunks[number % len(chunks)], "ab") as chunk, open(path, "rb") as text:
            shutil.copyfileobj(text, chunk)
            chunk.write(b"\n")
    return chunks, len(paths)


def finished(manager: Any, jobs: Any, count: int, patience: float, advance: Any) -> Any:
    """Yield tasks as they end, and tell of it; stop when nothing goes on."""
    last = time.monotonic()
    while count:
        task = manager.wait(2)
        if task is not None:
            if not task.successful():
                raise vine.LaunchError(f"a task failed: {task.result}: {task.std_output}")
            count -= 1
            last = time.monotonic()
            advance(1, "")
            yield task
            continue
        states = jobs.status()
        if states.held and not states.idle + states.running:
            raise vine.LaunchError(f"all workers are held: {'; '.join(states.hold_reasons)}")
        if not states.left:
            raise vine.LaunchError(f"all workers have ended; see {jobs.directory}")
        if time.monotonic() - last > patience:
            raise vine.LaunchError(
                f"no task has ended for {patience:g} s ({states}); see {jobs.directory}"
            )
        connected = manager.stats.workers_connected
        advance(
            0, f"workers: {states.idle} idle, {states.running} running, {connected} connected"
        )


@contextlib.contextmanager
def progress(what: str, total: int) -> Any:
    """Show a progress bar on stderr, with ``rich`` where it is installed."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        say(f"{what}: {total} tasks")
        notes = [""]  # the last one is not said twice
        yield lambda step, note: note in ("", notes[-1]) or (notes.append(note), say(note))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task(what, total=total, note="")
        yield lambda step, note: bar.update(task, advance=step, note=note)


def show(result: dict[str, Any]) -> None:
    size = f"{result['words']:,} words, {result['distinct']:,} different"
    print(f"\n{size}, in {result['files']} files")
    for word, number in result["most_common"]:
        print(f"{number:>10,}  {word}")
    print(f"\n{'worker':<24}{'address':<24}{'connected by':<14}{'tasks':>6}")
    for worker in result["workers"]:
        print(
            f"{worker['host']:<24}{worker['address']:<24}"
            f"{worker['came_by']:<14}{worker['tasks']:>6}"
        )
    share = "every task"
    if result["by_shared_port"] != result["tasks"]:
        share = f"{result['by_shared_port']} of {result['tasks']} tasks"
    time_taken = f"{result['tasks']} tasks in {result['seconds']} s"
    print(f"\n{time_taken}; {share} came through the shared port.")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
