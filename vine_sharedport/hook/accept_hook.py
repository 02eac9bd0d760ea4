"""The manager's accept loop, extended by a second source of connections.

A manager waits with ``poll()`` for its one listening descriptor and then calls
``accept()`` on it. The hook puts an epoll set {TCP listener, second source} in that
descriptor's place and redirects the calls ``accept``, ``getsockname`` and ``close``
of the one library that holds the manager. Its loop, compiled as it is, then takes
connections from both.

**Callbacks and signals.** A signal's Python handler runs at the first instruction of
a Python function, outside any ``try`` block in it. Ctrl-C would leave the callback,
and C would take a leftover number for a descriptor. So the callbacks here are C
objects all the way: a ctypes function that calls the real C function, with a
*suspended generator* behind one of its conversions. A generator is resumed inside its
``try`` block, so it catches whatever the handler raises; it is kept in ``_deferred``
and raised again by ``raise_deferred()`` once the C call has returned to Python.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import logging
import os
import select
import socket
import threading
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any, Callable, Protocol

from vine_sharedport.errors import HookError
from vine_sharedport.hook import _libc
from vine_sharedport.hook.elf import ElfImage, Slot

__all__ = ["NOTHING", "Attachment", "Source", "attach", "raise_deferred"]

log = logging.getLogger(__name__)

NOTHING = 0x7FFFFFFF
"""What ``accept()`` answers when no connection is there.

Above every possible descriptor, so each call on it fails with EBADF and the manager
goes on at once. A -1 with EAGAIN would make its ``link_accept`` wait up to 5 s, and a
real descriptor would be closed twice on its failure path (``link.c``).
"""

# Far more than a manager can have connected.
_MAX_REMEMBERED = 100_000

_SYMBOLS = ("accept", "getsockname", "close")


class Source(Protocol):
    """Where connections come from besides TCP. Called from the manager's own loop."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while ``receive`` has work."""

    def receive(self) -> int | None:
        """Return the next client's descriptor, the caller's from then on, or None."""

    def release(self) -> None:
        """Stop bringing clients: the manager has closed its port. Must not wait."""

    def drop_in_child(self) -> None:
        """Close what a forked child inherited, without a word to anybody."""


class Attachment:
    """One manager's listening descriptor, standing for two sources.

    Owns the duplicate of the TCP listener and the epoll set. The number
    ``listen_fd`` stays the manager's; ``source`` stays the caller's.

    Attributes:
        listen_fd: The manager's descriptor.
        by_tcp: Connections accepted by TCP so far.
        by_source: Connections taken from the source so far.
        from_source: Peer addresses (``host:port``) of the latest of those.
    """

    def __init__(self, listen_fd: int, source: Source, hook: _LibraryHook) -> None:
        self.listen_fd = listen_fd
        self.by_tcp = 0
        self.by_source = 0
        self.from_source: dict[str, None] = {}  # an ordered set
        self._source = source
        self._hook = hook
        self._source_first = True
        self._pid = os.getpid()
        self._open = True
        self._listener_fd = fcntl.fcntl(listen_fd, fcntl.F_DUPFD_CLOEXEC, 3)
        try:
            self._epoll = select.epoll()
        except BaseException:
            os.close(self._listener_fd)
            raise
        try:
            self._epoll.register(self._listener_fd, select.EPOLLIN)
            self._epoll.register(source.fileno(), select.EPOLLIN)
            # From here on the manager's poll() wakes for either.
            os.dup2(self._epoll.fileno(), listen_fd, inheritable=False)
        except BaseException:
            self._epoll.close()
            os.close(self._listener_fd)
            raise

    @property
    def listener_fd(self) -> int:
        """The TCP listener itself; this object's."""
        return self._listener_fd

    @property
    def is_open(self) -> bool:
        """Whether the manager still accepts through this attachment."""
        return self._open

    def next_client(self) -> int:
        """Take one connection from either source, in turns; ``NOTHING`` if none is there."""
        self._source_first = not self._source_first
        if self._source_first:
            return self._from_source(self._from_tcp(NOTHING))
        return self._from_tcp(self._from_source(NOTHING))

    def _from_tcp(self, found: int) -> int:
        if found != NOTHING:
            return found
        client: int = _libc.real_accept(self._listener_fd, None, None)
        if client < 0:  # EAGAIN, or a client that has gone: the loop comes again
            return NOTHING
        self.by_tcp += 1
        return client

    def _from_source(self, found: int) -> int:
        if found != NOTHING:
            return found
        client = self._source.receive()
        if client is None:
            return NOTHING
        self.by_source += 1
        self._remember(client)
        return client

    def _remember(self, client: int) -> None:
        """Note the client's address as the manager will write it; forget the oldest."""
        with contextlib.suppress(OSError):
            sock = socket.socket(fileno=client)
            try:
                host, port = sock.getpeername()[:2]
            finally:
                sock.detach()  # the number is the manager's
            self.from_source.pop(f"{host}:{port}", None)
            self.from_source[f"{host}:{port}"] = None
            if len(self.from_source) > _MAX_REMEMBERED:
                del self.from_source[next(iter(self.from_source))]

    def was_closed(self) -> bool:
        """Whether the manager has closed its descriptor."""
        try:
            return os.readlink(f"/proc/self/fd/{self.listen_fd}") != "anon_inode:[eventpoll]"
        except OSError:
            return True

    def detach(self) -> None:
        """Give the manager its TCP listener back, if it has not closed it. Idempotent."""
        with _lock:
            if not self._open:
                return
            self._open = False
            if _attachments.get(self.listen_fd) is self:
                del _attachments[self.listen_fd]
            if os.getpid() != self._pid:
                return  # drop_in_child() closed our numbers; the set is the parent's
            if not self.was_closed():
                os.dup2(self._listener_fd, self.listen_fd, inheritable=False)
            # A forked child may hold the set open: take the sources out, so that it
            # does not go on listening for us.
            for fd in (self._listener_fd, self._source.fileno()):
                with contextlib.suppress(OSError, ValueError):
                    self._epoll.unregister(fd)
            self._epoll.close()
            os.close(self._listener_fd)
            self._source.release()
            self._hook.release()

    def drop_in_child(self) -> None:
        """Forget everything in a forked child, which must not touch the shared epoll set."""
        self._open = False
        for fd in (self._listener_fd, self._epoll.fileno()):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._source.drop_in_child()


