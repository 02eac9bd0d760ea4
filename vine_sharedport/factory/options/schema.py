"""The factory's options: their names, values and defaults, as users know them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vine_sharedport.condor.worker_job.converters import (
    batch_lines,
    to_batch_options,
    to_choice,
    to_flag,
    to_host_port,
    to_integer,
    to_lines,
    to_port_range,
    to_requirements,
    to_seconds,
    to_size,
    to_text,
    to_texts,
    to_whole_seconds,
    to_words,
    to_wrapper,
)
from vine_sharedport.condor.worker_job.options import Kind, WorkerOptions, declare, fixed, live
from vine_sharedport.errors import OptionError, SettingError
from vine_sharedport.registry.reference import Reference

__all__ = [
    "ALIASES",
    "CHANGEABLE",
    "KINDS",
    "REFUSED",
    "Kind",
    "Options",
    "contradiction",
    "field_name",
    "remarks",
]

ALIASES = {
    "condor_spool": "spool",
    "factory_period": "cycle",
    "master_name": "manager_name",
    "password": "password_file",
    "poncho_env": "python_env",
    "python_package": "python_env",
    "scratch_dir": "directory",
    "worker_extra_options": "extra_options",
}
"""The stock factory's other names, and older ones, for options."""

_STOCK = "use the stock factory, vine.StockFactory or vine_factory"
REFUSED = {
    "amazon_config": f"workers are HTCondor jobs here; for Amazon's machines {_STOCK}",
    "foremen_name": "foremen are found by the catalog server alone, which knows no shared "
    "port; use the stock work_queue_factory for them",
    "k8s_image": f"workers are HTCondor jobs here; set container_image, or {_STOCK}",
    "k8s_worker_image": f"workers are HTCondor jobs here; set container_image, or {_STOCK}",
    "mesos_master": "cctools supports Mesos no more; use batch_type 'condor' or another one",
    "mesos_path": "cctools supports Mesos no more; use batch_type 'condor' or another one",
    "mesos_preload": "cctools supports Mesos no more; use batch_type 'condor' or another one",
    "run_factory_as_manager": "vine_factory has dropped it; to run the manager's program "
    "itself as a job use `vine_sharedport manager submit`",
    "runos": "it names a program of one site; set container_image, or wrapper",
}
"""Options of the stock factory that are refused: why, and what to use instead."""

REASONS = {
    "catalog": "workers get the manager's address with them and look up nothing",
    "disable_afs_check": "nothing checks for AFS; set directory to a place that HTCondor can "
    "write to",
    "factory_binary": "the factory is a part of this package, not the program vine_factory",
}
"""Why options are accepted and have no effect."""

# From batch_queue.c: what the stock factory submits to. "sge" is its older name for uge.
BATCH_TYPES = (
    "condor", "local", "uge", "sge", "slurm", "pbs", "torque", "moab", "lsf", "flux",
    "cluster", "dryrun",
)  # fmt: skip
_REFUSED_BATCH_TYPES = {
    "amazon": REFUSED["amazon_config"],
    "k8s": REFUSED["k8s_image"],
    "mesos": REFUSED["mesos_master"],
    "vine": "start the workers with 'local' instead",
    "wq": "start the workers with 'local' instead",
}


def _idle(name: str) -> Any:
    return declare(Kind.MEANINGLESS, to_lines, f"No effect: {REASONS[name]}.")


