"""``ndcctools``' own Factory, for batch systems other than HTCondor, with our launcher."""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import tempfile
from typing import Any

from vine_sharedport.errors import OptionError
from vine_sharedport.factory.options import field_name
from vine_sharedport.manager.systems import System, missing
from vine_sharedport.pool.worker_job import run_directory
from vine_sharedport.worker.bundle import LAUNCHER, write_bundle

__all__ = ["make_stock_factory"]

log = logging.getLogger(__name__)

# What vine_factory submits by, which it misses without a word.
# Source: batch_queue_cluster.c of cctools.
_PROGRAMS = {
    "slurm": "sbatch", "uge": "qsub", "sge": "qsub", "pbs": "qsub", "torque": "qsub",
    "moab": "msub", "lsf": "bsub",
}  # fmt: skip

_CONSTRUCTOR = (
    "manager_host_port", "manager_name", "factory_binary", "worker_binary", "log_file",
)  # fmt: skip

# Our names for options that it knows by another one alone.
_STOCK_NAMES = {"directory": "scratch_dir"}


def make_stock_factory(
    system: System, module: str, batch_type: str, manager: Any, options: dict[str, Any]
) -> Any:
    """Return a stock factory, whose workers come through the shared port if there is one.

    Args:
        system: TaskVine or Work Queue.
        module: Its Python module.
        batch_type: Such as ``slurm``; ``local`` workers connect to the manager's port.
        manager: The manager, or None.
        options: What the stock class's constructor takes besides, and its options.

    Raises:
        MissingDependencyError: The system is not installed.
        OptionError: The stock class has no such option.
    """
    try:
        stock: Any = importlib.import_module(module).Factory
    except ImportError as error:
        raise missing(system.name, error) from None  # the message has it
    program = _PROGRAMS.get(batch_type)
    if program is not None and shutil.which(program) is None:
        log.warning(
            "no worker will come: batch_type is %r, and its program %s is not on PATH; for "
            "workers in HTCondor write 'condor'", batch_type, program,
        )  # fmt: skip
    given = {name: options.pop(name) for name in _CONSTRUCTOR if options.get(name) is not None}
    named = {_stock_name(stock, batch_type, name): value for name, value in options.items()}
    link = getattr(manager, "shared_port", None)
    if link is None or batch_type == "local":
        if manager is not None:
            given["manager"] = manager
        factory = stock(batch_type, **given)
    else:
        # It asks the manager by TCP, on this machine; the workers get the other address.
        given["manager_host_port"] = f"localhost:{manager.port}"
        factory = _with_launcher(stock)(batch_type, **given)
        logs = run_directory(manager)
        directory = os.path.join(tempfile.mkdtemp(prefix="workers-", dir=logs), "bundle")
        write_bundle(directory, str(link.address), secret_file=link.secret_file)
        factory._bundle = [os.path.join(directory, name) for name in os.listdir(directory)]
    for name, value in named.items():
        setattr(factory, name, value)
    return factory


def _stock_name(stock: Any, batch_type: str, name: str) -> str:
    """Return the stock class's name of an option."""
    plain = name.replace("-", "_")
    # What it supports need not make sense for HTCondor, as k8s_image.
    if plain.replace("_", "-") in stock._command_line_options:
        return plain
    field = field_name(name)
    found = _STOCK_NAMES.get(field, field)
    if found.replace("_", "-") in stock._command_line_options:
        return found
    raise OptionError(
        f"the stock factory, which starts workers by {batch_type!r}, has no option {name}; "
        "leave it out, or use batch_type 'condor'"
    )


def _with_launcher(stock: Any) -> Any:
    """Return the stock class with further inputs; it has one ``wrapper_input`` alone."""

    class Factory(stock):  # type: ignore[misc]  # ndcctools has no types
        """The stock factory, whose workers come through the shared port."""

        _bundle: tuple[str, ...] = ()

        def _construct_command_line(self) -> list[str]:
            # Here, for a wrapper may be set as long as it does not run.
            own = self._opts.pop("wrapper", None)
            # vine_factory puts it before the worker's command, and nothing between.
            self._opts["wrapper"] = f"{own} ./{LAUNCHER}" if own else f"./{LAUNCHER}"
            try:
                program, *rest = super()._construct_command_line()
            finally:
                del self._opts["wrapper"]
                if own is not None:
                    self._opts["wrapper"] = own
            return [program, *(f"--wrapper-input={path}" for path in self._bundle), *rest]

    return Factory
