"""The manager's accept loop, extended by a second source of connections.

A manager waits with ``poll()`` for its one listening descriptor and then calls
``accept()`` on it. The hook puts an epoll set {TCP listener, second source} in that
descriptor's place and redirects the calls ``accept``, ``getsockname`` and ``close``
of the one library that holds the manager. Its loop, compiled as it is, then takes
connections from both.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import logging
import operator
import os
import select
import socket
import stat
import threading
from typing import Any, Protocol

from vine_sharedport.errors import HookError
from vine_sharedport.hook import _libc
from vine_sharedport.hook._callback import PerThread, answer_with, deferred, redirect, store
from vine_sharedport.hook.elf import ElfImage, Slot
from vine_sharedport.hook.tcp_listener import TcpListener

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
        """Return the next client's descriptor, the caller's from then on, or None.

        ``BlockingIOError`` means None, so that this may be a socket's method in C.
        A signal's handler may raise in it at any moment; it is then called once more,
        and answers with the client it may have begun to take.
        """

    def release(self) -> None:
        """Stop bringing clients: the manager has closed its port. Idempotent, never waits."""

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

    def __init__(self, listen_fd: int, source: Source, hook: _LibraryHook, tcp: str) -> None:
        self.listen_fd = listen_fd
        self.by_tcp = 0
        self.by_source = 0
        self.from_source: dict[str, None] = {}  # an ordered set
        self._source = source
        self._hook = hook
        self._source_first = True
        self._from_source = False
        self._next_by_tcp = self._next_by_source = 1
        self._pid = os.getpid()
        self._open = True
        self._done = False
        self._epoll = select.epoll()
        try:
            self._listener = TcpListener(listen_fd, tcp)
        except BaseException:
            self._epoll.close()
            raise

    @property
    def listener_fd(self) -> int:
        """The TCP listener itself; this object's."""
        return self._listener.fileno()

    @property
    def is_open(self) -> bool:
        """Whether the manager still accepts through this attachment."""
        return self._open

    def install(self) -> None:
        """Redirect the library and put the set in the listener's place."""
        self._listener.narrow()
        if self._listener.accepts_on is not None:
            self._epoll.register(self._listener.accepts_on, select.EPOLLIN)
        self._epoll.register(self._source.fileno(), select.EPOLLIN)
        self._hook.acquire(self)
        # From here on the manager's poll() wakes for either.
        os.dup2(self._epoll.fileno(), self.listen_fd, inheritable=False)

    def take(self, taken: list[int]) -> None:
        """Take one client from either source, in turns, into ``taken``, if there is one."""
        self._source_first = not self._source_first
        self._next_by_tcp, self._next_by_source = self.by_tcp + 1, self.by_source + 1
        for from_source in (self._source_first, not self._source_first):
            self._from_source = from_source
            if from_source:
                self._ask_source(taken)
            elif self._listener.accepts_on is not None:
                # Not wanted: -1, nobody there or a client that has gone.
                listener = self._listener.accepts_on
                store(taken, (-1).__lt__, _libc.real_accept, listener, None, None)
            if taken:
                return

    def _ask_source(self, taken: list[int]) -> None:
        try:
            store(taken, _is_there, self._source.receive)
        except BlockingIOError:
            pass
        except Exception as error:  # the manager's loop goes on
            _failures.append(error)

    def count(self, client: int) -> None:
        """Count the client that ``take()`` has just taken; once, however often it is called."""
        name = _libc.peer_name(client)  # as the manager will write it
        if name is not None:
            self.from_source.pop(name, None)  # also by TCP: an address may come again
        if not self._from_source:
            self.by_tcp = self._next_by_tcp
            return
        self.by_source = self._next_by_source
        if name is not None:
            self.from_source[name] = None
            if len(self.from_source) > _MAX_REMEMBERED:
                del self.from_source[next(iter(self.from_source))]

    def was_closed(self) -> bool:
        """Whether the manager has closed its descriptor."""
        try:
            return os.readlink(f"/proc/self/fd/{self.listen_fd}") != "anon_inode:[eventpoll]"
        except OSError:
            return True

    def detach(self) -> None:
        """Give the manager its TCP listener back, or clean up after it closed it.

        Idempotent. Once begun, also by a call that a signal has ended, it is carried
        through by the next call, by ``raise_deferred()``, or at the interpreter's end.
        """
        if os.getpid() != self._pid:  # a child that C has forked
            if not self._done:
                self.drop_in_child()
                self.forget()
            return
        with _lock:
            if self._done:
                return
            self.uninstall()
            try:
                self._source.release()
            except Exception as error:
                _failures.append(error)
            self.forget()

    def detach_if_closed(self) -> None:
        """Clean up if the manager has closed its descriptor, or if ``detach()`` has begun."""
        if os.getpid() != self._pid or (self._open and not self.was_closed()):
            return
        with _lock:  # by which another thread's attach() has come to its end
            if not self._open or self.was_closed():
                self.detach()

    def uninstall(self) -> None:
        """Undo ``install()``, however far it came; may be called again."""
        self._open = False
        # A forked child may hold the set open: take the sources out, so that it does not
        # go on listening for us.
        with contextlib.suppress(OSError, ValueError):
            if self._listener.accepts_on is not None:
                self._epoll.unregister(self._listener.accepts_on)
        with contextlib.suppress(OSError, ValueError):  # the source may be closed already
            self._epoll.unregister(self._source.fileno())
        if self._listener.is_at(self.listen_fd) or not self.was_closed():
            self._listener.restore(self.listen_fd)
        self._hook.release(self)
        self._epoll.close()
        self._listener.close()

    def forget(self) -> None:
        """Note that ``uninstall()`` has come to its end."""
        if _attachments.get(self.listen_fd) is self:
            del _attachments[self.listen_fd]
        self._done = True

    def drop_in_child(self) -> None:
        """Forget everything in a forked child, which must not touch the shared epoll set."""
        self._open = False
        self._done = True
        self._hook.release(self)
        self._epoll.close()
        self._listener.close()
        self._source.drop_in_child()