@dataclass(frozen=True)
class Options(WorkerOptions):
    """Every option of a factory, checked.

    Values are given as the stock factory takes them, text for numbers included, and are
    of the types below afterwards. None means: not given. The text of each option, for a
    table or ``--help``, is in its field's metadata, with its ``kind``.

    Raises:
        SettingError: A value is none for its option.

    Source: ``vine_factory.c`` and the class ``Factory`` of cctools 7.14 to 7.17, for names
    and defaults.
    """

    # --- whom it serves
    address: str | None = fixed(to_text, "The manager's address at the shared port.")
    secret_file: str | None = fixed(to_text, "File with the manager's secret.")
    manager_host_port: str | None = fixed(to_host_port, "HOST:PORT of a manager by TCP.")
    manager_name: str | None = fixed(to_text, "The name that the manager publishes.")
    system: str = fixed(
        to_choice("taskvine", "work_queue"), "taskvine or work_queue.", "taskvine"
    )
    password_file: str | None = fixed(to_text, "File with the manager's password.")
    ssl: bool = fixed(to_flag, "The manager speaks TLS.", False)
    tls_sni: str | None = fixed(to_text, "Name to ask for in TLS; implies ssl.")
    factory_timeout: int = live(
        to_whole_seconds(0), "End after so long without a manager; 0: never.", 0
    )

    # --- how many workers
    min_workers: int = live(to_integer(0, "workers"), "Workers to have at any time.", 5)
    max_workers: int = live(to_integer(1, "workers"), "Workers to have at most.", 100)
    workers_per_cycle: int = live(
        to_integer(0, "workers; 0 for any number"),
        "Workers that may be on their way at once; 0: any number.", 5,
    )  # fmt: skip
    tasks_per_worker: int | None = live(
        to_integer(1, "tasks", none_below=1), "Tasks that a worker runs at once; one per core."
    )
    capacity: bool = live(to_flag, "No more workers than the manager can keep busy.", False)
    max_idle: int | None = live(
        to_integer(1, "jobs", none_below=1), "Jobs that may wait for a machine at once."
    )
    # The stock factory's 30 s are the pace of the catalog server that it asks. We ask the
    # manager itself, which answers in some milliseconds, and read the job log ourselves.
    cycle: float = live(to_seconds, "Time between two queries of the manager.", 5.0)
    settle: int = fixed(
        to_whole_seconds(0), "Time without a new option before the first submission.", 0
    )
    timeout: int = live(
        to_whole_seconds(1), "Time after which a worker without tasks ends.", 300
    )
    repair: bool = live(to_flag, "Repair held jobs whose cause is known.", False)

    # --- what else a worker is
    autosize: bool = live(to_flag, "Let a worker have its whole slot.", False)
    feature: tuple[str, ...] = fixed(to_texts, "Features that each worker announces.", ())
    transfer_port: str | None = live(to_port_range, "Ports for transfers between workers.")
    peer_transfers: str | None = fixed(
        to_choice("off", "site"), "site: all workers share one LAN and fetch from each other."
    )
    single_shot: bool = fixed(to_flag, "A worker ends with its first connection.", False)
    wrapper: str | None = fixed(to_wrapper, "Command in front of the worker's own.")
    wrapper_input: tuple[str, ...] = fixed(to_texts, "Files that the wrapper needs.", ())
    task_wrapper: str | None = fixed(to_text, "Command in front of each task's own.")

    # --- where it runs
    batch_type: str = fixed(
        to_choice(*BATCH_TYPES, refused=_REFUSED_BATCH_TYPES), "Where workers run.", "condor"
    )
    batch_options: str | None = fixed(to_batch_options, "More submit commands, lines of text.")
    condor_requirements: str | None = live(to_requirements, "What a machine must fulfil.")
    workers_blocked: tuple[str, ...] = live(to_words, "Machines not to be used.", ())
    preset: str | None = fixed(to_text, "Preset, by name or file.")
    schedd: str | None = fixed(to_text, "Name of the schedd to submit to.")
    pool: str | None = fixed(to_text, "Collector that knows the schedd.")
    spool: bool = fixed(to_flag, "Copy the files to the schedd.", False)
    grid: str | None = fixed(to_text, "The grid_resource to submit to.")

    # --- the factory itself
    directory: str | None = fixed(to_text, "Where its log, status and jobs' files are.")
    config_file: str | None = fixed(to_text, "File with options, read at each change.")
    factory_name: str | None = fixed(to_text, "Name that workers give for their factory.")
    parent_death: bool = fixed(to_flag, "End when the starting process does.", False)
    log_file: str | None = fixed(to_text, "Where the factory's process writes.")
    debug: str | None = fixed(to_text, "What to log in detail, as 'all'.")
    debug_file: str | None = fixed(to_text, "File for the detailed log.")
    debug_file_size: int = fixed(to_size, "Bytes at which that file is turned over.", 10 << 20)
    debug_workers: bool = fixed(to_flag, "Bring a detailed log of each worker.", False)

    # --- accepted, without effect
    catalog: str | None = _idle("catalog")
    disable_afs_check: bool = declare(
        Kind.MEANINGLESS, to_flag, f"No effect: {REASONS['disable_afs_check']}.", False
    )
    factory_binary: str | None = _idle("factory_binary")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tls_sni:
            object.__setattr__(self, "ssl", True)

    @classmethod
    def make(
        cls,
        values: Mapping[str, Any],
        *,
        base: Options | None = None,
        running: bool = False,
    ) -> Options:
        """Return the options with these values, by whatever name users know them.

        Args:
            values: Names, with underscores or hyphens, and values; None for the default.
            base: What holds for all other options; the defaults otherwise.
            running: Refuse to change what cannot change once the factory runs.

        Raises:
            OptionError: An option is unknown, is refused, or cannot change any more.
            SettingError: A value is none for its option.
        """
        base = cls() if base is None else base
        given: dict[str, Any] = {}
        for name, value in values.items():
            given[field_name(name)] = value
        options = dataclasses.replace(base, **given)
        if running:
            for name in given:
                if name not in CHANGEABLE and getattr(options, name) != getattr(base, name):
                    raise OptionError(
                        f"the factory's option {name} cannot be changed once it runs: it is "
                        f"{getattr(base, name)!r}; start another factory for "
                        f"{getattr(options, name)!r}"
                    )
        return options

    @property
    def least_workers(self) -> int:
        """``min_workers``, or ``max_workers`` where that is smaller, as in vine_factory."""
        return min(self.min_workers, self.max_workers)

    @property
    def tasks_at_once(self) -> int:
        """Tasks that one worker runs at once: ``tasks_per_worker``, else one per core."""
        return self.tasks_per_worker or self.cores or 1

    @property
    def reference(self) -> Reference:
        """The manager that they name, by its address.

        Raises:
            SettingError: They have none, or it is no manager's.
        """
        if self.address is None:
            raise SettingError(
                "the factory does not know its manager's address at the shared port; give "
                "manager= with shared_port=True, or address= with secret_file="
            )
        found = Reference.of(
            self.address, secret_file=self.secret_file, password_file=self.password_file
        )
        return dataclasses.replace(
            found,
            system=self.system,
            tls=self.ssl,
            tls_sni=self.tls_sni,
            peer_transfers=self.peer_transfers,
        )

    def batch_lines(self) -> list[str]:
        """Return the lines of ``batch_options``, one submit command in each."""
        return batch_lines(self.batch_options or "")


