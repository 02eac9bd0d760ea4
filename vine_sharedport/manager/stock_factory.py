"""``Factory``: ours for HTCondor; ``ndcctools``' own, with our launcher, for other systems."""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from vine_sharedport.bundle.package import LAUNCHER, write_bundle
from vine_sharedport.errors import OptionError, SettingError
from vine_sharedport.factory import api
from vine_sharedport.factory.manager_view import lookup
from vine_sharedport.factory.options.schema import BATCH_TYPES, field_name
from vine_sharedport.registry.reference import OWN_ADDRESS, Reference

__all__ = ["Factory", "WithLauncher", "WorkQueueFactory"]

log = logging.getLogger(__name__)

# What vine_factory submits by, which it misses without a word.
# Source: batch_queue_cluster.c of cctools.
_PROGRAMS = {
    "slurm": "sbatch", "uge": "qsub", "sge": "qsub", "pbs": "qsub", "torque": "qsub",
    "moab": "msub", "lsf": "bsub",
}  # fmt: skip

# Our names for options that it knows by another one alone.
_STOCK_NAMES = {"directory": "scratch_dir", "password_file": "password"}


class Factory(api.Factory):
    """HTCondor workers that come, stay as long as they are needed, and are accounted for."""

    # What help() shows.
    __doc__ = api.Factory.__doc__

    _home = "taskvine"

    if not TYPE_CHECKING:  # for which a factory is one of ours

        def __new__(
            cls, batch_type: str | None = None, manager: Any = None, *args: Any, **options: Any
        ) -> Any:
            """Return ours, or for another batch system ``StockFactory``, and say so."""
            if batch_type is None:
                ours = isinstance(manager, Reference) or getattr(manager, "shared_port", None)
                ours = ours or options.get("address")
                batch_type = "condor" if ours else "local"
            if batch_type == "condor":
                return super().__new__(cls)
            home = importlib.import_module(f"vine_sharedport.manager.{cls._home}")
            return home.StockFactory(batch_type, manager, *args, **options)


class WorkQueueFactory(Factory):
    """The same for a Work Queue."""

    __doc__ = (api.Factory.__doc__ or "").replace("vine.", "wq.")

    _home = "work_queue"

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("system", "work_queue")
        super().__init__(*args, **options)


WorkQueueFactory.__name__ = WorkQueueFactory.__qualname__ = "Factory"


class WithLauncher:
    """What makes the stock factory's workers come through the manager's shared port."""

    _bundle: tuple[str, ...] = ()
    _link: Any = None
    _factory_proc: Any = None  # what the stock __del__ asks for, also where nothing was made

    def __init__(
        self,
        batch_type: str = "local",
        manager: Any = None,
        manager_host_port: str | None = None,
        manager_name: str | None = None,
        factory_binary: str | None = None,
        worker_binary: str | None = None,
        log_file: str | None = None,
        **options: Any,
    ) -> None:
        _check(batch_type)
        lookup.check_manager(manager)
        program = _PROGRAMS.get(batch_type)
        if program is not None and shutil.which(program) is None:
            log.warning(
                "no worker will come: batch_type is %r, and its program %s is not on PATH; for "
                "workers in HTCondor write 'condor'", batch_type, program,
            )  # fmt: skip
        log.info(
            "batch_type is %r: ndcctools' own factory starts the workers; for workers in "
            "HTCondor write 'condor'", batch_type,
        )  # fmt: skip
        named = {self._stock_name(batch_type, name): value for name, value in options.items()}
        link = None if batch_type == "local" else getattr(manager, "shared_port", None)
        stock: Any = super()
        stock.__init__(
            batch_type,
            # It asks the manager by TCP, on this machine; the workers get the other address.
            manager if link is None else None,
            manager_host_port if link is None else f"localhost:{manager.port}",
            manager_name,
            factory_binary,
            worker_binary,
            log_file or os.devnull,
        )
        if link is not None:
            reference: Reference = link.reference
            directory = tempfile.mkdtemp(prefix="workers-", dir=reference.directory)
            directory = os.path.join(directory, "bundle")
            write_bundle(directory, str(reference), secret_file=reference.secret_file)
            self._link = link
            self._bundle = tuple(os.path.join(directory, n) for n in os.listdir(directory))
        for name, value in named.items():
            setattr(self, name, value)

    def _stock_name(self, batch_type: str, name: str) -> str:
        """Return the stock class's name of an option."""
        known: list[str] = self._command_line_options  # type: ignore[attr-defined]
        plain = name.replace("-", "_")
        # What it supports need not make sense for HTCondor, as k8s_image.
        if plain.replace("_", "-") in known:
            return plain
        field = field_name(name)
        found = _STOCK_NAMES.get(field, field)
        if found.replace("_", "-") in known:
            return found
        raise OptionError(
            f"the stock factory, which starts workers by {batch_type!r}, has no option {name}; "
            "leave it out, or use batch_type 'condor'"
        )

    def _construct_command_line(self) -> list[str]:
        stock: Any = super()
        if not self._bundle:
            return list(stock._construct_command_line())
        # Here, for a wrapper may be set as long as it does not run.
        options: dict[str, Any] = self._opts  # type: ignore[attr-defined]
        kept = dict(options)
        # vine_factory puts it before the worker's command, and nothing between.
        own = options.get("wrapper")
        options["wrapper"] = f"{own} ./{LAUNCHER}" if own else f"./{LAUNCHER}"
        more = self._link.reference.worker_options()
        own = options.get("extra-options") or ""
        if "--contact-hostport" in more and "--contact-hostport" not in own:
            options["extra-options"] = f"{own} --contact-hostport {OWN_ADDRESS}".strip()
        try:
            program, *rest = stock._construct_command_line()
        finally:
            options.clear()
            options.update(kept)
        return [program, *(f"--wrapper-input={path}" for path in self._bundle), *rest]


def _check(batch_type: Any) -> None:
    """Refuse what is no batch system, but what people write who mean HTCondor.

    Raises:
        SettingError: It is.
    """
    if not isinstance(batch_type, str):
        raise SettingError(
            f"batch_type is a {type(batch_type).__name__}, wanted is the name of a batch "
            'system; write vine.Factory("condor", manager=m)'
        )
    if batch_type not in BATCH_TYPES:
        near = difflib.get_close_matches(batch_type.lower(), BATCH_TYPES, n=1)
        if near:
            raise SettingError(
                f"batch_type is {batch_type!r}, which is no batch system; write {near[0]!r}"
            )