def attach(library: str, listen_fd: int, source: Source) -> Attachment:
    """Make a manager accept connections from ``source`` beside its TCP listener.

    Args:
        library: File of the loaded library that holds the manager's code.
        listen_fd: The manager's listening TCP descriptor. Stays the manager's.
        source: The second source. Stays the caller's, and must outlive the attachment.

    Returns:
        The attachment. It ends by ``detach()``, when the manager closes its
        descriptor, or when the interpreter ends.

    Raises:
        HookError: Something is not as expected; library and descriptor are untouched.
    """
    with _lock:
        if listen_fd in _attachments:
            raise HookError(f"descriptor {listen_fd} has a shared port already")
        _check_listener(listen_fd)
        hook = _hook_for(library)
        hook.acquire()
        try:
            attachment = Attachment(listen_fd, source, hook)
        except BaseException as error:
            hook.release()
            if isinstance(error, OSError):
                raise HookError(f"cannot set up the epoll set: {error.strerror}") from error
            raise
        _attachments[listen_fd] = attachment
        return attachment


def raise_deferred() -> None:
    """Raise what a callback had to hold back, such as KeyboardInterrupt.

    Call it whenever a C call that may have accepted connections has returned.
    """
    while _deferred:
        error = _deferred.pop(0)
        if isinstance(error, Exception):
            log.error("the accept hook failed and went on", exc_info=error)
        else:
            raise error


