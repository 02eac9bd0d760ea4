"""Installing and removing the hook: every kind of library, and nothing half done."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import shutil
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.values import naming
from vine_sharedport.errors import HookError
from vine_sharedport.hook import _libc, accept_hook

from . import support
from .conftest import TINY, VARIANTS, WITHOUT_ACCEPT
from .support import Hooked, Manager, PairSource, in_child, is_same_connection

LM_ID_NEWLM = -1
RTLD_NOW = 2


class Untouched:
    """A check that a library and a manager's listener are as they were."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        manager.bind_imports()
        self.slots = support.slot_values(manager.library)
        self.descriptors = support.open_descriptors()

    def check(self) -> None:
        assert support.slot_values(self.manager.library) == self.slots
        assert support.open_descriptors() == self.descriptors
        assert os.readlink(f"/proc/self/fd/{self.manager.fd}").startswith("socket:")
        with self.manager.connect() as client:
            assert is_same_connection(self.manager.accept(), client)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_hook_is_installed_and_removed_in_every_kind_of_library(
    libraries: dict[str, str], variant: str
) -> None:
    @in_child
    def body() -> None:
        library = libraries[variant]
        manager, source = Manager(library), PairSource()
        slots = support.import_slots(library)
        addresses = {name: found[0].address for name, found in slots.items()}
        values = support.slot_values(library)
        pages = {name: support.protection(place) for name, place in addresses.items()}
        if "full-relro" in variant:
            assert set(pages.values()) == {"r--p"}

        attachment = accept_hook.attach(library, manager.fd, source)
        for name, (value,) in support.slot_values(library).items():
            assert value == accept_hook._CALLBACK_ADDRESSES[name]
        assert {name: support.protection(place) for name, place in addresses.items()} == pages
        with manager.connect() as client:
            assert is_same_connection(manager.accept(), client)
        with source.bring() as client:
            assert is_same_connection(manager.accept(), client)
        assert manager.c.server_port(manager.fd) == manager.port

        attachment.detach()
        assert support.slot_values(library) == values
        assert {name: support.protection(place) for name, place in addresses.items()} == pages
        with manager.connect() as client:
            assert is_same_connection(manager.accept(), client)
        manager.close()
        source.close()

    body()


@in_child
def test_a_library_that_fits_into_one_page_is_loaded_once(
    library: str, libraries: dict[str, str]
) -> None:
    tiny = libraries[TINY]
    support.load(tiny)
    # Its data is mapped from the file's first page, as its header is.
    with open("/proc/self/maps") as maps:
        starts = [line.split()[2] for line in maps if line.endswith(f"{tiny}\n")]
    if platform.machine() == "x86_64":
        assert starts.count("00000000") > 1
    values = support.slot_values(tiny)
    manager, source = Manager(library), PairSource()
    attachment = accept_hook.attach(tiny, manager.fd, source)
    for name, (value,) in support.slot_values(tiny).items():
        assert value == accept_hook._CALLBACK_ADDRESSES[name]
    attachment.detach()
    assert support.slot_values(tiny) == values
    manager.close()
    source.close()


@in_child
def test_an_import_bound_since_the_last_time_is_hooked_again(libraries: dict[str, str]) -> None:
    hooked = Hooked(libraries["lazy"])
    stubs = support.slot_values(hooked.manager.library)
    hooked.attachment.detach()
    hooked.manager.bind_imports()
    bound = support.slot_values(hooked.manager.library)
    assert bound != stubs
    attachment = accept_hook.attach(hooked.manager.library, hooked.manager.fd, hooked.source)
    with hooked.source.bring() as client:
        assert is_same_connection(hooked.manager.accept(), client)
    attachment.detach()
    assert support.slot_values(hooked.manager.library) == bound
    hooked.manager.close()
    hooked.source.close()


@in_child
def test_the_lazy_binding_stub_does_not_undo_the_hook(libraries: dict[str, str]) -> None:
    library = libraries["lazy"]
    with Hooked(library) as hooked:
        # accept() had not been called before: its slot led to the loader's stub.
        before = hooked.attachment._hook._before["accept"]
        assert before != _libc.function_address("accept")
        for _ in range(3):
            with hooked.source.bring() as client:
                assert is_same_connection(hooked.manager.accept(), client)
        (value,) = support.slot_values(library)["accept"]
        assert value == accept_hook._CALLBACK_ADDRESSES["accept"]


@in_child
def test_two_copies_of_a_library_are_hooked_independently(library: str, tmp_path: Path) -> None:
    copy = str(tmp_path / "copy.so")
    shutil.copy(library, copy)
    with Hooked(library) as one:
        manager = Manager(copy)
        values = support.slot_values(copy)
        assert os.readlink(f"/proc/self/fd/{manager.fd}").startswith("socket:")
        source = PairSource()
        attachment = accept_hook.attach(copy, manager.fd, source)
        for hooked_manager, hooked_source in [(one.manager, one.source), (manager, source)]:
            with hooked_source.bring() as client:
                assert is_same_connection(hooked_manager.accept(), client)
        attachment.detach()
        assert support.slot_values(copy) == values
        with one.source.bring() as client:
            assert is_same_connection(one.manager.accept(), client)
        manager.close()
        source.close()


