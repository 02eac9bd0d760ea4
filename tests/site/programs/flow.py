"""A TaskVine workflow: a cached file for many tasks, chains of temporary files, fan-in.

Usage: flow.py SETTINGS, in JSON: places, workers (at each place), transport, megabytes, tasks,
groups of fan_in chains, depth, seed, peer_transfers. A place that is "" is this machine. Prints
lines of JSON: the manager's TCP port; how many tasks said what they should, where they ran, and
from which other workers some have fetched files.
"""

import contextlib
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time

import vine_sharedport as vine

SETTINGS = json.loads(sys.argv[1])
LIMIT = SETTINGS.get("limit", 100)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def local_workers(manager, count):
    """Start workers on this machine, which end with the block."""
    stack = contextlib.ExitStack()
    command = f"{manager.shared_port.worker_command} -- --cores 1 --memory 300 --disk 1000"
    for _ in range(count):
        process = subprocess.Popen(
            command, shell=True, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        stack.callback(process.wait)
        stack.callback(os.killpg, process.pid, 15)
    return stack


def submit_workers(manager):
    """Submit the same number to each place."""
    stack = contextlib.ExitStack()
    for place in SETTINGS["places"]:
        if not place:
            stack.enter_context(local_workers(manager, SETTINGS["workers"]))
            continue
        options = {
            "cores": 1, "memory": 300, "disk": 1000,
            "commands": {"requirements": f'Place == "{place}"'},
            "env": {"VINE_SHAREDPORT_TRANSPORT": SETTINGS["transport"]},
        }  # fmt: skip
        stack.enter_context(vine.submit_workers(manager, SETTINGS["workers"], **options))
    return stack


def wait_for_workers(manager):
    """Return when all are connected; a task that nobody can run keeps the manager waiting."""
    never = vine.Task("true")
    never.add_feature("nobody has this")
    number = manager.submit(never)
    wanted = SETTINGS["workers"] * len(SETTINGS["places"])
    until = time.monotonic() + LIMIT
    while manager.stats.workers_connected < wanted:
        manager.wait(1)
        if time.monotonic() > until:
            sys.exit(f"{manager.stats.workers_connected} of {wanted} workers are connected")
    manager.cancel_by_task_id(number)


class Workflow:
    """Tasks, and what each is to say."""

    def __init__(self, manager):
        self.manager = manager
        self.wanted, self.said, self.hosts = {}, {}, {}

    def submit(self, tag, task, wanted):
        task.set_tag(tag)
        task.set_cores(1)
        self.wanted[tag] = wanted
        self.manager.submit(task)

    def share_a_file(self, name, seed):
        data = random.Random(seed).randbytes(SETTINGS["megabytes"] * 1_000_000)
        with open(name, "wb") as file:
            file.write(data)
        shared = self.manager.declare_file(name, cache=True)
        for number in range(SETTINGS["tasks"]):
            task = vine.Task(f"hostname; (echo {number}; cat big) | sha256sum; sleep 0.3")
            task.add_input(shared, "big")
            self.submit(f"shared {number}", task, sha256(b"%d\n" % number + data))

    def chain(self, group, link):
        """Submit tasks that hand a temporary file on; return it, and what is in it."""
        text = f"{SETTINGS['seed']} {group} {link}\n"
        content = text.encode() * 20_000
        before = self.manager.declare_temp()
        task = vine.Task(f"hostname; yes '{text.strip()}' | head -n 20000 >out; sha256sum <out")
        task.add_output(before, "out")
        self.submit(f"chain {group} {link} 0", task, sha256(content))
        for step in range(1, SETTINGS["depth"]):
            after = self.manager.declare_temp()
            task = vine.Task("hostname; (sha256sum <in; cat in) >out; sha256sum <out")
            task.add_input(before, "in")
            task.add_output(after, "out")
            content = f"{sha256(content)}  -\n".encode() + content
            self.submit(f"chain {group} {link} {step}", task, sha256(content))
            before = after
        return before, content

    def fan_in(self, group):
        chains = [self.chain(group, link) for link in range(SETTINGS["fan_in"])]
        names = [f"in{number}" for number in range(len(chains))]
        task = vine.Task(f"hostname; cat {' '.join(names)} | sha256sum")
        for name, (file, _) in zip(names, chains):
            task.add_input(file, name)
        self.submit(f"join {group}", task, sha256(b"".join(content for _, content in chains)))

    def run(self):
        until = time.monotonic() + LIMIT
        while not self.manager.empty() and time.monotonic() < until:
            task = self.manager.wait(1)
            if task is None or task.tag not in self.wanted:  # the cancelled one
                continue
            host, _, digest = (task.std_output or "").partition("\n")
            self.said[task.tag] = digest.split()[0] if digest else f"{task.result}: {host}"
            self.hosts[host] = self.hosts.get(host, 0) + 1


def peers(manager):
    """Return the addresses from which workers were told to fetch."""
    with open(os.path.join(manager.logging_directory, "debug")) as log:
        found = re.findall(r"puturl(?:_now)? worker(?:ip)?://(.*):\d+/", log.read())
    return sorted(set(found))


def main():
    shared_port = vine.SharedPort(peer_transfers=SETTINGS.get("peer_transfers", "off"))
    with vine.Manager(0, name=f"flow-{os.getpid()}", shared_port=shared_port) as manager:
        print(json.dumps({"port": manager.port}), flush=True)
        with submit_workers(manager):
            wait_for_workers(manager)
            flow = Workflow(manager)
            begin = time.monotonic()
            if SETTINGS["tasks"]:
                flow.share_a_file("big", SETTINGS["seed"])
            for group in range(SETTINGS["groups"]):
                flow.fan_in(group)
            flow.run()
            report = {
                "seconds": time.monotonic() - begin,
                "wrong": {
                    tag: flow.said.get(tag, "nothing")
                    for tag, wanted in flow.wanted.items()
                    if flow.said.get(tag) != wanted
                },
                "right": sum(flow.said.get(tag) == want for tag, want in flow.wanted.items()),
                "hosts": flow.hosts,
                "workers": manager.shared_port.counters.workers,
                "by_tcp": manager.shared_port.counters.by_tcp,
                "peers": peers(manager),
            }
    print(json.dumps(report))


main()