def _check_listener(fd: int) -> None:
    """Refuse anything but a listening, non-blocking TCP socket."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise HookError(f"descriptor {fd} is no socket: {error.strerror}") from error
    try:
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
    finally:
        sock.detach()  # the number is the manager's
    if not listens or not is_tcp:
        raise HookError(f"descriptor {fd} is not a listening TCP socket")
    if os.get_blocking(fd):
        raise HookError(f"descriptor {fd} blocks; a manager's listener never does")


class _LibraryHook:
    """The three redirected imports of one library, counted by the managers that use them."""

    def __init__(self, library: str) -> None:
        machine = _libc.check_platform()
        loaded = _libc.find_library(library)
        image = ElfImage(_libc.read_memory, loaded.base, loaded.headers, machine)
        self._slots: dict[str, Slot] = {}
        for symbol, slots in image.slots(_SYMBOLS).items():
            if len(slots) != 1:
                raise HookError(
                    f"{library} imports {symbol}() through {len(slots)} slots, not one; "
                    "it was built in a way this version does not know"
                )
            self._slots[symbol] = slots[0]
            # Bound already, or still the lazy-binding stub in the library's own PLT.
            value = _libc.read_pointer(slots[0].address)
            if value != _libc.function_address(symbol) and not image.is_code(value):
                raise HookError(f"{symbol}() of {library} is already redirected to {value:#x}")
        self._before: dict[str, int] = {}
        self._users = 0

    def acquire(self) -> None:
        """Install the redirections for the first user; all of them or none."""
        if not self._users:
            try:
                for symbol, slot in self._slots.items():
                    self._before[symbol] = _libc.read_pointer(slot.address)
                    _libc.write_pointer(slot.address, _CALLBACK_ADDRESSES[symbol])
            except BaseException:
                self._restore()
                raise
        self._users += 1

    def release(self) -> None:
        """Restore the library when its last user has gone."""
        self._users -= 1
        if not self._users:
            self._restore()

    def _restore(self) -> None:
        for symbol, before in self._before.items():
            slot = self._slots[symbol]
            # Somebody may have redirected it once more; then it is theirs to restore,
            # and our callback goes on passing calls through.
            if _libc.read_pointer(slot.address) == _CALLBACK_ADDRESSES[symbol]:
                _libc.write_pointer(slot.address, before)
        self._before.clear()


_lock = threading.RLock()
_attachments: dict[int, Attachment] = {}
_hooks: dict[str, _LibraryHook] = {}
_deferred: list[BaseException] = []


def _hook_for(library: str) -> _LibraryHook:
    hook = _hooks.get(library)
    if hook is None or not hook._users:
        hook = _hooks[library] = _LibraryHook(library)
    return hook


def _resumed(handle: Callable[[int], int], interrupted: Callable[[], int]) -> Any:
    """Return a C-callable of one number whose Python code runs inside a try block.

    Args:
        handle: Maps the number to the answer.
        interrupted: Gives the answer when anything was raised on the way.
    """

    def loop() -> Generator[int, int, None]:
        answer = 0
        while True:
            try:
                try:
                    while True:
                        answer = handle((yield answer))
                except GeneratorExit:
                    return
                except BaseException as error:  # KeyboardInterrupt included
                    _deferred.append(error)
                    answer = interrupted()
            except GeneratorExit:
                return
            except BaseException as error:  # a second Ctrl-C within the lines above
                _deferred.append(error)

    generator = loop()
    next(generator)
    return generator.send


def _redirect(
    function: Any, first_argument: Callable[[int], int], result: Callable[[int], int]
) -> Any:
    """Return a C-level callable: the C function between two conversions of ours.

    ctypes converts the first argument by ``first_argument``, calls the function and
    hands its number to ``result``, all without a Python frame of its own.
    """
    wrapped = type(function)(_libc.address_of(function))
    if first_argument is not _unchanged:
        wrapped.argtypes = [SimpleNamespace(from_param=first_argument), *wrapped.argtypes[1:]]
    if result is not _unchanged:
        wrapped.restype = result
    return wrapped


def _unchanged(value: int) -> int:
    return value


# accept(): take a client, let the real getpeername() tell the caller its address, and
# answer with the client. One thread at a time runs a callback: it holds the GIL.
_taken = {"client": NOTHING, "errno": 0}


def _take(fd: int) -> int:
    attachment = _attachments.get(fd)
    if attachment is None:
        _taken["client"] = _libc.real_accept(fd, None, None)
    else:
        _taken["client"] = attachment.next_client()
    _taken["errno"] = ctypes.get_errno()
    return _taken["client"]


def _answer(_: int = 0) -> int:
    # getpeername() has set errno: EFAULT, as the managers pass no address.
    ctypes.set_errno(_taken["errno"])
    client, _taken["client"] = _taken["client"], NOTHING  # a client is answered once
    return client


# getsockname(): the same call on the TCP listener.
def _listener_of(fd: int) -> int:
    attachment = _attachments.get(fd)
    return fd if attachment is None else attachment.listener_fd


# close(): the real call first, then a look at what it closed. Judged by the state and
# not by the argument, so that the call is made and nothing is missed even when a signal
# interrupts the look.
def _after_close(result: int) -> int:
    code = ctypes.get_errno()
    for attachment in list(_attachments.values()):
        if attachment.was_closed():
            attachment.detach()
    ctypes.set_errno(code)
    return result


# These live as long as the process: a thread may be inside one while it is removed.
_CALLBACKS = {
    "accept": _libc.ACCEPT_FUNCTION(
        _redirect(
            _libc.real_getpeername,
            _resumed(_take, lambda: NOTHING),
            _resumed(_answer, _answer),
        )
    ),
    "getsockname": _libc.GETSOCKNAME_FUNCTION(
        _redirect(_libc.real_getsockname, _resumed(_listener_of, lambda: -1), _unchanged)
    ),
    "close": _libc.CLOSE_FUNCTION(
        _redirect(_libc.real_close, _unchanged, _resumed(_after_close, lambda: 0))
    ),
}
_CALLBACK_ADDRESSES = {
    name: _libc.address_of(callback) for name, callback in _CALLBACKS.items()
}


def _detach_all() -> None:
    """Restore everything before the interpreter that the callbacks need is gone."""
    for attachment in list(_attachments.values()):
        attachment.detach()


def _drop_in_child() -> None:
    for attachment in list(_attachments.values()):
        attachment.drop_in_child()
    _attachments.clear()


atexit.register(_detach_all)
os.register_at_fork(after_in_child=_drop_in_child)