@in_child
def test_a_file_loaded_twice_is_refused(library: str) -> None:
    manager, source = Manager(library), PairSource()
    dlmopen = ctypes.CDLL(None).dlmopen
    dlmopen.restype = ctypes.c_void_p
    assert dlmopen(ctypes.c_long(LM_ID_NEWLM), library.encode(), RTLD_NOW)
    with pytest.raises(HookError, match=naming(library, 2)):
        accept_hook.attach(library, manager.fd, source)
    assert os.readlink(f"/proc/self/fd/{manager.fd}").startswith("socket:")
    with manager.connect() as client:
        assert is_same_connection(manager.accept(), client)
    manager.close()
    source.close()


@in_child
def test_a_library_that_is_not_loaded_is_refused(library: str, libraries: Any) -> None:
    manager, source = Manager(library), PairSource()
    untouched = Untouched(manager)
    with pytest.raises(HookError, match=naming(libraries["now"])):
        accept_hook.attach(libraries["now"], manager.fd, source)
    with pytest.raises(HookError, match=naming(library + ".gone")):
        accept_hook.attach(library + ".gone", manager.fd, source)
    untouched.check()
    manager.close()
    source.close()


@in_child
def test_a_library_without_accept_is_refused(library: str, libraries: dict[str, str]) -> None:
    manager, source = Manager(library), PairSource()
    support.load(libraries[WITHOUT_ACCEPT])
    untouched = Untouched(manager)
    with pytest.raises(HookError, match=naming(libraries[WITHOUT_ACCEPT], "accept()", 0)):
        accept_hook.attach(libraries[WITHOUT_ACCEPT], manager.fd, source)
    untouched.check()
    manager.close()
    source.close()


def with_a_second_accept(library: str, target: Path) -> str:
    """Copy a library and rename its import of fsync() to accept()."""
    data = bytearray(Path(library).read_bytes())
    (shoff,) = struct.unpack_from("<Q", data, 40)
    (count,) = struct.unpack_from("<H", data, 60)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, shoff + 64 * i) for i in range(count)]
    (symbols,) = [section for section in sections if section[1] == 11]  # SHT_DYNSYM
    strings = sections[symbols[6]][4]

    def name_of(place: int) -> bytes:
        start = strings + int.from_bytes(data[place : place + 4], "little")
        return bytes(data[start : data.index(b"\0", start)])

    places = range(symbols[4], symbols[4] + symbols[5], 24)
    names = {name_of(place): place for place in places}
    accept, spare = names[b"accept"], names[b"fsync"]
    data[spare : spare + 4] = data[accept : accept + 4]
    target.write_bytes(data)
    return str(target)


@in_child
def test_a_library_that_imports_accept_twice_is_refused(library: str, tmp_path: Path) -> None:
    manager = Manager(with_a_second_accept(library, tmp_path / "twice.so"))
    source = PairSource()
    untouched = Untouched(manager)
    assert len(untouched.slots["accept"]) == 2
    with pytest.raises(HookError, match=naming(manager.library, "accept()", 2)):
        accept_hook.attach(manager.library, manager.fd, source)
    untouched.check()
    manager.close()
    source.close()


@pytest.mark.parametrize("symbol", support.SYMBOLS)
def test_an_import_that_somebody_has_redirected_is_refused(library: str, symbol: str) -> None:
    @in_child
    def body() -> None:
        manager, source = Manager(library), PairSource()
        # Theirs does the same, by another address.
        theirs = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(
            ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(
                _libc.function_address(symbol)
            )
        )
        (slot,) = support.import_slots(library)[symbol]
        before = _libc.read_pointer(slot.address)
        _libc.write_pointer(slot.address, _libc.address_of(theirs))
        untouched = Untouched(manager)
        with pytest.raises(HookError, match=naming(f"{symbol}()", library)):
            accept_hook.attach(library, manager.fd, source)
        untouched.check()
        _libc.write_pointer(slot.address, before)
        manager.close()
        source.close()

    body()


@in_child
def test_a_later_redirection_is_left_to_its_owner(library: str) -> None:
    hooked = Hooked(library)
    (slot,) = support.import_slots(library)["accept"]
    (ours,) = support.slot_values(library)["accept"]
    theirs = _libc.ACCEPT_FUNCTION(_libc.ACCEPT_FUNCTION(ours))  # passes on to ours
    _libc.write_pointer(slot.address, _libc.address_of(theirs))
    hooked.attachment.detach()
    assert support.slot_values(library)["accept"] == [_libc.address_of(theirs)]
    with hooked.manager.connect() as client:  # ours goes on passing calls through
        assert is_same_connection(hooked.manager.accept(), client)
    hooked.manager.close()
    hooked.source.close()


