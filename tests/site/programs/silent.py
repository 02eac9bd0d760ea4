"""Tasks with silence between them, each on every worker; how long did each take?

Usage: silent.py SETTINGS, in JSON: workers, idle (seconds), phases ("wait": the program is in
wait() meanwhile, "away": it is not). Each worker has a feature "worker N".
"""

import time

from common import SETTINGS, introduce, say, wait_for_workers

import vine_sharedport as vine


def ask_all(manager, seconds):
    """Give each worker one task; return the longest time until its end."""
    begin = time.monotonic()
    longest, ended = 0.0, 0
    for number in range(SETTINGS["workers"]):
        task = vine.Task("echo $HOSTNAME")
        task.add_feature(f"worker-{number}")
        manager.submit(task)
    while ended < SETTINGS["workers"] and time.monotonic() < begin + seconds:
        task = manager.wait(1)
        if task is not None and task.result == "success":
            longest, ended = time.monotonic() - begin, ended + 1
    return longest if ended == SETTINGS["workers"] else seconds


def be_silent(manager, phase):
    until = time.monotonic() + SETTINGS["idle"]
    never = vine.Task("true")
    never.add_feature("nobody has this")
    number = manager.submit(never)  # else wait() returns at once
    while time.monotonic() < until:
        if phase == "wait":
            manager.wait(1)
        else:
            time.sleep(1)
    manager.cancel_by_task_id(number)


def main():
    link = vine.SharedPort(keepalive=SETTINGS.get("keepalive"))
    with vine.Manager(0, shared_port=link) as manager:
        introduce(manager)
        never = vine.Task("true")
        never.add_feature("nobody has this")
        wait_for_workers(manager, SETTINGS["workers"], never, manager.cancel_by_task_id)
        say(ready=True)
        took = [ask_all(manager, 60)]
        for phase in SETTINGS["phases"]:
            be_silent(manager, phase)
            took.append(ask_all(manager, 60))
        counters = manager.shared_port.counters
        say(took=took, accepted=counters.accepted, by_tcp=counters.by_tcp)


main()
