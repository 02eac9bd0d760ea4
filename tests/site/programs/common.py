"""What the programs share: settings, workers, and the account of their tasks."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time

import vine_sharedport as vine

SETTINGS = json.loads(sys.argv[1])
LIMIT = SETTINGS.get("limit", 100)


def say(**values):
    """Print one line of JSON."""
    print(json.dumps(values), flush=True)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def introduce(manager):
    """Say how the manager is reached."""
    say(port=manager.port, worker_command=manager.shared_port.worker_command)


@contextlib.contextmanager
def local_worker(manager, program):
    """Run a worker on this machine."""
    command = (
        f"{manager.shared_port.worker_command} --worker {program} -- --cores 1 --memory 300"
    )
    process = subprocess.Popen(
        command, shell=True, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def submit_workers(manager, program="vine_worker"):
    """Submit the same number to each place; the place "" is this machine."""
    stack = contextlib.ExitStack()
    for place in SETTINGS["places"]:
        if not place:
            for _ in range(SETTINGS["workers"]):
                stack.enter_context(local_worker(manager, program))
            continue
        options = {
            "cores": 1, "memory": 300, "disk": 1000,
            "commands": {"requirements": f'Place == "{place}"'},
            "env": {"VINE_SHAREDPORT_TRANSPORT": SETTINGS["transport"]},
        }  # fmt: skip
        stack.enter_context(vine.submit_workers(manager, SETTINGS["workers"], **options))
    return stack


def wait_for_workers(manager, wanted, never, cancel):
    """Return when all are connected; a task that nobody can run keeps the manager waiting."""
    number = manager.submit(never)
    until = time.monotonic() + LIMIT
    while manager.shared_port.counters.workers < wanted:
        manager.wait(1)
        if time.monotonic() > until:
            sys.exit(
                f"{manager.shared_port.counters.workers} of {wanted} workers are connected"
            )
    cancel(number)


class Account:
    """What each task was to say, what it said, and where it ran: on the first line."""

    def __init__(self):
        self.wanted, self.said, self.hosts = {}, {}, {}
        self.begin = time.monotonic()

    def is_open(self):
        return len(self.said) < len(self.wanted) and time.monotonic() < self.begin + LIMIT

    def take(self, tag, output, result):
        if tag not in self.wanted:  # the cancelled one
            return
        host, _, digest = (output or "").partition("\n")
        self.said[tag] = digest.split()[0] if digest else f"{result}: {host}"
        self.hosts[host] = self.hosts.get(host, 0) + 1

    def close(self, manager, **more):
        """Say what came of it."""
        counters = manager.shared_port.counters
        wrong = {
            tag: self.said.get(tag, "nothing")
            for tag, wanted in self.wanted.items()
            if self.said.get(tag) != wanted
        }
        say(
            wrong=wrong, right=len(self.wanted) - len(wrong), hosts=self.hosts,
            seconds=time.monotonic() - self.begin, accepted=counters.accepted,
            by_tcp=counters.by_tcp, **more,
        )  # fmt: skip
