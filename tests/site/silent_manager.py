"""A manager whose tasks come now and then, with one worker behind NAT; obeys lines of stdin.

task         submit a task, wait for it, print the seconds that took
submit       submit a task, and let it be sent to the worker
away N       do nothing for N seconds, not even wait
wait N       wait for tasks, of which there is none, for N seconds
status       print its workers' states, as the factory knows them, and how many have come
"""

import json
import sys
import time

import vine_sharedport as vine

place, keepalive, environment = sys.argv[1:]
manager = vine.Manager(0, shared_port=vine.SharedPort(keepalive=keepalive or None))
workers = vine.Factory("condor", manager=manager)
workers.min_workers = workers.max_workers = 1
workers.cycle = 1
workers.commands = {"requirements": f'Place == "{place}"', "environment": environment}


def run_task() -> float:
    began = time.monotonic()
    manager.submit(vine.Task("true"))
    while not manager.empty():
        if manager.wait(1) is None and time.monotonic() - began > 100:
            break
    return time.monotonic() - began


with workers:
    print(json.dumps("up"), flush=True)
    for line in sys.stdin:
        what, *words = line.split()
        answer: object = None
        if what == "task":
            answer = run_task()
        elif what == "submit":
            manager.submit(vine.Task("true"))
            manager.wait(1)
        elif what == "away":
            time.sleep(float(words[0]))
        elif what == "wait":
            until = time.monotonic() + float(words[0])
            while time.monotonic() < until:
                manager.wait(1)
                time.sleep(0.05)
        else:
            status = workers.status()
            manager.wait(0)
            answer = {
                "states": [job.state for job in status.jobs if job.state != "ended"],
                "silent": status.workers.silent,
                "joined": manager.stats.workers_joined,
            }
        print(json.dumps(answer), flush=True)
