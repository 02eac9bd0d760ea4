"""What the hook's tests need: a body in a child process, a C manager, a source."""

from __future__ import annotations

import array
import contextlib
import ctypes
import functools
import gc
import itertools
import operator
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, Callable

import pytest

from vine_sharedport.hook import _libc, accept_hook
from vine_sharedport.hook.elf import ElfImage, Slot

ROOT = Path(__file__).resolve().parents[3]
SYMBOLS = ("accept", "getsockname", "close")
NOTHING = 0x7FFFFFFF


def in_child(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test's body in a forked child: a crash or a hang there is a failed test.

    The child must leave no descriptor open and no exception in a callback.
    """

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_in_child(functools.partial(test, *args, **kwargs))

    return run


def run_in_child(body: Callable[[], None], *, timeout: float = 60.0) -> None:
    """Run ``body()`` in a forked child and fail the test with what went wrong there."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside other threads
        pid = os.fork()
    if not pid:
        os.close(reader)
        _child(body, writer)
    os.close(writer)
    report, status = b"", None
    try:
        until = time.monotonic() + timeout
        while select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
            part = os.read(reader, 65536)
            if not part:
                _, status = os.waitpid(pid, 0)
                break
            report += part
    finally:
        os.close(reader)
        if status is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    if status is None:
        pytest.fail(f"the child did not end within {timeout:g} s", pytrace=False)
    if os.WIFSIGNALED(status):
        report += f"the child died of {signal.Signals(os.WTERMSIG(status)).name}".encode()
    if report or status:
        pytest.fail(report.decode(errors="replace") or f"exit status {status}", pytrace=False)


class _SignalStack(ctypes.Structure):
    """stack_t of <signal.h>."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def _leave_signal_stack() -> None:
    """Take signals on the ordinary stack.

    That of pytest's faulthandler is small: six signals at once do not fit on it where the
    processor's registers are large.
    """
    disable = 2  # SS_DISABLE
    ctypes.CDLL(None).sigaltstack(ctypes.byref(_SignalStack(None, disable, 0)), None)


def _child(body: Callable[[], None], writer: int) -> None:
    _leave_signal_stack()
    ignored: list[str] = []
    sys.unraisablehook = lambda problem: ignored.append(
        f"{problem.err_msg}: {problem.exc_value!r} {problem.object!r}"
    )
    status = 1
    try:
        gc.collect()
        before = open_descriptors()
        try:
            body()
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        gc.collect()
        left = {fd: what for fd, what in open_descriptors().items() if fd not in before}
        assert not left, f"descriptors left open: {left}"
        assert not ignored, ignored
        status = 0
    except BaseException:
        with contextlib.suppress(OSError):
            os.write(writer, traceback.format_exc()[-60000:].encode())
    finally:
        os._exit(status)


def open_descriptors() -> dict[int, str]:
    """Return this process's descriptors and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def run_python(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a new interpreter that finds the package and these tests."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", "-c", program, *args],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def load(library: str) -> ctypes.PyDLL:
    """Load a library with lazy binding where it was built for that; ctypes would not."""
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = [ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p
    handle = dlopen(os.fsencode(library), os.RTLD_LAZY | os.RTLD_LOCAL)
    assert handle
    return ctypes.PyDLL(library, handle=handle)


class Manager:
    """One listening port of the C server; calls it with the GIL held, as SWIG does."""

    def __init__(self, library: str, *, host: int = 1, backlog: int = 5) -> None:
        self.library = library
        self.host = f"127.0.0.{host}"
        self.c = load(library)
        self.c.server_raw_accept.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        self.fd: int = self.c.server_listen(host, backlog)
        assert self.fd >= 0
        self.port: int = self.c.server_port(self.fd)
        assert self.port

    def number(self, name: str) -> int:
        """Return one of the library's counters."""
        return ctypes.c_int.in_dll(self.c, name).value

    def bind_imports(self) -> None:
        """Call what may be bound lazily, so that the slots stay as they are."""
        with self.connect():
            self.c.server_close(self.accept())

    def accept(self, timeout: float = 5.0) -> int:
        """Wait for a client and take it, as the manager does; -1 if there was none."""
        if not self.c.server_wait(self.fd, int(1000 * timeout)):
            return -1
        return int(self.c.server_accept(self.fd, int(1000 * timeout)))

    def close(self) -> int:
        """Close the port as C does."""
        return int(self.c.server_close(self.fd))

    def connect(self, host: str | None = None) -> socket.socket:
        """Return a client that has connected by TCP."""
        return socket.create_connection((host or self.host, self.port), timeout=5)

    def refuses(self, host: str | None = None) -> bool:
        """Whether nobody listens on the port."""
        try:
            self.connect(host).close()
        except ConnectionRefusedError:
            return True
        return False


class PairSource:
    """A source that passes on the descriptors sent into a socket pair.

    Attributes:
        receive: In C to the end, so that no signal can come between the message and the
            hook, even on Python 3.9, which looks for signals at almost every instruction.
        released: How often ``release()`` was called.
    """

    receive: Callable[[], int | None]

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self.released = 0
        # (data, [(level, type, descriptor)], flags, address)
        call = (1, socket.CMSG_LEN(4), socket.MSG_CMSG_CLOEXEC)
        found: Any = itertools.starmap(self._ours.recvmsg, itertools.repeat(call))
        for index in (1, 0, 2):
            found = map(operator.itemgetter(index), found)
        found = map(functools.partial(int.from_bytes, byteorder=sys.byteorder), found)
        self._receive = self.receive = functools.partial(next, found)

    def fail_with(self, error: Exception | None) -> None:
        """Make ``receive()`` raise an exception, or not."""

        def fail() -> int:
            assert error is not None
            raise error

        self.receive = fail if error is not None else self._receive

    def fileno(self) -> int:
        return self._ours.fileno()

    def release(self) -> None:
        self.released += 1

    def drop_in_child(self) -> None:
        self.close()

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()

    def only_send(self) -> None:
        """Close the manager's end, in another process."""
        self._ours.close()

    def only_receive(self) -> None:
        """Close the sender's end, where it is in another process."""
        self._theirs.close()

    def send(self, fd: int) -> None:
        """Send one descriptor, which stays the caller's."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self._theirs.sendmsg([b"\0"], rights)

    def bring(self) -> socket.socket:
        """Send one end of a new TCP connection; return the other end.

        The client has a host of its own: the kernel gives one port to clients of different
        servers, and tests tell clients by their addresses.
        """
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(
                server.getsockname(), timeout=5, source_address=("127.0.0.2", 0)
            )
            passed, _ = server.accept()
            with passed:
                self.send(passed.fileno())
        return client


class Hooked:
    """A C manager with a source attached, for a ``with`` block; both closed at its end."""

    def __init__(self, library: str, *, backlog: int = 5) -> None:
        self.source = PairSource()
        self.manager = Manager(library, backlog=backlog)
        self.attachment = accept_hook.attach(library, self.manager.fd, self.source)

    def __enter__(self) -> Hooked:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.attachment.is_open:
            self.manager.close()
        self.source.close()


class Interruptions:
    """Raise KeyboardInterrupt in the hook's own code, at its n-th step.

    For a ``with`` block. An exception of a trace function appears where a signal
    handler's would, but at each place in turn instead of by chance.

    Args:
        at: The step, from 0.
        event: What a step is: ``line`` or ``opcode``.
        files: Names of the modules whose code is counted.

    Attributes:
        raised: How many were raised, 0 or 1.
    """

    def __init__(self, at: int, event: str, *files: str) -> None:
        self.raised = 0
        self._left = at
        self._event = event
        directory = os.path.dirname(accept_hook.__file__)
        self._files = {os.path.join(directory, name) for name in files}

    def __enter__(self) -> Interruptions:
        sys.settrace(self._call)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(None)

    def _call(self, frame: Any, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        frame.f_trace_opcodes = self._event == "opcode"
        return self._step

    def _step(self, frame: Any, event: str, argument: object) -> Any:
        if event == self._event:
            self._left -= 1
            if self._left < 0 and not self.raised:
                self.raised = 1
                raise KeyboardInterrupt
        return self._step


def wait_until_asleep_in(pid: int, call: str, *, timeout: float = 10.0) -> None:
    """Wait until a process's main thread sleeps in the poll() that ``call`` names."""
    # /proc/PID/syscall: the number, then the arguments; poll(2) is 7 and ppoll(2) 271 on
    # x86-64, ppoll(2) 73 on AArch64.
    numbers = {"poll": ("7", "271", "73")}[call]
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        with open(f"/proc/{pid}/syscall") as file:
            if file.read().split()[0] in numbers:
                return
        time.sleep(0.001)
    raise AssertionError(f"process {pid} does not wait in {call}()")


def is_same_connection(fd: int, client: socket.socket) -> bool:
    """Whether a descriptor is the other end of a client's connection; closes it."""
    with socket.socket(fileno=fd) as ours:
        return bool(ours.getpeername() == client.getsockname())


@functools.cache
def import_slots(library: str) -> dict[str, list[Slot]]:
    """Find the slots of a loaded library, which stay where they are."""
    loaded = _libc.find_library(library)
    machine = _libc.check_platform()
    return ElfImage(_libc.read_memory, loaded.base, loaded.headers, machine).slots(SYMBOLS)


def slot_values(library: str) -> dict[str, list[int]]:
    """Return what stands in the slots of a loaded library."""
    return {
        name: [_libc.read_pointer(slot.address) for slot in slots]
        for name, slots in import_slots(library).items()
    }


def protection(address: int) -> str:
    """Return the permissions of the page at an address, such as ``rw-p``."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if start <= address < end:
                return line.split()[1]
    raise AssertionError(f"{address:#x} is not mapped")