@pytest.mark.parametrize("failing", [1, 2, 3])
@pytest.mark.parametrize("failure", [HookError("no"), KeyboardInterrupt()], ids=repr)
def test_a_failure_half_way_leaves_everything_untouched(
    library: str, monkeypatch: pytest.MonkeyPatch, failing: int, failure: BaseException
) -> None:
    write_pointer, calls = _libc.write_pointer, []

    def write(address: int, value: int) -> None:
        calls.append(address)
        if len(calls) == failing:
            raise failure
        write_pointer(address, value)

    @in_child
    def body() -> None:
        manager, source = Manager(library), PairSource()
        untouched = Untouched(manager)
        monkeypatch.setattr(_libc, "write_pointer", write)
        with pytest.raises(type(failure)):
            accept_hook.attach(library, manager.fd, source)
        untouched.check()
        attachment = accept_hook.attach(
            library, manager.fd, source
        )  # and it can be tried again
        attachment.detach()
        untouched.check()
        manager.close()
        source.close()

    body()


@in_child
def test_ctrl_c_right_after_the_swap_gives_the_listener_back(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, source = Manager(library), PairSource()
    untouched = Untouched(manager)
    dup2 = os.dup2

    def interrupted(*args: Any, **kwargs: Any) -> None:
        monkeypatch.undo()
        dup2(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "dup2", interrupted)
    with pytest.raises(KeyboardInterrupt):
        accept_hook.attach(library, manager.fd, source)
    untouched.check()
    manager.close()
    source.close()


@in_child
def test_a_closed_source_is_refused(library: str) -> None:
    manager, source = Manager(library), PairSource()
    source.close()
    untouched = Untouched(manager)
    with pytest.raises(HookError, match="file descriptor"):
        accept_hook.attach(library, manager.fd, source)
    untouched.check()
    manager.close()


@in_child
def test_a_page_that_cannot_be_made_writable_is_refused(
    libraries: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, source = Manager(libraries["full-relro"]), PairSource()
    untouched = Untouched(manager)
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # An address that no page begins at: EINVAL from the kernel itself.
    monkeypatch.setattr(_libc, "_mprotect", lambda page, size, bits: mprotect(1, size, bits))
    with pytest.raises(HookError, match="Invalid argument"):
        accept_hook.attach(manager.library, manager.fd, source)
    monkeypatch.undo()
    untouched.check()
    manager.close()
    source.close()


@in_child
def test_a_manager_has_one_shared_port(library: str) -> None:
    with Hooked(library) as hooked:
        values, descriptors = support.slot_values(library), support.open_descriptors()
        other = PairSource()
        with pytest.raises(HookError, match=naming(hooked.manager.fd)):
            accept_hook.attach(library, hooked.manager.fd, other)
        other.close()
        assert support.slot_values(library) == values
        assert support.open_descriptors() == descriptors
        with hooked.source.bring() as client:
            assert is_same_connection(hooked.manager.accept(), client)


@in_child
def test_another_path_of_the_same_file_is_the_same_library(
    library: str, tmp_path: Path
) -> None:
    link = tmp_path / "link.so"
    link.symlink_to(library)
    with Hooked(library), Hooked(str(link)) as hooked, hooked.source.bring() as client:
        assert is_same_connection(hooked.manager.accept(), client)


@in_child
def test_what_is_no_managers_listener_is_refused(library: str) -> None:
    manager, source = Manager(library), PairSource()
    untouched = Untouched(manager)
    reader, writer = os.pipe()
    closed = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, 500)
    os.close(closed)
    blocking = socket.create_server(("127.0.0.1", 0))
    with socket.socket() as idle, socket.socket(socket.AF_UNIX) as local:
        idle.setblocking(False)
        local.bind("\0" + os.urandom(8).hex())
        local.listen()
        local.setblocking(False)
        os.set_blocking(reader, False)
        descriptors = support.open_descriptors()
        for fd in [
            -1,
            closed,
            reader,
            writer,
            blocking.fileno(),
            idle.fileno(),
            local.fileno(),
        ]:
            with pytest.raises(HookError, match=naming(fd)):
                accept_hook.attach(library, fd, source)
            assert support.open_descriptors() == descriptors
        socket.setdefaulttimeout(1)
        with pytest.raises(HookError, match=naming(blocking.fileno())):
            accept_hook.attach(library, blocking.fileno(), source)
        socket.setdefaulttimeout(None)
        assert os.get_blocking(blocking.fileno())
    blocking.close()
    os.close(reader)
    os.close(writer)
    untouched.check()
    manager.close()
    source.close()


@in_child
def test_an_untested_processor_is_refused_by_name(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, source = Manager(library), PairSource()
    untouched = Untouched(manager)
    with monkeypatch.context() as patch:
        patch.setattr(platform, "machine", lambda: "riscv64")
        with pytest.raises(HookError, match="riscv64"):
            accept_hook.attach(library, manager.fd, source)
    untouched.check()
    manager.close()
    source.close()


@in_child
def test_another_c_library_is_refused(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manager, source = Manager(library), PairSource()
    untouched = Untouched(manager)
    with monkeypatch.context() as patch:
        patch.setattr(_libc, "_process", object())
        with pytest.raises(HookError, match="glibc"):
            _libc.check_platform()
    untouched.check()
    manager.close()
    source.close()
