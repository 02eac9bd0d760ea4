"""The factory's options as type checkers see them; never imported. A test compares the table.

Each has the type that it is read with, and the one that may be given: text for numbers, and
None for the default.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar, Union

from typing_extensions import TypedDict

__all__ = ["DeclaredOptions", "OptionValues"]

_Get = TypeVar("_Get")
_Set = TypeVar("_Set")

_Number = Union[float, str, None]
_Flag = Union[bool, str, None]
_Text = Union[str, "os.PathLike[str]", None]
_Texts = Union[_Text, Iterable[Union[str, "os.PathLike[str]"]]]
_Ports = Union[int, str, None]
_Pairs = Union[str, Mapping[str, Any], Iterable[Union[str, tuple[str, Any]]], None]


class _Option(Generic[_Get, _Set]):
    def __get__(self, factory: object, owner: type) -> _Get: ...  # type: ignore[empty-body]

    def __set__(self, factory: object, value: _Set) -> None: ...


class DeclaredOptions:
    """The options as attributes."""

    # fmt: off
    factory_timeout = min_workers = max_workers = workers_per_cycle = settle = timeout = \
        debug_file_size = _Option[int, _Number]()
    tasks_per_worker = max_idle = cores = memory = disk = gpus = \
        _Option["int | None", _Number]()
    cycle = factory_period = _Option[float, _Number]()
    ssl = capacity = repair = autosize = single_shot = spool = condor_spool = parent_death = \
        debug_workers = disable_afs_check = _Option[bool, _Flag]()
    address = secret_file = manager_host_port = manager_name = master_name = password = \
        password_file = tls_sni = worker_binary = task_wrapper = python_env = poncho_env = \
        python_package = container_image = batch_options = preset = schedd = pool = grid = \
        config_file = factory_name = log_file = debug = debug_file = catalog = \
        factory_binary = _Option["str | None", _Text]()
    directory = scratch_dir = _Option["str | Any", _Text]()  # None before it was started
    wrapper = condor_requirements = extra_options = worker_extra_options = \
        _Option["str | None", _Texts]()
    transfer_port = _Option["str | None", _Ports]()
    peer_transfers = _Option["str | None", "str | None"]()
    system = batch_type = _Option[str, "str | None"]()
    feature = wrapper_input = workers_blocked = _Option["tuple[str, ...]", _Texts]()
    env = commands = _Option["tuple[tuple[str, str], ...]", _Pairs]()


# fmt: off
OptionValues = TypedDict("OptionValues", {  # noqa: UP013
    "factory_timeout": _Number, "min_workers": _Number, "max_workers": _Number,
    "workers_per_cycle": _Number, "settle": _Number, "timeout": _Number,
    "debug_file_size": _Number, "tasks_per_worker": _Number, "max_idle": _Number,
    "cores": _Number, "memory": _Number, "disk": _Number, "gpus": _Number,
    "cycle": _Number, "factory_period": _Number,
    "ssl": _Flag, "capacity": _Flag, "repair": _Flag, "autosize": _Flag, "single_shot": _Flag,
    "spool": _Flag, "condor_spool": _Flag, "parent_death": _Flag, "debug_workers": _Flag,
    "disable_afs_check": _Flag,
    "address": _Text, "secret_file": _Text, "master_name": _Text,
    "password": _Text, "password_file": _Text,
    "tls_sni": _Text, "extra_options": _Texts, "worker_extra_options": _Texts,
    "task_wrapper": _Text, "python_env": _Text, "poncho_env": _Text, "python_package": _Text,
    "container_image": _Text, "batch_options": _Text, "preset": _Text, "schedd": _Text,
    "pool": _Text, "grid": _Text, "directory": _Text, "scratch_dir": _Text,
    "config_file": _Text, "factory_name": _Text, "debug": _Text, "debug_file": _Text,
    "catalog": _Text, "wrapper": _Texts, "condor_requirements": _Texts,
    "transfer_port": _Ports, "peer_transfers": "str | None", "system": "str | None",
    "feature": _Texts, "wrapper_input": _Texts, "workers_blocked": _Texts, "env": _Pairs,
    "commands": _Pairs,
}, total=False)
"""Those that the constructor takes by name alone."""
