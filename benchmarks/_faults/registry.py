"""The list of faults, filled by the modules that inflict them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from _faults.stage import Row, Stage

__all__ = ["FAULTS", "Fault", "Scale", "fault"]


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
        times: Times to inflict the fault.
        quick: Smaller crowds and shorter waits.
    """

    times: int
    quick: bool


@dataclass(frozen=True)
class Fault:
    """One line of the table.

    Attributes:
        name: For ``--only``.
        title: For the table.
        times: In a full run.
        quick_times: With ``--quick``; 0 leaves it out.
        inflict: Does it.
        tls: The manager speaks TLS.
    """

    name: str
    title: str
    times: int
    quick_times: int
    inflict: Callable[[Stage, Row, Scale], None]
    tls: bool


FAULTS: list[Fault] = []


def fault(
    name: str, title: str, *, times: int, quick: int = 1, tls: bool = False
) -> Callable[[Callable[[Stage, Row, Scale], None]], Callable[[Stage, Row, Scale], None]]:
    """Register the function that inflicts a fault."""

    def register(
        inflict: Callable[[Stage, Row, Scale], None],
    ) -> Callable[[Stage, Row, Scale], None]:
        FAULTS.append(Fault(name, title, times, quick, inflict, tls))
        return inflict

    return register
