"""Which words make a text what it is? Licences told apart by Work Queue tasks.

Counts the words of each text in a task of its own, then weighs them here by tf-idf: a word
tells most about a text if it is frequent there and rare in all others. The same program as
without us, but for three lines: the import, ``shared_port=True`` and the factory.
The execute points need a shell and coreutils, and no Python.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import math
import os
import re
import warnings
from collections import Counter

import vine_sharedport as vine
import vine_sharedport.work_queue as wq  # all of ndcctools.work_queue

warnings.filterwarnings("ignore", message="DaskVine not available")  # not needed here

# One word of three letters or more in each line, then count. LC_ALL=C, as an execute point
# may have another language than this machine.
COUNT = r"export LC_ALL=C; tr A-Z a-z < text | tr -cs a-z '\n' | grep ... | sort | uniq -c"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", nargs="*", help="files (default: Debian's common licences)")
    parser.add_argument("--workers", type=int, default=3, help="at most so many (default: 3)")
    options = parser.parse_args()
    if options.workers < 1:
        parser.error(f"--workers is {options.workers}; give 1 or more")
    found = options.texts or glob.glob("/usr/share/common-licenses/*")
    texts = sorted({os.path.realpath(path) for path in found})  # "GPL" is a link to "GPL-3"
    if len(texts) < 2:
        parser.error("needs two texts or more; name some files")
    with use_pool():
        queue = wq.WorkQueue(0, shared_port=True)
        workers = wq.Factory("condor", manager=queue)
        workers.min_workers = 0
        workers.max_workers = options.workers
        workers.cores = 1
        with workers:  # it submits jobs as tasks wait, and removes them at the end
            counts = count_words(queue, workers, texts)
    show(counts)


def use_pool() -> contextlib.AbstractContextManager:
    """Return this machine's HTCondor, or else a personal pool for as long as this runs."""
    try:
        print(f"Using HTCondor: {vine.discover().address}")
        return contextlib.nullcontext()
    except vine.SharedPortError:
        print("No HTCondor can be used here: starting a personal pool")
        return vine.PersonalPool()


def count_words(
    queue: wq.WorkQueue, workers: wq.Factory, texts: list[str]
) -> dict[str, Counter[str]]:
    """Run one task for each text; return how often each has which word."""
    for path in texts:
        task = wq.Task(COUNT)
        task.specify_input_file(path, "text", cache=False)  # each is needed only once
        task.specify_cores(1)
        task.specify_tag(path)
        queue.submit(task)
    counts = {}
    while not queue.empty():
        task = queue.wait(5)
        if task is None:  # none has ended for 5 s; the factory knows why
            now = workers.status()
            print("waiting:", now.message, *(problem.explanation for problem in now.problems))
            continue
        if task.result != wq.WORK_QUEUE_RESULT_SUCCESS or task.return_status != 0:
            raise SystemExit(f"counting {task.tag} failed: {task.output}")
        words = re.findall(r"(\d+) ([a-z]+)", task.output)
        counts[task.tag] = Counter({word: int(number) for number, word in words})
        way = "the shared port" if queue.shared_port.accepted(task.host) else "TCP"
        name, total = os.path.basename(task.tag), sum(counts[task.tag].values())
        print(f"{name:<14}{total:>6} words   from {task.host}, a worker by {way}")
    return counts


def show(counts: dict[str, Counter[str]]) -> None:
    print("\nThe words that tell most:")
    spread = Counter(word for words in counts.values() for word in words)  # texts with it
    for path, words in sorted(counts.items()):
        total = sum(words.values())
        weight = {
            word: number / total * math.log(len(counts) / spread[word])
            for word, number in words.items()
        }
        most = sorted(weight, key=lambda word: (-weight[word], word))[:6]
        print(f"{os.path.basename(path):<14}{', '.join(most)}")


if __name__ == "__main__":
    try:
        main()
    except vine.SharedPortError as error:  # it says what to do
        raise SystemExit(f"work_queue_words: {error}") from None
