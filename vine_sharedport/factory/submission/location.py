"""Where a factory's jobs are, kept in its directory for whoever has to remove them.

What a job would look like cannot be told any more when a file is missing that goes with it, or
the user's configuration is broken; the jobs are there all the same.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from vine_sharedport import records
from vine_sharedport.condor.personal_pool.user import owner
from vine_sharedport.errors import SettingError
from vine_sharedport.factory.report.paths import write_file
from vine_sharedport.factory.submission.destination import Destination
from vine_sharedport.trusted_files import reason_of

__all__ = ["JobLocation"]

_NAME = "place.json"


@dataclass(frozen=True)
class JobLocation:
    """The schedd and the log of a factory's jobs.

    Attributes:
        manager: The manager's sock id, a mark of the jobs.
        where: Whose schedd has them.
        log: Their event log, in the factory's directory; None without one.
        lease: Seconds for which a job that does not run stays without a factory.
        owner: What that schedd calls their owner; None before it has told.
    """

    manager: str
    where: Destination
    log: str | None
    lease: int
    owner: str | None = None

    def write(self, directory: str) -> None:
        """Keep it.

        Raises:
            SettingError: It cannot be written.
        """
        write_file(os.path.join(directory, _NAME), records.encode(self))

    def known_owner(self, directory: str) -> str | None:
        """Return what the schedd calls this user; None where nobody can know it yet.

        Raises:
            SettingError: The user id has no name.
        """
        with contextlib.suppress(SettingError):
            kept = self if self.owner else JobLocation.read(directory)
            if kept and kept.owner and kept.where == self.where:
                return kept.owner
        is_here = self.where.schedd is None and self.where.pool is None
        return owner() if is_here else None

    @staticmethod
    def forget(directory: str) -> None:
        """Forget what was kept: no job is left."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(directory, _NAME))

    @classmethod
    def read(cls, directory: str) -> JobLocation | None:
        """Return what was kept; None if nothing that was submitted can be left.

        Raises:
            SettingError: The file is something else.
        """
        path = os.path.join(directory, _NAME)
        try:
            return records.read(cls, path)
        except FileNotFoundError:
            return None
        except (OSError, SettingError) as error:
            raise SettingError(
                f"cannot read {path}, which says where the factory's jobs are: "
                f"{reason_of(error)}; remove them by condor_rm, then the factory's directory"
            ) from error
