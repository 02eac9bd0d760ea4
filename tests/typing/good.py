"""What a program may write; mypy has nothing to say."""

from __future__ import annotations

from pathlib import Path

import vine_sharedport as vine
import vine_sharedport.work_queue as wq


def run(path: Path) -> list[vine.Task]:
    plain = vine.Manager(9123, name="sweep")
    manager = vine.Manager(port=[9000, 9100], shared_port=vine.SharedPort(name="sweep"))
    assert manager.shared_port is not None
    print(manager.shared_port.worker_command, str(manager.shared_port.address), plain.name)
    task = vine.Task("echo")
    manager.submit(task)
    file: vine.File = manager.declare_file(str(path))
    task.add_input(file, "data")
    workers = vine.Factory(
        "condor", manager=manager, cores="2", memory=2000.5, env={"A": 1}, feature=["x"],
        worker_binary=path, wrapper="nice", condor_requirements=("a", "b"), directory=path,
    )  # fmt: skip
    workers.max_workers = 200
    workers.max_workers = "200"
    most: int = workers.max_workers
    workers.capacity = "yes"
    workers.scratch_dir = path
    workers.memory = None
    memory: int | None = workers.memory
    with workers:
        print(workers.status().workers, workers.directory.upper(), most, memory)
    with vine.submit_workers(manager, 2, cores="2", extra_options=["-d", "all"]) as jobs:
        print(jobs.status().running)
    local = vine.Factory("local", manager=manager)
    local.start()
    vine.StockFactory("slurm", manager=manager).batch_options = "-p long"
    queue = wq.WorkQueue(0, shared_port=True)
    wq.Factory("condor", manager=queue).min_workers = 1
    return [task]


with vine.connect("<192.0.2.7:9618?sock=a>", check=True, on_event=print) as sock:
    sock.sendall(b"x")
