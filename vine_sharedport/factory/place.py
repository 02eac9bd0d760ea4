"""Where a factory's jobs are, kept in its directory for whoever has to remove them.

What a job would look like cannot be told any more when a file is missing that goes with it, or
the user's configuration is broken; the jobs are there all the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from dataclasses import dataclass
from typing import Any

from vine_sharedport.errors import LaunchError
from vine_sharedport.factory.files import write_file
from vine_sharedport.factory.where import Where
from vine_sharedport.link.user_files import reason_of

__all__ = ["Place"]

_NAME = "place.json"
_MAX_SIZE = 64 << 10


@dataclass(frozen=True)
class Place:
    """The schedd and the log of a factory's jobs.

    Attributes:
        manager: The manager's sock id, a mark of the jobs.
        where: Whose schedd has them.
        log: Their event log, in the factory's directory; None without one.
        lease: Seconds for which a job that does not run stays without a factory.
    """

    manager: str
    where: Where
    log: str | None
    lease: int

    def write(self, directory: str) -> None:
        """Keep it.

        Raises:
            LaunchError: It cannot be written.
        """
        text = json.dumps(dataclasses.asdict(self)) + "\n"
        write_file(os.path.join(directory, _NAME), text)

    @staticmethod
    def forget(directory: str) -> None:
        """Forget what was kept: no job is left."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(directory, _NAME))

    @classmethod
    def read(cls, directory: str) -> Place | None:
        """Return what was kept; None if nothing that was submitted can be left.

        Raises:
            LaunchError: The file is something else.
        """
        path = os.path.join(directory, _NAME)
        try:
            with open(path, encoding="utf-8") as file:
                values: Any = json.loads(file.read(_MAX_SIZE))
            return cls(
                str(values["manager"]),
                Where(**values["where"]),
                None if values["log"] is None else str(values["log"]),
                int(values["lease"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, LaunchError) as error:
            raise LaunchError(
                f"cannot read {path}, which says where the factory's jobs are: "
                f"{reason_of(error)}; remove them by condor_rm, then the factory's directory"
            ) from error
