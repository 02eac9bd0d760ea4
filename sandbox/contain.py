"""Run COMMAND and end whatever it leaves behind; for methods without a PID namespace.

Orphans of COMMAND become children of this process (PR_SET_CHILD_SUBREAPER, prctl(2)), which
ends them with SIGKILL when COMMAND has ended, as the kernel does with a PID namespace. The
same happens when our parent ends, however that happens, and on SIGUSR1. Other signals than
that are COMMAND's affair: the caller ignores them, and so do we.

Usage: python3 contain.py [--report FD] [--remove DIRECTORY] -- COMMAND...

--report writes COMMAND's pid and exit status to FD, as bubblewrap's --json-status-fd does.
--remove removes DIRECTORY when all is over. The exit status is COMMAND's; a death by signal
N gives 128+N.
"""

import argparse
import contextlib
import ctypes
import os
import shutil
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


class Told(Exception):
    """Our parent has ended, or wants the end."""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", type=int)
    parser.add_argument("--remove")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    parent = os.getppid()
    name_process("contain.py")  # by which the caller tells us from COMMAND
    signal.signal(signal.SIGUSR1, tell)
    libc = ctypes.CDLL(None, use_errno=True)
    for what, value in ((PR_SET_CHILD_SUBREAPER, 1), (PR_SET_PDEATHSIG, signal.SIGUSR1)):
        if libc.prctl(what, int(value), 0, 0, 0):
            sys.exit(f"sandbox/run: prctl: {os.strerror(ctypes.get_errno())}")
    status = 128 + signal.SIGKILL
    try:
        if os.getppid() != parent:
            raise Told
        child = start(options)
        report(options, "child-pid", child)
        status = wait_for(child)
    except Told:
        pass
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        end_descendants()
        if options.remove:
            shutil.rmtree(options.remove, ignore_errors=True)
    report(options, "exit-code", status)
    return status


def name_process(name):
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write(name)


def tell(number, frame):
    raise Told


def start(options):
    child = os.fork()
    if child:
        return child
    try:
        if options.report is not None:
            os.set_inheritable(options.report, False)
        os.execvp(options.command[0], options.command)
    except OSError as error:
        print(f"sandbox/run: {options.command[0]}: {error.strerror}", file=sys.stderr)
    os._exit(127)


def report(options, name, number):
    if options.report is not None:
        with contextlib.suppress(BrokenPipeError):
            os.write(options.report, f'{{ "{name}": {number} }}\n'.encode())


def wait_for(child):
    """Wait for the child, reaping orphans meanwhile; return its status as a shell gives it."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def end_descendants():
    """Kill all of them, until none is left: those of a killed one become our children."""
    while True:
        waiting = children_of(os.getpid())
        for pid in waiting:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            waiting += children_of(pid)
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    sys.exit(main())
