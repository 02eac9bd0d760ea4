"""A Work Queue program: a cached file for many tasks. The settings are those of flow.py."""

import random

from common import SETTINGS, Account, introduce, say, sha256, submit_workers, wait_for_workers

import vine_sharedport.work_queue as wq


def main():
    account = Account()
    with wq.WorkQueue(0, shared_port=True) as queue:
        introduce(queue)
        with submit_workers(queue, "work_queue_worker"):
            never = wq.Task("true")
            never.specify_feature("nobody has this")
            wanted = SETTINGS["workers"] * len(SETTINGS["places"])
            wait_for_workers(queue, wanted, never, queue.cancel_by_taskid)
            say(ready=True)
            data = random.Random(SETTINGS["seed"]).randbytes(SETTINGS["megabytes"] * 1_000_000)
            with open("big", "wb") as file:
                file.write(data)
            for number in range(SETTINGS["tasks"]):
                task = wq.Task(f"hostname; (echo {number}; cat big) | sha256sum; sleep 0.3")
                task.specify_input_file("big", "big", cache=True)
                task.specify_tag(f"shared {number}")
                task.specify_cores(1)
                account.wanted[task.tag] = sha256(b"%d\n" % number + data)
                queue.submit(task)
            while account.is_open():
                task = queue.wait(1)
                if task is not None:
                    account.take(task.tag, task.output, task.result)
            account.close(queue)


main()
