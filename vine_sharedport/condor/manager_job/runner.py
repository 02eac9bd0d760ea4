"""What a manager's job runs: the user's program, and a process above it that ends it.

HTCondor ends a job of the local universe by one SIGTERM and then waits for ever: the
times that a submit description can set are not looked at there (seen with 23.9). And a
Python program that SIGTERM ends has no chance to remove its worker jobs, or, inside of
TaskVine's ``wait``, to notice any signal. So here SIGTERM becomes ``SystemExit`` for the
program, unless it has a handler of its own, and SIGKILL when it is not gone in time.

Run as a script, by its path: standard library only, no import of ours.
"""

from __future__ import annotations

import os
import resource
import runpy
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

# What the job may be sent. SIGTERM is HTCondor's, the others a person's.
_PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)

# As the shell tells a process that a signal has ended.
_ENDED_BY_SIGTERM = 128 + signal.SIGTERM


def main(arguments: Sequence[str]) -> int:
    """Run ``GRACE file|module NAME [ARGUMENT...]``; return its exit status, or die as it did.

    ``GRACE`` is what the program gets between SIGTERM and SIGKILL, in seconds.
    """
    grace, kind, command = float(arguments[0]), arguments[1], list(arguments[2:])
    # Blocked until each side has said what it does with them: none is lost.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED_ON, signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        _run(kind, command, before)
        return 0
    return _die_as(_watch(child, grace))


def _run(kind: str, command: list[str], mask: set[int]) -> None:
    """Be the program, as ``python3 NAME`` or ``python3 -m NAME`` would."""
    program = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != program:  # a child of it, by fork
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        # A second one must not break off what the first one's end is doing.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(_ENDED_BY_SIGTERM)

    signal.signal(signal.SIGTERM, end)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    sys.argv = command
    if kind == "module":
        sys.path[0] = os.getcwd()
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(command[0]))
        runpy.run_path(command[0], run_name="__main__")


def _watch(child: int, grace: float) -> int:
    """Pass signals on until the program has ended; return what ``wait`` says of it."""
    deadline = None
    while True:
        left = 3600.0 if deadline is None else max(0.0, deadline - time.monotonic())
        caught = signal.sigtimedwait({*_PASSED_ON, signal.SIGCHLD}, left)
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        if caught is None:
            if deadline is not None:
                sys.stderr.write(
                    f"vine_sharedport: the program has not ended within {grace:g} s after "
                    "SIGTERM, and is killed\n"
                )
                sys.stderr.flush()
                os.kill(child, signal.SIGKILL)
                return os.waitpid(child, 0)[1]
        elif caught.si_signo != signal.SIGCHLD:
            os.kill(child, caught.si_signo)
            if caught.si_signo == signal.SIGTERM and deadline is None:
                deadline = time.monotonic() + grace


def _die_as(status: int) -> int:
    """Return the program's exit status, or end by the signal that ended it."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the program has left its own
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    return os.WEXITSTATUS(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