KINDS: dict[str, Kind] = {
    **{option.name: option.metadata["kind"] for option in dataclasses.fields(Options)},
    **dict.fromkeys(REFUSED, Kind.REFUSED),
}
"""What becomes of each option, by its name."""

CHANGEABLE = frozenset(name for name, kind in KINDS.items() if kind is Kind.CHANGEABLE)
"""Names of the options that may change while the factory runs."""


def field_name(name: str) -> str:
    """Return the name of the field of ``Options`` that a user's name means.

    Raises:
        OptionError: None, or a refused one; the message says what to use instead.
    """
    plain = str(name).replace("-", "_")
    plain = ALIASES.get(plain, plain)
    if plain in REFUSED:
        raise OptionError(f"the factory's option {name} is refused: {REFUSED[plain]}")
    if plain not in KINDS:
        known = [*KINDS, *ALIASES]
        near = difflib.get_close_matches(plain[:80].lower(), known, n=1)
        meant = near[0].replace("_", "-" if "-" in name else "_") if near else ""
        hint = f"did you mean {meant}?" if near else "see docs/factory.md for all options"
        raise OptionError(f"the factory has no option {str(name)[:80]}; {hint}")
    return plain


def remarks(options: Options) -> list[str]:
    """Return what a user should know of options that are accepted and yet do little."""
    return [
        f"the option {name} has no effect: {reason}"
        for name, reason in REASONS.items()
        if getattr(options, name)
    ]


def contradiction(options: Options, *, is_given: bool = False) -> tuple[str, str] | None:
    """Return how ``min_workers`` and ``max_workers`` contradict each other, and the remedy.

    The default of ``min_workers`` gives way to any ``max_workers``, as in vine_factory's
    configuration file.

    Args:
        options: The options.
        is_given: It is no default even where it has its value.
    """
    least, most = options.min_workers, options.max_workers
    if least <= most or not (is_given or least != Options.min_workers):
        return None
    return (
        f"min_workers is {least}, but max_workers is {most}",
        f"give min_workers={most} (--min-workers {most}) or max_workers={least} "
        f"(--max-workers {least})",
    )
