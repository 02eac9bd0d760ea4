"""The factories near the present directory, and the one that is meant by a name."""

from __future__ import annotations

import contextlib
import difflib
import glob
import os
import time
from dataclasses import dataclass
from typing import Any

from vine_sharedport.errors import NoStatusError, SettingError, SinfulError
from vine_sharedport.factory.report.paths import STATUS, is_running, read_status
from vine_sharedport.factory.report.phase import Phase
from vine_sharedport.factory.report.snapshot import Snapshot
from vine_sharedport.factory.report.staleness import marked_if_stale
from vine_sharedport.factory.report.text import format_age
from vine_sharedport.trusted_files import absolute, working_directory
from vine_sharedport.wire.sinful import Sinful

__all__ = ["Found", "choose", "choose_running", "describe_others", "find_factories"]

_SHOWN = 3

# From the present directory: its own, of the command, of TaskVine's and of Work Queue's runs.
_PATTERNS = (
    STATUS,
    f"*/{STATUS}",
    f"*/*/{STATUS}",
    f"*/*/vine-logs/*/{STATUS}",
    f"work-queue-run-info/*/*/{STATUS}",
    os.path.join("~", "vine_sharedport", "*", STATUS),
)


@dataclass(frozen=True)
class Found:
    """A factory's directory, and what there is to say about it.

    Attributes:
        directory: It, absolute.
        snapshot: What its factory has written last.
        running: Whether a factory runs there; None if it is another user's.
    """

    directory: str
    snapshot: Snapshot
    running: bool | None

    @property
    def name(self) -> str:
        """The first letters of its id; no two have the same."""
        return self.snapshot.factory[:8]

    @property
    def manager(self) -> str:
        """What its manager is called, or else where it is."""
        manager = self.snapshot.manager
        return manager.name or self._sock_id or f"{manager.host}:{manager.port}"

    @property
    def _sock_id(self) -> str | None:
        with contextlib.suppress(SinfulError):
            return Sinful.parse(self.snapshot.manager.address or "").sock
        return None

    @property
    def state(self) -> str:
        """Its state; ``killed`` if its process is gone without having said so."""
        state = self.snapshot.state
        return Phase.KILLED.value if self.running is False and state != "ended" else state

    @property
    def began(self) -> float:
        """When it was started; seconds since 1970."""
        return self.snapshot.started or self.snapshot.time

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return max(0.0, time.time() - self.began)

    def is_called(self, word: str) -> bool:
        """Whether somebody may mean it by this word."""
        return word in (
            self.name,
            self.snapshot.factory,
            self.snapshot.manager.name,
            self._sock_id,
            os.path.basename(self.directory),
        )

    def serves(self, address: str) -> bool:
        """Whether it is the factory of the manager at this address."""
        return self._sock_id is not None and self._sock_id == Sinful.parse(address).sock

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``json.dumps``."""
        found = self.snapshot.as_dict()
        if self.state == Phase.KILLED.value:
            found["phase"] = self.state
        found.update(
            name=self.name,
            state=self.state,
            age=self.age,
            directory=self.directory,
            is_running=bool(self.running),
        )
        return found


def find_factories() -> list[Found]:
    """Return the factories near here: those that run first, and the newest of each first."""
    # TaskVine's link most-recent leads to one of the others.
    paths = {
        os.path.dirname(os.path.realpath(path))
        for pattern in _PATTERNS
        for path in glob.glob(os.path.expanduser(pattern))
    }
    found = []
    for path in paths:
        with contextlib.suppress(NoStatusError):  # something else's status.json
            found.append(_look(path))
    return sorted(found, key=lambda one: (not one.running, -one.began, one.directory))


def _look(directory: str) -> Found:
    # In this order: what is read after the end is the last that it has written.
    running = is_running(directory)
    snapshot = read_status(directory)
    return Found(
        directory, marked_if_stale(snapshot, directory) if running else snapshot, running
    )


def choose(word: str | None) -> list[Found]:
    """Return the factory that is meant, and then the others that could be.

    Args:
        word: Its directory, its name, or its manager's name or sock id; None: any near here.

    Raises:
        NoStatusError: There is none.
    """
    if word is not None and os.path.exists(os.path.join(word, STATUS)):
        return [_look(absolute(word))]
    found = find_factories()
    chosen = found if word is None else [one for one in found if one.is_called(word)]
    if chosen:
        return chosen
    if word is not None and os.path.isdir(word):
        return [_look(absolute(word))]  # which says what is missing there
    here = f"in or below {working_directory()}"
    if word is None or not found:
        what = "no factory" if word is None else f"no factory {word!r}, nor any other,"
        raise NoStatusError(
            f"there is {what} {here}; give the directory that it named when it started"
        )
    near = difflib.get_close_matches(word, {one.manager for one in found}, 1, 0.7)
    raise NoStatusError(
        f"there is no factory {word!r} {here}, and no such directory; "
        + (f"did you mean {near[0]}?" if near else "see 'vine_sharedport factory list'")
    )


def choose_running(word: str | None) -> Found:
    """Return the one factory that is meant, by ``choose``, to be ended.

    Raises:
        NoStatusError: There is none.
        SettingError: Several run.
    """
    found = choose(word)
    running = [one for one in found if one.running]
    if len(running) > 1:
        raise SettingError(
            f"{len(running)} factories run in or below {working_directory()}: "
            + ", ".join(f"{one.name} of {one.manager}" for one in running)
            + f"; name one, as in: vine_sharedport factory stop {running[0].name}"
        )
    return found[0]


def describe_others(others: list[Found]) -> str:
    """Return a line about factories that could be meant as well."""
    named = [
        f"{one.name} of {one.manager} ({one.state}, {format_age(one.age)} old)"
        for one in others[:_SHOWN]
    ]
    if len(others) > _SHOWN:
        named.append(f"and {len(others) - _SHOWN} more")
    return f"Others are here: {', '.join(named)}. See: vine_sharedport factory list"
