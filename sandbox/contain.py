"""Run COMMAND and end whatever it leaves behind; for methods without a PID namespace.

Orphans of COMMAND become children of this process (PR_SET_CHILD_SUBREAPER, prctl(2)), which
ends them with SIGKILL when COMMAND has ended, as the kernel does with a PID namespace. The
same happens when our parent ends, however that happens, and on SIGUSR1. Other signals than
that are COMMAND's affair: the caller ignores them, and so do we.

Usage: python3 contain.py [OPTION]... -- COMMAND...

--parent is the pid of who started us, which may have ended before we looked.
--environment reads COMMAND's variables from FD, each with a NUL behind it; what comes from the
terminal then reaches COMMAND and not what is between (see leave_group).
--report writes COMMAND's pid and exit status to FD, as bubblewrap's --json-status-fd does.
--remove removes DIRECTORY when all is over. --for-proot forbids COMMAND the system calls that
proot 5.1 does not know, so that the C library uses older ones in their place. The exit status
is COMMAND's; a death by signal N gives 128+N.
"""

import argparse
import contextlib
import ctypes
import errno
import os
import shutil
import signal
import struct
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2

# With paths that proot would not translate, or, clone3, with a child that it would not see.
# From 424 on all processors have the same numbers (asm-generic/unistd.h).
UNKNOWN_TO_PROOT = {"clone3": 435, "openat2": 437, "faccessat2": 439, "fchmodat2": 452}
UNKNOWN_TO_PROOT["statx"] = 332 if os.uname().machine == "x86_64" else 291
UNKNOWN_TO_PROOT["renameat2"] = 316 if os.uname().machine == "x86_64" else 276


class Told(Exception):
    """Our parent has ended, or wants the end."""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", type=int)
    parser.add_argument("--parent", type=int)
    parser.add_argument("--environment", type=int)
    parser.add_argument("--remove")
    parser.add_argument("--for-proot", action="store_true")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if options.environment is not None:
        read_environment(options.environment)
        leave_group()
    parent = options.parent or os.getppid()
    name_process("contain.py")  # by which the caller tells us from COMMAND
    signal.signal(signal.SIGUSR1, tell)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
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
            remove(options.remove)
    report(options, "exit-code", status)
    return status


def read_environment(fd):
    with open(fd, "rb") as file:
        pairs = [one.partition(b"=")[::2] for one in file.read().split(b"\0")[:-1]]
    os.environ.clear()
    os.environb.update(pairs)


def leave_group():
    """Keep the terminal's SIGQUIT from proot, which ends all on it; COMMAND returns to it."""
    if os.getpgrp() != os.getpid():
        os.environ["CONTAIN_GROUP"] = str(os.getpgrp())
        os.setpgid(0, 0)


def name_process(name):
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write(name)


def prctl(what, value, address=None):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(what, ctypes.c_ulong(value), address, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "prctl")


def forbid(numbers):
    """Let these system calls fail with ENOSYS, here and in all children (seccomp(2))."""
    # struct sock_filter: code, jump if true, jump if false, value (linux/filter.h)
    load, equal, answer = 0x20, 0x15, 0x06
    allow, error = 0x7FFF0000, 0x00050000
    program = [(load, 0, 0, 0)]  # the number, in struct seccomp_data
    for number in numbers:
        program += [(equal, 0, 1, number), (answer, 0, 0, error | errno.ENOSYS)]
    program.append((answer, 0, 0, allow))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    array = struct.pack("@HP", len(program), ctypes.addressof(code))  # struct sock_fprog
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, array)


def tell(number, frame):
    raise Told


def start(options):
    child = os.fork()
    if child:
        return child
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if options.for_proot and "CONTAIN_GROUP" in os.environ:
            os.setpgid(0, int(os.environ.pop("CONTAIN_GROUP")))
        # Python ignores these, and COMMAND would inherit that.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        if options.report is not None:
            os.set_inheritable(options.report, False)
        if options.for_proot:
            forbid(UNKNOWN_TO_PROOT.values())
        os.execvp(options.command[0], options.command)
    except OSError as error:
        print(f"sandbox/run: {error}", file=sys.stderr)
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


def remove(directory):
    """Remove it, with the directories in it that COMMAND has made read-only."""
    for path, _, _ in os.walk(directory):  # each before it is listed
        with contextlib.suppress(OSError):
            os.chmod(path, 0o700)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
