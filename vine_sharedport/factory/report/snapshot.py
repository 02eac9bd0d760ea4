"""A factory's status at one moment, as programs read it and ``status.json`` has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vine_sharedport import records
from vine_sharedport.errors import SettingError
from vine_sharedport.factory.report.record import StatusRecord
from vine_sharedport.factory.report.text import format_html, format_text

__all__ = ["Snapshot"]

# PID_MAX_LIMIT in Linux's include/linux/threads.h.
_MAX_PID = 1 << 22


@dataclass(frozen=True)
class Snapshot(StatusRecord):
    """All that a factory knows at one moment; its attributes are those of ``StatusRecord``."""

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``json.dumps``."""
        return records.as_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Snapshot:
        """Return what ``as_dict`` gave; keys of other versions are left out.

        Raises:
            SettingError: It is something else.
        """
        try:
            made = records.decode(cls, values)
            if not 0 < made.pid <= _MAX_PID:  # to kill() others mean many processes
                raise SettingError(f"pid is {made.pid}")
            return made
        except SettingError as error:
            raise SettingError(f"this is no factory's status: {error}") from error

    def __str__(self) -> str:
        return format_text(self)

    def _repr_html_(self) -> str:
        return format_html(self)
