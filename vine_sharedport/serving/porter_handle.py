"""The manager's side of its porter: start it, take clients from it, outlive it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import socket
import subprocess
import sys
import time
from dataclasses import replace
from itertools import starmap
from typing import Any

from vine_sharedport import fdpass
from vine_sharedport.errors import EndpointError, HandOffError, LaunchError
from vine_sharedport.events import Journal, PorterEnded
from vine_sharedport.serving.counters import Counters, Gauge, Refusal
from vine_sharedport.serving.endpoint import is_served
from vine_sharedport.serving.porter import STOP, Settings
from vine_sharedport.supervision import Restarts, isolated_command
from vine_sharedport.wire.reserved_ids import check_own_sock_id

__all__ = ["PorterHandle"]

log = logging.getLogger(__name__)
_journal = Journal(log)

_START_TIMEOUT = 20.0
_STOP_TIMEOUT = 3.0
# A porter that lived shorter than this before it died is restarted with a delay.
_SETTLED = 5.0
_FIRST_DELAY, _LAST_DELAY = 0.1, 30.0

_PROGRAM = "vine_sharedport.serving.porter"


class PorterHandle:
    """One manager's porter, restarted for as long as the handle is open.

    A source for the accept hook. Owns the process, the socket pairs and the counters.

    Args:
        settings: What the porter serves.

    Raises:
        SettingError: The sock id is none.
        EndpointError: The endpoint cannot be made; the message says why.
        LaunchError: The process did not start.
    """

    def __init__(self, settings: Settings) -> None:
        check_own_sock_id(settings.sock_id)
        self._settings = settings
        self._clients: socket.socket | None = None
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: list[subprocess.Popen[bytes]] = []
        self._restarts = Restarts(_FIRST_DELAY, _LAST_DELAY, settled=_SETTLED)
        self._started = 0.0
        self._socket_file: tuple[str, int] | None = None
        self._is_open = True
        self._message: list[tuple[bytes, list[tuple[int, int, bytes]], int, Any]] = []
        self._pid = os.getpid()
        try:
            self._epoll = select.epoll()
            self.counters = Counters()
        except OSError as error:
            raise LaunchError(f"cannot start the porter: {error}") from error
        try:
            self._start(settings)
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    @property
    def sock_id(self) -> str:
        """Name under which the porter serves."""
        return self._settings.sock_id

    @property
    def log_file(self) -> str | None:
        """Where the porter writes; None without a log."""
        return self._settings.log_file

    @property
    def pid(self) -> int | None:
        """Process id of the porter now at work."""
        return self._process.pid if self._process else None

    @property
    def _is_copy(self) -> bool:
        """Whether this is a forked child that was not told so: C forked it, or we relay."""
        return os.getpid() != self._pid

    def fileno(self) -> int:
        """Return a descriptor that is readable when ``receive`` has work."""
        return self._epoll.fileno()

    def receive(self) -> int | None:
        """Take one client without waiting; start another porter if this one has died.

        Returns:
            The client's descriptor, non-blocking and close-on-exec, the caller's; None
            if there is none now.
        """
        if self._is_copy:
            return None
        if self._clients is None:
            self.tend()
            return None
        # A signal's handler may raise between any two lines, and the only copy of a
        # descriptor would be lost. So it goes from recvmsg() into the list without a
        # Python instruction in between, and a call that was interrupted is made again.
        try:
            if not self._message:
                self._message.extend(starmap(self._clients.recvmsg, (fdpass.ONE_FD,)))
            data, fd = fdpass.unpack(self._message[0])
        except BlockingIOError:
            return None
        except HandOffError:
            self._message.clear()
            self.counters[Refusal.MANAGER_DESCRIPTORS] += 1
            return None
        except OSError:
            data, fd = b"", None
        if not data:
            self._message.clear()
            self._replace()
            return None
        del self._message[:]  # not clear(): after a call, handlers run before the return
        return fd

    def tend(self) -> None:
        """Start a porter if there is none, and reap those that have ended. Never waits."""
        if self._is_copy:
            return
        # With a relay nobody waits for the pair's end. Without one, it is the end of the
        # pair that counts, after the clients that still are in it.
        relays = self._settings.relay_port is not None
        died = relays and self._process is not None and self._process.poll() is not None
        # What could not be started is not tried again after each of a thousand tasks.
        due = self._clients is None and time.monotonic() >= self._started + self._restarts.pause
        if self._is_open and (due or died):
            self._replace()
        self._ended = [process for process in self._ended if process.poll() is None]

    def release(self) -> None:
        """Let the porter go without waiting for it; ``close()`` waits."""
        if self._is_copy:
            self.drop_in_child()
            return
        self._is_open = False
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.send(STOP)
        self._drop_sockets()

    def close(self) -> None:
        """End the porter and see to it that its socket file is gone. Idempotent."""
        self.release()
        if self._process is not None:
            self._ended.append(self._process)
            self._process = None
        for process in self._ended:
            _end(process)
        self._ended.clear()
        if self._socket_file is not None:  # left behind only by a porter that was killed
            path, inode = self._socket_file
            with contextlib.suppress(OSError, EndpointError):
                # The number may be another socket's by now, whose owner lives.
                if os.stat(path).st_ino == inode and not is_served(path):
                    os.unlink(path)
        self._epoll.close()
        self.counters.close()

    def drop_in_child(self) -> None:
        """Close a forked child's copies; the porter and its socket stay the parent's."""
        self._is_open = False
        self._socket_file = None
        self._drop_sockets(shared=True)
        for process in (self._process, *self._ended):
            if process is not None:
                process.returncode = 0  # not the child's to wait for
        self._process = None
        self._ended.clear()
        self._epoll.close()
        self.counters.close()

    # ---- starting ----

    def _start(self, settings: Settings) -> None:
        self._started = time.monotonic()
        if not sys.executable:
            raise LaunchError(
                "this Python does not know its own program (sys.executable is empty)"
            )
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            try:
                clients, their_clients = socket.socketpair(
                    socket.AF_UNIX, socket.SOCK_SEQPACKET
                )
                ours.enter_context(clients)
                theirs.enter_context(their_clients)
                control, their_control = socket.socketpair(
                    socket.AF_UNIX, socket.SOCK_SEQPACKET
                )
                ours.enter_context(control)
                theirs.enter_context(their_control)
                fds = (their_clients.fileno(), their_control.fileno(), self.counters.fileno())
                words = [settings.sock_id, *map(str, fds)]
                # The command line is public (ps, SHARED_PORT_AUDIT_LOG); the settings are not.
                self._process = subprocess.Popen(
                    isolated_command(_PROGRAM, *words),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    pass_fds=fds,
                    start_new_session=True,  # Ctrl-C in the terminal is the manager's
                )
                control.send(settings.encode())
                self._epoll.register(clients, select.EPOLLIN)
            except OSError as error:
                raise LaunchError(f"cannot start the porter: {error}") from error
            ours.pop_all()
        clients.setblocking(False)
        self._clients, self._control = clients, control
        self.counters[Gauge.STARTS] += 1

    def _wait_until_ready(self) -> None:
        assert self._control is not None
        self._control.settimeout(_START_TIMEOUT)
        try:
            answer = self._control.recv(65536)
        except socket.timeout as error:  # not TimeoutError before Python 3.10
            raise LaunchError(
                f"the porter did not answer within {_START_TIMEOUT:g} s"
            ) from error
        except OSError:  # it has left its settings unread
            answer = b""
        if not answer:
            log_file = self._settings.log_file
            why = f"see {log_file}" if log_file else "set a log file to see why"
            raise LaunchError(f"the porter ended at once; {why}")
        content = json.loads(answer)
        if "error" in content:
            raise EndpointError(content["error"])
        self._control.setblocking(False)
        self._note_ready(content)

    def _note_ready(self, content: dict[str, Any]) -> None:
        """Remember which socket file is the porter's, in case it is killed."""
        if "ready" in content:
            self._socket_file = (content["ready"]["path"], content["ready"]["inode"])

    def _replace(self) -> None:
        """Start a successor with the same name; called from the manager's own loop."""
        self._drop_sockets()
        if self._process is not None:
            self._ended.append(self._process)
            self._process = None
        if not self._is_open:
            return
        # What waited with it is gone.
        self.counters[Gauge.PENDING] = self.counters[Gauge.READY] = 0
        self._restarts.ended(time.monotonic() - self._started)
        _journal.record(PorterEnded(self._settings.sock_id))
        try:
            self._start(replace(self._settings, persist=True, delay=self._restarts.pause))
        except LaunchError as error:
            log.error("%s; workers cannot come in by the shared port for now", error)

    def _drop_sockets(self, *, shared: bool = False) -> None:
        if self._clients is not None:
            if not shared:
                # A forked child may keep the other end of the set's entry alive.
                with contextlib.suppress(OSError, ValueError):
                    self._epoll.unregister(self._clients)
            self._clients.close()
            self._clients = None
        if self._control is not None:
            if not shared:
                self._control.setblocking(False)
                with contextlib.suppress(OSError, ValueError):
                    self._note_ready(json.loads(self._control.recv(65536)))
            self._control.close()
            self._control = None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a porter that was told to stop; insist if it does not."""
    for insist in (process.terminate, process.kill):
        try:
            process.wait(_STOP_TIMEOUT)
            return
        except subprocess.TimeoutExpired:
            insist()
    process.wait()
