"""TaskVine and Work Queue managers behind HTCondor's shared port.

``import vine_sharedport as vine`` gives everything of ``ndcctools.taskvine``, with a
``Manager`` that workers reach through condor_shared_port::

    import vine_sharedport as vine

    m = vine.Manager(name="sweep", shared_port=True)
    vine.submit_workers(m, count=10, cores=1)

Importing this package imports nothing else: names are looked up when they are first
used, so the parts that need neither HTCondor nor TaskVine run on a bare machine.
"""

# No annotations of the future here: Python 3.6 has to get as far as __main__.py.
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vine_sharedport.condor.discovery import SharedPortLocation
    from vine_sharedport.condor.own_pool import discover
    from vine_sharedport.condor.personal import PersonalPool
    from vine_sharedport.condor.personal_pool.status import PoolStatus
    from vine_sharedport.condor.worker_job.submit import JobStates, WorkerJobs, submit_workers
    from vine_sharedport.dialing.candidates import Candidate
    from vine_sharedport.dialing.race import DialEvent
    from vine_sharedport.errors import (
        CedarError,
        DialAttempt,
        DialError,
        DialTimeout,
        DiscoveryError,
        EndpointError,
        ExitStatus,
        GateError,
        HandOffError,
        HandOffTimeout,
        HookError,
        LaunchError,
        MissingDependencyError,
        NoStatusError,
        OptionError,
        PoolError,
        ScheddError,
        SettingError,
        SharedPortError,
        SinfulError,
        Verdict,
        WrongSecretError,
    )
    from vine_sharedport.factory.report.phase import Phase
    from vine_sharedport.factory.report.record import (
        JobReport,
        ManagerReport,
        Problem,
        WorkerCounts,
        WorkerSize,
    )
    from vine_sharedport.factory.report.snapshot import Snapshot
    from vine_sharedport.htcondor_shared_link import (
        Counts,
        Endpoint,
        Limits,
        Link,
        attach,
        connect,
    )
    from vine_sharedport.manager.settings import SharedPort
    from vine_sharedport.manager.stock_factory import Factory
    from vine_sharedport.manager.taskvine import Manager, StockFactory
    from vine_sharedport.manager.taskvine_names import *  # noqa: F403
    from vine_sharedport.registry.reference import Reference
    from vine_sharedport.serving.counters import Refusal
    from vine_sharedport.wire.sinful import Sinful

# Ours; everything else is ndcctools.taskvine's.
_HOME = {
    name: module
    for module, names in {
        "errors": (
            "CedarError DialAttempt DialError DialTimeout DiscoveryError "
            "EndpointError ExitStatus GateError HandOffError HandOffTimeout "
            "HookError LaunchError MissingDependencyError NoStatusError "
            "OptionError PoolError ScheddError SettingError SharedPortError "
            "SinfulError Verdict WrongSecretError"
        ),
        "factory.report.phase": "Phase",
        "factory.report.record": "JobReport ManagerReport Problem WorkerCounts WorkerSize",
        "factory.report.snapshot": "Snapshot",
        "htcondor_shared_link": "Counts Endpoint Limits Link attach connect",
        "dialing.candidates": "Candidate",
        "serving.counters": "Refusal",
        "dialing.race": "DialEvent",
        "registry.reference": "Reference",
        "manager.settings": "SharedPort",
        "manager.stock_factory": "Factory",
        "manager.taskvine": "Manager StockFactory",
        "condor.personal_pool.status": "PoolStatus",
        "condor.discovery": "SharedPortLocation",
        "condor.own_pool": "discover",
        "condor.personal": "PersonalPool",
        "condor.worker_job.submit": "JobStates WorkerJobs submit_workers",
        "wire.sinful": "Sinful",
    }.items()
    for name in names.split()
}

_SUBMODULES = {
    *("atomic_file", "bundle", "cli", "condor", "dialing"),
    *("environment", "errors", "events", "fdpass", "secret_file", "shim", "trusted_files"),
    *("factory", "hook", "htcondor_shared_link", "installing", "keepalive", "manager"),
    *("manager_protocol", "records", "registry", "serving", "supervision", "tcp_servers"),
    *("units", "wire", "work_queue", "worker"),
}

__all__ = [
    "Candidate",
    "CedarError",
    "Counts",
    "DialAttempt",
    "DialError",
    "DialEvent",
    "DialTimeout",
    "DiscoveryError",
    "Endpoint",
    "EndpointError",
    "ExitStatus",
    "Factory",
    "GateError",
    "HandOffError",
    "HandOffTimeout",
    "HookError",
    "JobReport",
    "JobStates",
    "LaunchError",
    "Limits",
    "Link",
    "Manager",
    "ManagerReport",
    "MissingDependencyError",
    "NoStatusError",
    "OptionError",
    "PersonalPool",
    "Phase",
    "PoolError",
    "PoolStatus",
    "Problem",
    "Reference",
    "Refusal",
    "ScheddError",
    "SettingError",
    "SharedPort",
    "SharedPortError",
    "SharedPortLocation",
    "Sinful",
    "SinfulError",
    "Snapshot",
    "StockFactory",
    "Verdict",
    "WorkerCounts",
    "WorkerJobs",
    "WorkerSize",
    "WrongSecretError",
    "attach",
    "connect",
    "discover",
    "submit_workers",
]


def _find(name: str) -> Any:
    """Find a name of ours, or else of ``ndcctools.taskvine``."""
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    elif name in _SUBMODULES:
        # "from vine_sharedport import hook" asks here before it imports.
        value = importlib.import_module(f"{__name__}.{name}")
    elif name.startswith("_"):
        # Asked for by the import system and by tools; never TaskVine's public names.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        from vine_sharedport.manager import taskvine

        value = taskvine.stock_attribute(name)
    globals()[name] = value
    return value


if not TYPE_CHECKING:  # for which any name would be right
    __getattr__ = _find


def __dir__() -> "list[str]":
    """List our names and, where TaskVine is installed, its."""
    from vine_sharedport.errors import MissingDependencyError

    names = {*globals(), *_HOME}
    try:
        from vine_sharedport.manager import taskvine
    except MissingDependencyError:
        return sorted(names)
    return sorted(names | set(taskvine.stock_names()))