def attach(library: str, listen_fd: int, source: Source, *, tcp: str = "all") -> Attachment:
    """Make a manager accept connections from ``source`` beside its TCP listener.

    Args:
        library: File of the loaded library that holds the manager's code.
        listen_fd: The manager's listening TCP descriptor. Stays the manager's.
        source: The second source. Stays the caller's, and must outlive the attachment.
        tcp: Where the manager's TCP port listens meanwhile: ``all`` interfaces as
            before, ``loopback``, or ``off``. The port stays the manager's either way.

    Returns:
        The attachment. It ends by ``detach()``, when the manager closes its
        descriptor, or when the interpreter ends.

    Raises:
        HookError: Something is not as expected; library and descriptor are untouched.
    """
    with _lock:
        _detach_closed()
        if listen_fd in _attachments:
            raise HookError(f"descriptor {listen_fd} has a shared port already")
        _check_listener(listen_fd)
        hook = _hook_for(library)
        try:
            attachment = Attachment(listen_fd, source, hook, tcp)
            try:
                _attachments[listen_fd] = attachment
                attachment.install()
            except BaseException:  # Ctrl-C included
                attachment.uninstall()
                attachment.forget()
                raise
        except (OSError, ValueError) as error:
            raise HookError(f"cannot set up the epoll set: {error}") from error
        return attachment


def raise_deferred() -> None:
    """Raise what a callback had to hold back, such as KeyboardInterrupt.

    Call it whenever a C call that may have accepted connections has returned. What a
    source has raised is logged.
    """
    while _failures:
        log.error("the accept hook failed and went on", exc_info=_failures.pop(0))
    if deferred:
        _detach_closed()  # the look that was interrupted
        raise deferred.pop(0)


def _check_listener(fd: int) -> None:
    """Refuse anything but a listening, non-blocking TCP socket."""
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
        blocks = os.get_blocking(fd)
    except OSError as error:
        raise HookError(f"descriptor {fd} cannot be examined: {error.strerror}") from error
    if not is_socket:
        raise HookError(f"descriptor {fd} is no socket")
    # Before there is a socket object, which may make it non-blocking (setdefaulttimeout()).
    if blocks:
        raise HookError(f"descriptor {fd} blocks; a manager's listener never does")
    with socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM) as copy:
        listens = copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        family = copy.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)
    if not listens or family not in (socket.AF_INET, socket.AF_INET6):
        raise HookError(f"descriptor {fd} is not a listening TCP socket")


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
        self._users: set[Attachment] = set()

    @property
    def in_use(self) -> bool:
        """Whether the redirections are installed, or not wholly removed."""
        return bool(self._users or self._before)

    def acquire(self, user: Attachment) -> None:
        """Install the redirections, if ``user`` is the first."""
        self._users.add(user)
        for symbol, slot in self._slots.items():
            value = _libc.read_pointer(slot.address)
            if self._before.setdefault(symbol, value) == value:
                _libc.write_pointer(slot.address, _CALLBACK_ADDRESSES[symbol])

    def release(self, user: Attachment) -> None:
        """Restore the library when its last user has gone; may be called again."""
        self._users.discard(user)
        if self._users:
            return
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
_failures: list[Exception] = []
_is_there = functools.partial(operator.is_not, None)


