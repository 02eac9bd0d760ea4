"""What a worker is: the options that ``submit_workers`` and a factory share."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import Any

from vine_sharedport.condor.worker_job.converters import (
    Convert,
    to_command_line,
    to_commands,
    to_environment,
    to_integer,
    to_megabytes,
    to_text,
    to_whole_seconds,
)
from vine_sharedport.errors import SettingError

__all__ = ["Kind", "WorkerOptions", "declare", "fixed", "live"]


class Kind(enum.Enum):
    """What becomes of a factory's option that is set.

    Attributes:
        SUPPORTED: Has effect, when the factory starts.
        CHANGEABLE: Has effect, at any time; workers that run keep the resources and the
            time-out they were submitted with.
        MEANINGLESS: Accepted, for programs that set it, and without effect; ``REASONS``.
        REFUSED: An error that says what to use instead; ``REFUSED``.
    """

    SUPPORTED = "supported"
    CHANGEABLE = "changeable while running"
    MEANINGLESS = "without effect"
    REFUSED = "refused"


def declare(kind: Kind, convert: Convert, text: str, default: Any = None) -> Any:
    """Return a dataclass's field for an option."""
    return field(default=default, metadata={"kind": kind, "convert": convert, "text": text})


def fixed(convert: Convert, text: str, default: Any = None) -> Any:
    """Return the field of an option that a factory takes when it starts."""
    return declare(Kind.SUPPORTED, convert, text, default)


def live(convert: Convert, text: str, default: Any = None) -> Any:
    """Return the field of an option that may change while a factory runs."""
    return declare(Kind.CHANGEABLE, convert, text, default)


@dataclass(frozen=True)
class WorkerOptions:
    """One worker, checked; the names are the stock factory's.

    Values are given as the stock factory takes them, text for numbers included, and are of
    the types below afterwards. None means: not given.

    Raises:
        SettingError: A value is none for its option.
    """

    cores: int | None = live(
        to_integer(1, "cores for each worker", none_below=1), "Cores of each worker."
    )
    memory: int | None = live(to_megabytes, "Memory of each worker.")
    disk: int | None = live(to_megabytes, "Disk of each worker.")
    gpus: int | None = live(
        to_integer(0, "GPUs for each worker", none_below=0), "GPUs of each worker."
    )
    timeout: int | None = live(
        to_whole_seconds(0), "Time after which a worker without tasks ends."
    )
    worker_binary: str | None = fixed(to_text, "The worker program; found on PATH.")
    extra_options: str | None = live(to_command_line, "More options for the worker program.")
    container_image: str | None = fixed(to_text, "Container that workers run in.")
    python_env: str | None = fixed(to_text, "Tarball of the workers' Python (poncho).")
    env: tuple[tuple[str, str], ...] = fixed(
        to_environment, "Environment variables of the workers, NAME=VALUE.", ()
    )
    commands: tuple[tuple[str, str], ...] = fixed(
        to_commands, "More submit commands, by name.", ()
    )

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if value is None:
                value = each.default
            if value is not None:
                value = each.metadata["convert"](each.name, value)
            object.__setattr__(self, each.name, value)

    @classmethod
    def of(cls, **values: Any) -> WorkerOptions:
        """Return the options with these values; 0 and -1 do not stand for None, as in stock.

        Raises:
            SettingError: A value is none for its option.
        """
        options = cls(**values)
        for name, value in values.items():
            if value is not None and getattr(options, name) is None:
                raise SettingError(
                    f"the option {name} is {value!r}; leave it out for the default"
                )
        return options
