"""A TaskVine workflow: a cached file for many tasks, chains of temporary files, fan-in.

Usage: flow.py SETTINGS, in JSON: places, workers (at each place), transport, megabytes, tasks,
groups of fan_in chains, depth, kilobytes of their files, peer_transfers, seed.
"""

import os
import random
import re

from common import SETTINGS, Account, introduce, say, sha256, submit_workers, wait_for_workers

import vine_sharedport as vine


def peers(manager):
    """Return the addresses from which workers were told to fetch."""
    with open(os.path.join(manager.logging_directory, "debug")) as log:
        found = re.findall(r"puturl(?:_now)? worker(?:ip)?://(.*):\d+/", log.read())
    return sorted(set(found))


class Workflow:
    """Tasks, and what each is to say."""

    def __init__(self, manager):
        self.manager, self.account = manager, Account()

    def submit(self, tag, task, wanted):
        task.set_tag(tag)
        task.set_cores(1)
        self.account.wanted[tag] = wanted
        self.manager.submit(task)

    def share_a_file(self):
        data = random.Random(SETTINGS["seed"]).randbytes(SETTINGS["megabytes"] * 1_000_000)
        with open("big", "wb") as file:
            file.write(data)
        shared = self.manager.declare_file("big", cache=True)
        for number in range(SETTINGS["tasks"]):
            task = vine.Task(f"hostname; (echo {number}; cat big) | sha256sum; sleep 0.3")
            task.add_input(shared, "big")
            self.submit(f"shared {number}", task, sha256(b"%d\n" % number + data))

    def chain(self, group, link):
        """Submit tasks that hand a temporary file on; return it, and what is in it."""
        text = f"{SETTINGS['seed']} {group} {link}"
        lines = SETTINGS["kilobytes"] * 1000 // (len(text) + 1)
        content = f"{text}\n".encode() * lines
        before = self.manager.declare_temp()
        task = vine.Task(f"hostname; yes '{text}' | head -n {lines} >out; sha256sum <out")
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


def main():
    link = vine.SharedPort(peer_transfers=SETTINGS.get("peer_transfers", "off"))
    with vine.Manager(0, shared_port=link) as manager:
        introduce(manager)
        with submit_workers(manager):
            never = vine.Task("true")
            never.add_feature("nobody has this")
            wanted = SETTINGS["workers"] * max(1, len(SETTINGS["places"]))
            wait_for_workers(manager, wanted, never, manager.cancel_by_task_id)
            say(ready=True)
            flow = Workflow(manager)
            if SETTINGS["tasks"]:
                flow.share_a_file()
            for group in range(SETTINGS["groups"]):
                flow.fan_in(group)
            while flow.account.is_open():
                task = manager.wait(1)
                if task is not None:
                    flow.account.take(task.tag, task.std_output, task.result)
            flow.account.close(manager, peers=peers(manager))


main()
