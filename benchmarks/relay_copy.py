"""Compare ways of copying between two sockets, as the relay does: recv and send, or splice.

    ./sandbox/run python benchmarks/relay_copy.py [--rounds N] [--mib N] [--ways A,B]

Three processes over loopback: a sender, the relay and a receiver, which do nothing else.
The ways are alternated, each with fresh processes. Columns: the rate; its ratio to that
without a relay in the same round, and the range of that; processor seconds for a GiB, of
each process; KiB that one read brought. Medians. docs/design.md has the decision.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import json
import multiprocessing
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

KIB, MIB, GIB = 2**10, 2**20, 2**30
_APPLICATION = 64 * KIB  # what a worker and its manager read and write at once
_F_SETPIPE_SZ = 1031  # <linux/fcntl.h>; the module fcntl has it since Python 3.10
_DIRECT = "direct"

Way = Callable[[socket.socket, socket.socket], int]
"""Copies until the source ends; returns how many reads that took."""


def copy(size: int) -> Way:
    """Read and send with one buffer of this size."""

    def run(source: socket.socket, sink: socket.socket) -> int:
        reads = 0
        buffer = memoryview(bytearray(size))
        while got := source.recv_into(buffer):
            sink.sendall(buffer[:got])
            reads += 1
        return reads

    return run


def splice(size: int) -> Way:
    """Move by a pipe of this size, without a copy into our memory."""

    def run(source: socket.socket, sink: socket.socket) -> int:
        reads = 0
        out, into = os.pipe()
        fcntl.fcntl(into, _F_SETPIPE_SZ, size)
        while got := _splice(source.fileno(), into, size):
            reads += 1
            while got:
                got -= _splice(out, sink.fileno(), got)
        os.close(out)
        os.close(into)
        return reads

    return run


# ssize_t splice(int, off64_t *, int, off64_t *, size_t, unsigned int);
# os.splice() came with Python 3.10.
_libc_splice = ctypes.CDLL(None, use_errno=True).splice
_libc_splice.restype = ctypes.c_ssize_t
_libc_splice.argtypes = [
    ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint,
]  # fmt: skip


def _splice(source: int, sink: int, size: int) -> int:
    moved = int(_libc_splice(source, None, sink, None, size, 0))
    if moved < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return moved


WAYS: dict[str, Way | None] = {
    _DIRECT: None,
    "copy-64K": copy(64 * KIB),
    "copy-256K": copy(256 * KIB),
    "copy-1M": copy(MIB),
    "copy-4M": copy(4 * MIB),
    "splice-8K": splice(8 * KIB),
    "splice-64K": splice(64 * KIB),
    "splice-256K": splice(256 * KIB),
    "splice-1M": splice(MIB),
}


def main() -> int:
    options = _options()
    size = options.mib * MIB
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in options.ways}
    for number in range(options.rounds):
        turn = number % len(options.ways)
        for name in [*options.ways[turn:], *options.ways[:turn]]:
            rows[name].append(_run(WAYS[name], size))
        for name in options.ways:
            rows[name][-1]["ratio"] = rows[name][-1]["rate"] / rows[_DIRECT][-1]["rate"]
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"kernel": os.uname().release, "mib": options.mib, "ways": rows}, file)
    print(
        "| way | MiB/s | ratio | range | relay | sender | receiver | all three | KiB a read |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, found in rows.items():
        middle = {key: statistics.median(row[key] for row in found) for key in found[0]}
        ratios = [row["ratio"] for row in found]
        reads = f"{options.mib * KIB / middle['reads']:.0f}" if middle["reads"] else ""
        print(
            f"| {name} | {middle['rate'] / MIB:.0f} | {middle['ratio']:.2f} "
            f"| {min(ratios):.2f}-{max(ratios):.2f} | {middle['relay']:.2f} "
            f"| {middle['sender']:.2f} | {middle['receiver']:.2f} "
            f"| {sum(middle[name] for name in ('relay', 'sender', 'receiver')):.2f} | {reads} |"
        )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", metavar="N", type=int, default=9)
    parser.add_argument("--mib", metavar="N", type=int, default=1024, help="size of a transfer")
    parser.add_argument("--ways", metavar="A,B", default=",".join(WAYS),
                        help=f"which: {', '.join(WAYS)}")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write all that was measured")
    options = parser.parse_args()
    chosen = {_DIRECT, *options.ways.split(",")}
    if unknown := chosen - set(WAYS):
        parser.error(f"no such way: {', '.join(sorted(unknown))}")
    if min(options.rounds, options.mib) < 1:
        parser.error("--rounds and --mib must be 1 at least")
    options.ways = [name for name in WAYS if name in chosen]
    return options


def _run(way: Way | None, size: int) -> dict[str, float]:
    """Send bytes by one way; return their rate, and what each process needed."""
    with contextlib.ExitStack() as stack:
        exit_ = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        receiver = stack.enter_context(_process(_receiver, exit_, size))
        first, relay = exit_, None
        if way is not None:
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            relay = stack.enter_context(_process(_relay, first, exit_.getsockname(), way))
        with socket.create_connection(first.getsockname()) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            data, left = bytes(_APPLICATION), size
            begun, used = time.monotonic(), time.process_time()
            while left:
                sock.sendall(data[:left])
                left -= min(left, len(data))
            sock.shutdown(socket.SHUT_WR)
            if sock.recv(1) != b"!":
                raise SystemExit("the receiver did not get all bytes")
            seconds, used = time.monotonic() - begun, time.process_time() - used
        reads, relay_used = relay.recv() if relay else (0, 0.0)
        spent = {"sender": used, "receiver": receiver.recv(), "relay": relay_used}
    per_gib = {name: value * GIB / size for name, value in spent.items()}
    return {"rate": size / seconds, "reads": reads, **per_gib}


@contextlib.contextmanager
def _process(target: Callable[..., None], *args: Any) -> Iterator[Connection]:
    """Run a function in a process of its own; yield where its report comes."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(theirs, *args))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.join(60)
        if process.is_alive():
            process.kill()
            process.join()
        ours.close()


def _receiver(report: Connection, listener: socket.socket, size: int) -> None:
    sock, _ = listener.accept()
    used = time.process_time()
    buffer = bytearray(_APPLICATION)
    left = size
    while left and (got := sock.recv_into(buffer)):
        left -= got
    if not left:
        sock.sendall(b"!")
    report.send(time.process_time() - used)


def _relay(report: Connection, listener: socket.socket, onward: Any, way: Way) -> None:
    near, _ = listener.accept()
    far = socket.create_connection(onward)
    for sock in (near, far):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    used = time.process_time()
    # The other direction, idle but for one byte, as while a large file is sent.
    back = threading.Thread(target=copy(256 * KIB), args=(far, near))
    back.start()
    reads = way(near, far)
    far.shutdown(socket.SHUT_WR)
    back.join()
    report.send((reads, time.process_time() - used))


if __name__ == "__main__":
    sys.exit(main())
