"""What is wrong in a program; each line has the code of mypy's error."""

from __future__ import annotations

import vine_sharedport as vine
import vine_sharedport.work_queue as wq

vine.Managr()  # E: attr-defined
manager = vine.Manager(shard_port=True)  # E: call-arg
wq.WorkQueue(shard_port=True)  # E: call-arg
vine.Manager(shared_port="sweep")  # E: arg-type
manager.shared_port.worker_command  # E: union-attr  # noqa: B018
workers = vine.Factory("condor", manager=manager)
workers.max_wokers = 2  # E: attr-defined
workers.max_workers = [2]  # E: assignment
print(workers.max_wrkers)  # E: attr-defined
vine.Factory("condor", manager=manager, max_wokers=2)  # E: call-arg
vine.Factory("condor", manager=manager, env=3)  # E: arg-type
workers.status().wokers  # E: attr-defined  # noqa: B018
vine.submit_workers(manager, cpus=2)  # E: call-arg
vine.submit_workers(manager, worker="vine_worker")  # E: call-arg
vine.connect("<192.0.2.7:9618?sock=a>", confirm=True)  # E: call-arg
vine.PersonalPool.attach("/tmp")  # E: attr-defined