def _hook_for(library: str) -> _LibraryHook:
    path = os.path.realpath(library)
    hook = _hooks.get(path)
    if hook is None or not hook.in_use:
        hook = _hooks[path] = _LibraryHook(library)
    return hook


def _detach_closed() -> None:
    """Detach what the manager has closed, and what was not detached to the end."""
    for attachment in list(_attachments.values()):
        attachment.detach_if_closed()


def _attachment_of(fd: int) -> Attachment | None:
    attachment = _attachments.get(fd)
    return attachment if attachment is not None and attachment.is_open else None


def _make_accept() -> Any:
    """Return accept(): take a client, tell its address, answer with the client.

    The real getpeername() stands between the two: it fills the caller's address.
    """
    taken: list[int] = []
    taker: Attachment | None = None

    def take(fd: int) -> int:
        nonlocal taker
        taker = _attachment_of(fd)
        if taker is None:
            store(taken, _is_there, _libc.real_accept, fd, None, None)
            return settle()
        try:
            taker.take(taken)
        except BaseException as error:
            deferred.append(error)
            if not taken:  # the source may have had a client in its hands
                taker.take(taken)
        return settle()

    def settle() -> int:
        nonlocal taker
        if taker is not None and taken and taken[-1] != NOTHING:
            try:
                taker.count(taken[-1])
            except Exception as error:  # not tried again, unlike after Ctrl-C
                deferred.append(error)
            taker = None
        taken[:] = taken[-1:] or [NOTHING]
        return taken[0]

    # The answer goes from the list to C at once, so that a client is answered once and
    # not lost: getpeername() returns 0 or -1, and both are the index of the only element.
    # It does not touch ctypes' errno, which is accept()'s.
    callback = redirect(
        _libc.getpeername_keeping_errno,
        first_argument=answer_with(take, settle),
        result=taken.pop,
    )
    taken.clear()  # the generator has begun with an answer
    return callback


def _listener_of(fd: int) -> int:
    attachment = _attachment_of(fd)
    return fd if attachment is None else attachment.listener_fd


def _make_getsockname() -> Any:
    """Return getsockname(): the same call on the TCP listener."""
    return redirect(
        _libc.real_getsockname, first_argument=answer_with(_listener_of, lambda: -1)
    )


def _after_close(result: int) -> int:
    code = ctypes.get_errno()
    _detach_closed()
    ctypes.set_errno(code)
    return result


def _make_close() -> Any:
    """Return close(): the real call first, then a look at what it closed.

    Judged by the state and not by the argument, so that the call is always made, and a
    look that a signal interrupts can be made up for.
    """
    return redirect(_libc.real_close, result=answer_with(_after_close, lambda: 0))


# These live as long as the process: a thread may be inside one while it is removed.
_CALLBACKS = {
    "accept": _libc.ACCEPT_FUNCTION(PerThread(_make_accept)),
    "getsockname": _libc.GETSOCKNAME_FUNCTION(PerThread(_make_getsockname)),
    "close": _libc.CLOSE_FUNCTION(PerThread(_make_close)),
}
_CALLBACK_ADDRESSES = {
    name: _libc.address_of(callback) for name, callback in _CALLBACKS.items()
}


def _detach_all() -> None:
    """Restore everything before the interpreter that the callbacks need is gone."""
    for attachment in list(_attachments.values()):
        attachment.detach()


def _drop_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it
    for attachment in list(_attachments.values()):
        attachment.drop_in_child()
    _attachments.clear()


atexit.register(_detach_all)
os.register_at_fork(after_in_child=_drop_in_child)
